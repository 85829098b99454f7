r"""Do people keep their ids, and are joints calmer and nearer to the truth? Drawn videos, beside ByteTrack and One-Euro.

usage: keras-regpose train --recipe mobilenetv2_rle_people --preset mobilenetv2_rle_people --dataset synthetic \
           --count 3000 --epochs 3 --learning-rate 5e-4 --output runs/video/run
       keras-regpose evaluate runs/video/run/best --dataset synthetic --count 400 --recalibrated runs/video/preset
       pip install --no-deps trackers==2.6.1 pydeprecate
       python benchmarks/video.py --preset runs/video/preset --work runs/video
"""

import argparse
import dataclasses
import os
from pathlib import Path

import numpy as np
from drawn_video import FRAMES, RATE, SIZE, DrawnVideo, detections, people
from scipy.optimize import linear_sum_assignment

import keras_regpose as rp
from keras_regpose.evaluation.evaluate import predict_samples
from keras_regpose.models.rewrite import unfreeze
from keras_regpose.recipe import Recipe
from keras_regpose.training.recalibrate import recalibrate

TUNED, TESTED = range(100, 108), range(16)
SEEN = 0.3  # the share of a person that is seen, from which on they count


def rendered(work, seed):
    """Writes a video and its truth, where they are not there yet; returns the video's path and the truth."""
    import av

    path = work / f"{seed}.mp4"
    if not path.exists():
        video, rows, boxes = DrawnVideo(seed), [], []
        with av.open(f"{path}.part", "w", format="mp4") as file:
            stream = file.add_stream("libx264", rate=RATE, options={"crf": "17", "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
            for number in range(FRAMES):
                picture, truth = video[number]
                rows.append(truth)
                boxes.append(detections(video, number, truth))
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            file.mux(stream.encode())
        named = {"keypoints": 0, "box": 1, "seen": 2}
        truth = {name: np.array([[one[place] for one in row] for row in rows]) for name, place in named.items()}
        numbers = np.repeat(np.arange(FRAMES), [len(one) for one in boxes])
        np.savez(work / f"{seed}.npz", found=np.column_stack([numbers, np.concatenate(boxes)]), **truth)
        os.replace(f"{path}.part", path)
    with np.load(work / f"{seed}.npz") as file:
        truth = dict(file)
    truth["found"] = [truth["found"][truth["found"][:, 0] == number, 1:] for number in range(FRAMES)]
    return str(path), truth


def trained(work):
    """Returns the export of a preset trained on drawn people, and makes it where it is not there; goes on if stopped."""
    path = work / "preset" / "pose.onnx"
    if not path.exists():
        recipe = Recipe.of("mobilenetv2_rle_people").changed(epochs=8, batch_size=16)
        recipe = dataclasses.replace(recipe, learning_rate=5e-4, average_decay=0.98, frozen_stages=2, warmup=50)
        learned = people(work / "people", range(1000, 1070), 8)
        model = rp.from_preset("mobilenetv2_rle_people")
        unfreeze(model)
        rp.training.train(model, learned, output=work / "run", recipe=recipe, resume=True, checkpoint_minutes=2)
        others = people(work / "people", range(1100, 1120), 8)
        recalibrate(model, *predict_samples(model, others), others)
        model.save_to_preset(work / "preset" / "keras")
        model.export(path)
    return rp.load_exported(path)


def intersections(boxes, others):
    """Returns the (N, M) intersections over unions."""
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = (high - low).clip(0).prod(-1)
    areas, their = ((some[:, 2:] - some[:, :2]).prod(-1) for some in (boxes, others))
    return shared / np.maximum(areas[:, None] + their - shared, 1e-9)


def matched(truth, tracked):
    """Matches people to the truth as CLEAR MOT does: who was matched stays so; returns what is counted.

    Args:
        truth: see `rendered`.
        tracked: list of (boxes, ids) for each frame.

    Returns:
        Switches of ids, IDF1, and for each frame {true person: place in the frame} of those who are seen well.
    """
    last, switches, places = {}, 0, []
    together, true_count, told_count = {}, 0, 0
    for number, (boxes, ids) in enumerate(tracked):
        seen = truth["seen"][number] >= SEEN
        overlaps = intersections(truth["box"][number], np.reshape(boxes, (-1, 4)).astype(float))
        possible = overlaps >= 0.5
        bonus = np.array([[last.get(person) == one for one in ids] for person in range(len(seen))])
        scores = np.where(possible, overlaps + 10 * bonus.reshape(overlaps.shape), -1e3)
        pairs = [pair for pair in zip(*linear_sum_assignment(-scores), strict=True) if possible[pair]]
        for person, place in zip(*np.nonzero(possible & seen[:, None]), strict=True):
            key = person, ids[place]
            together[key] = together.get(key, 0) + 1
        true_count += seen.sum()
        told_count += len(ids) - sum(not seen[person] for person, _ in pairs)
        places.append({person: place for person, place in pairs if seen[person]})
        for person, place in places[-1].items():
            switches += person in last and last[person] != ids[place]
            last[person] = ids[place]
    people, names = ({key[n]: None for key in together} for n in (0, 1))
    people, names = list(people), list(names)
    table = np.array([[together.get((person, name), 0) for name in names] for person in people]).reshape(
        len(people), len(names)
    )
    right = table[linear_sum_assignment(-table)].sum()
    return switches, 2 * right / max(true_count + told_count, 1), places


def byte_track(found):
    """Returns (boxes, ids) of each frame by ByteTrack with its defaults; who has no id yet is left out, as it does."""
    import supervision
    from trackers import ByteTrackTracker

    tracker, results = ByteTrackTracker(frame_rate=RATE), []
    for rows in found:
        told = tracker.update(supervision.Detections(rows[:, :4].astype(float), confidence=rows[:, 4]))
        known = told.tracker_id >= 0
        results.append((told.xyxy[known], told.tracker_id[known].tolist()))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    options.work.mkdir(exist_ok=True, parents=True)
    for seed in (*TUNED, *TESTED):
        rendered(options.work, seed)
        print(seed, flush=True)
