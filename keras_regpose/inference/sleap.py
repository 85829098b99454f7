"""Poses as predictions of SLEAP, from which the tools that read its files go on."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from keras_regpose.inference.poses import Poses
from keras_regpose.optional import import_optional

if TYPE_CHECKING:
    import sleap_io


def to_sleap(results: Poses | Iterable[Poses]) -> "sleap_io.Labels":
    """Returns poses as `sleap_io.Labels`, whose `save` writes SLEAP's .slp, NWB and others.

    People are predicted instances with the scores of their keypoints, of which the mean is their own. Ids are tracks.
    A video is one of SLEAP's, all pictures together are another. SLEAP has no place for σ.

    Args:
        results: `Poses`, a list of them, or the iterator that `estimate` returns for folders and videos.

    Raises:
        ValueError: If poses have no source.
        ImportError: If sleap-io is not installed.

    Example:

    >>> from keras_regpose.skeleton import Skeleton
    >>> arm = Skeleton("arm", ("elbow", "wrist"), edges=(("elbow", "wrist"),))
    >>> poses = Poses([[[3, 4], [5, 6]]], [[0.5, 1]], [[0, 0, 9, 9]], [1], arm, source="a.mp4", frame=7, ids=[2])
    >>> labels = to_sleap(poses)
    >>> labels[0].frame_idx, labels[0].instances[0].numpy().tolist(), labels.tracks[0].name
    (7, [[3.0, 4.0], [5.0, 6.0]], '2')
    """
    sleap_io = import_optional("sleap_io", "SLEAP's format", "keras-regpose[formats]")
    skeletons, videos, tracks, frames = {}, {}, {}, []
    for poses in [results] if isinstance(results, Poses) else results:
        if poses.source is None:
            raise ValueError("SLEAP's files name pictures and videos: estimate from a file, or set poses.source")
        known = poses.skeleton
        if known not in skeletons:
            pairs, edges = list(known.flip_pairs), list(known.edges)
            skeletons[known] = sleap_io.Skeleton(list(known.keypoints), edges, pairs, name=known.name)
        key, size = None if poses.frame is None else poses.source, poses.image_size or (0, 0)
        if key not in videos:
            # Not opened: it may be a camera, or lie elsewhere by the time the file is read.
            videos[key] = sleap_io.Video([] if key is None else key, open_backend=False)
        video, number = videos[key], poses.frame
        if number is None:
            number = len(video.filename)
            video.filename.append(os.path.abspath(poses.source))
            video.backend_metadata |= {"filename": video.filename[0], "filenames": video.filename}
        video.backend_metadata["shape"] = (number + 1, *size, 3)
        ids = [] if poses.ids is None else poses.ids.tolist()
        who = [tracks.setdefault(one, sleap_io.Track(str(one))) for one in ids] or [None] * len(poses)
        people = [
            sleap_io.PredictedInstance.from_numpy(points, skeletons[known], *others)
            for points, *others in zip(poses.keypoints, poses.scores, poses.scores.mean(1), who, strict=True)
        ]
        frames.append(sleap_io.LabeledFrame(video, number, people))
    kinds = {"videos": videos, "skeletons": skeletons, "tracks": tracks}
    return sleap_io.Labels(frames, **{name: list(kind.values()) for name, kind in kinds.items()})
