"""What an annotation file holds, and which of its labels look wrong: one HTML file, its numbers as JSON, a CSV."""

import base64
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from keras_regpose import geometry
from keras_regpose.data.augment import Augmentation
from keras_regpose.data.crops import CropLoader
from keras_regpose.data.people import People, Subset
from keras_regpose.files import MADE_BY, csv_text, read_json, spare, write_whole
from keras_regpose.hub.card import render
from keras_regpose.images import ImageError, read_image
from keras_regpose.inference.draw import draw_poses
from keras_regpose.inspection.judgement import LabelJudgement

_SHOWN = 100  # entries of a list in the report; the counts are of all of them
REPORT = ("report.html", "report.json", "labels.csv")
_COLUMNS = ("picture", "annotation_id", "keypoint", "x", "y", "expected_x", "expected_y", "score", "kind")


def describe(people: People) -> dict:
    """Counts what a data set holds, and what looks wrong from its labels alone. No picture is opened.

    Args:
        people: `People`. Those of a COCO file are compared with what stands in the file.

    Returns:
        dict of JSON-ready values: `people`, `pictures`, `keypoints` (for each the number of people for whom it is
        labelled, and where the file says so covered or seen), `sizes` of the people in pixels, `left_out`, and
        lists of what looks wrong: `missing_pictures`, `repeated_ids`, `repeated_boxes`, `outside_picture`,
        `outside_box`, `exchanged_coordinates`, `normalised_coordinates`, `crossed_sides`.

    Example:

    >>> import keras_regpose as rp
    >>> numbers = describe(rp.data.Synthetic(20, seed=0))
    >>> numbers["people"], numbers["keypoints"]["nose"]["labelled"] <= 20
    (20, True)
    """
    contents = people.annotations
    contents = read_json(contents) if isinstance(contents, str | os.PathLike) else contents or {}
    points, visible, boxes = (np.array(people.field(name)) for name in ("keypoints", "visible", "box"))
    ids, labelled, images = people.field("id"), visible > 0, people.field("image")
    corners = np.stack([boxes[:, :2], boxes[:, 2:]], 1)
    size = np.sqrt(np.prod(corners[:, 1] - corners[:, 0], axis=-1, dtype=np.float64))
    records = [one for one in contents.get("annotations") or () if isinstance(one, dict)]

    def named(which):
        chosen = np.flatnonzero(which).tolist()
        return {"count": len(chosen), "annotation_ids": [int(ids[i]) for i in chosen[:_SHOWN]]}

    def repeated(values):
        again = [value for value, count in Counter(map(repr, values)).items() if count > 1]
        return {"count": len(again), "first": again[:_SHOWN]}

    def out_of(low, high, where):
        return labelled & ((where < low[:, None]) | (where > high[:, None])).any(-1)

    margin = 0.1 * (corners[:, 1] - corners[:, 0])
    outside = out_of(corners[:, 0] - margin, corners[:, 1] + margin, points)
    exchanged = out_of(corners[:, 0] - margin, corners[:, 1] + margin, points[..., ::-1])
    sides = np.array([size or (np.inf, np.inf) for size in people.field("image_size")], float)
    most, count = labelled.sum(1) / 2, len(people)
    missing = dict.fromkeys(one for one in images if isinstance(one, str) and one and not os.path.isfile(one))
    left_out: dict = {"count": len(people.skipped), "crowds": sum(bool(one.get("iscrowd")) for one in records)}
    left_out["why"] = dict(Counter(why for _, why in people.skipped).most_common(_SHOWN))
    left_out["without_keypoints"] = sum(not any(_flags(one)) for one in records)
    return {
        "people": count,
        "pictures": len(set(people.field("image_id"))),
        "keypoints": _keypoint_counts(people, labelled, records, contents),
        "sizes": {f"percentile_{share}": round(float(np.percentile(size, share)), 1) for share in (5, 25, 50, 75, 95)}
        | {"under_32": int((size < 32).sum()), "over_96": int((size > 96).sum())},
        "left_out": left_out,
        "missing_pictures": {"count": len(missing), "first": list(missing)[:_SHOWN]},
        "repeated_ids": repeated(one.get("id") for one in records),
        "repeated_boxes": repeated((one.get("image_id"), one["bbox"]) for one in records if one.get("bbox")),
        "outside_picture": named(out_of(np.zeros_like(sides), sides, points).any(1)),
        "outside_box": named(outside.any(1)),
        "exchanged_coordinates": named((outside.sum(1) > most) & (exchanged.sum(1) == 0)),
        "normalised_coordinates": named(np.abs(np.where(labelled[..., None], points, 0)).max((1, 2)) <= 1.5),
        "crossed_sides": named(crossed_sides(points, visible, people.skeleton)),
    }


def crossed_sides(keypoints: np.ndarray, visible: np.ndarray, skeleton) -> np.ndarray:
    """Returns for which people (N, K, 2) the torso or a limb of one side crosses that of the other side.

    Where a pair of keypoints is named the wrong way round, the lines that join them to the next pair cross. So do
    crossed legs and folded arms: it is a hint.
    """
    mirror, edges = skeleton.flip_permutation, skeleton.edge_indices
    found = np.zeros(len(keypoints), bool)

    def turn(a, b, c):
        (bx, by), (cx, cy) = ((keypoints[:, one] - keypoints[:, a]).T for one in (b, c))
        return np.sign(bx * cy - by * cx)

    for a, b in edges:
        c, d = mirror[a], mirror[b]
        if len({a, b, c, d}) == 4 and a < c:
            apart = turn(a, b, c) * turn(a, b, d), turn(c, d, a) * turn(c, d, b)
            found |= (apart[0] < 0) & (apart[1] < 0) & (visible[:, [a, b, c, d]] > 0).all(1)
    return found


def _keypoint_counts(people, labelled, records, contents):
    counts = {name: Counter(labelled=int(labelled[:, k].sum())) for k, name in enumerate(people.skeleton.keypoints)}
    entries = [one for one in contents.get("categories") or () if isinstance(one, dict)]
    names, flags = {str(one.get("id")): one.get("keypoints") for one in entries}, {}
    for one in records:
        flags.setdefault(str(one.get("category_id")), []).append(_flags(one))
    for category, rows in flags.items():
        known = names.get(category) or people.skeleton.keypoints
        rows = [row for row in rows if len(row) == len(known)]
        for name, column in zip(known, zip(*rows, strict=True), strict=False):
            if name in counts:
                counts[name].update(covered=column.count(1), seen=column.count(2))
    return {name: dict(found) for name, found in counts.items()}


def _flags(record):
    """Returns the numbers that say whether each keypoint of an annotation is unlabelled, covered or seen."""
    return points[2::3] if isinstance(points := record.get("keypoints"), list) else []


def write_report(
    people: People,
    output: str | os.PathLike,
    judgement: LabelJudgement | None = None,
    input_size: tuple[int, int] = (256, 192),
    crops: int = 24,
    suspects: int = 100,
    title: str = "",
    overwrite: bool = False,
) -> dict:
    """Writes `report.html`, which opens offline, its numbers as `report.json`, and suspicious labels as `labels.csv`.

    Args:
        people: `People`.
        output: str or path. The folder to write into.
        judgement: `LabelJudgement` of these people, or None for a report without one.
        input_size: (height, width) of the crops to show.
        crops: int. Number of crops to show as a network sees them, plain and augmented.
        suspects: int. Number of the least likely people to show, and to list in `labels.csv`.
        title: str. Shown above the report.
        overwrite: bool. Whether files of these names may be replaced that this package did not write.

    Returns:
        What `describe` returns, with the most suspicious people as `suspects` where there is a judgement.

    Example:

    >>> import keras_regpose as rp
    >>> numbers = write_report(rp.data.Synthetic(4, seed=0), "report", crops=2)
    >>> sorted(os.listdir("report"))
    ['report.html', 'report.json']
    """
    output, numbers = Path(output), describe(people)
    spare(*(output / name for name in REPORT), overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    shown = Subset(people, np.unique(np.linspace(0, len(people) - 1, min(crops, len(people))).astype(int)))
    plain, changed = (_sheet(shown, input_size, augmentation) for augmentation in (None, Augmentation()))
    sheets = {"As the network sees them": plain, "As training may change them": changed}
    pictures = []
    if judgement is not None:
        numbers["suspects"] = rows = judgement.suspects(people, suspects)
        pictures = [_pair(people[row["position"]], row, people.skeleton) for row in rows]
        lines: list[Sequence] = [_COLUMNS]
        for row in rows:
            for keypoint in row["keypoints"]:
                k = people.skeleton.index(keypoint)
                places = (*people[row["position"]].keypoints[k].tolist(), *row["expected"][k])
                numbers_of = [round(float(place), 1) for place in places]
                lines.append((row["picture"], row["annotation_id"], keypoint, *numbers_of, row["score"], row["kind"]))
        write_whole(output / "labels.csv", csv_text(lines))
    write_whole(output / "report.json", json.dumps({"made_by": MADE_BY} | numbers, indent=1, ensure_ascii=False) + "\n")
    template = Path(__file__).with_name("report.html")
    html = render(template, title=title, numbers=numbers, sheets=sheets, pictures=pictures)
    write_whole(output / "report.html", html)
    return numbers


def _sheet(people, input_size, augmentation) -> list[str]:
    """Returns crops with their labels drawn, as addresses that hold the picture itself."""
    loader, pictures = CropLoader(people, people.skeleton, input_size, augmentation, max_unreadable_share=1.0), []
    for index in range(len(people)):
        try:
            crop, target = loader.load(0, index)
        except ImageError:
            break  # there is none that can be read
        points = np.where(target[:, 2:] > 0, target[:, :2] * input_size[::-1], np.nan)
        pictures.append(_inlined(draw_poses(crop, points[None], skeleton=people.skeleton)))
    return pictures


def _pair(sample, row, skeleton):
    """Returns a picture of a person as labelled, beside it as expected; nothing where the picture cannot be read."""
    try:
        cut = geometry.cut(read_image(sample.image), sample.box, (256, 256), padding=1.5)
    except ImageError:
        return ""
    drawn = []
    for points in (sample.keypoints, np.array(row["expected"])):
        points = np.where(sample.visible[:, None] > 0, geometry.transform_points(points, cut.matrix), np.nan)
        drawn.append(draw_poses(cut.crop, points[None], skeleton=skeleton))
    return _inlined(np.concatenate(drawn, 1))


def _inlined(picture):
    data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
