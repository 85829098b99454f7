"""Drawn people with exact keypoints: training and testing without a single photograph.

Every picture is a function of (seed, number of the image) and is drawn when it is asked for. Left and right are told
apart as in photographs, by what is seen of face, hair, neckline and feet: no side has a colour of its own,
because mirroring (the commonest augmentation) would contradict such a code.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from keras_regpose.data.coco_writer import coco_annotation, coco_category
from keras_regpose.data.people import People
from keras_regpose.data.records import estimated_area
from keras_regpose.data.sample import Sample
from keras_regpose.drawn.person import random_person, rotation
from keras_regpose.drawn.picture import draw_background, draw_occluders, photograph
from keras_regpose.skeleton import COCO17, MPII16, Skeleton

_SHIFT = 4  # OpenCV takes coordinates in fixed point: this many bits after the point
_ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)
_CLOSE_UPS = 0.15


class Synthetic(People):
    """Drawn people with known joints on varied backgrounds.

    Bodies are three-dimensional, with random proportions, joint angles within human limits, clothes, light and
    camera; most stand, stride or sit upright, some lean or lie, some are cut off by the image's border or partly
    covered. Joints outside the image are not labelled; covered ones are (`annotations` tells them apart as COCO does:
    v=1 covered, v=2 seen, with the face of a person seen from behind being covered).

    Args:
        count: int. Number of samples, that is of people.
        seed: int. Equal seeds give equal samples, however many are asked for.
        image_size: (height, width) of the pictures.
        people_per_image: int. Each picture shows one to this many people; each of them is a sample.
        skeleton: `Skeleton`. Its keypoints must be among those of COCO17, MPII16 and LSP14.

    Raises:
        ValueError: If a number is out of range or the skeleton has keypoints that cannot be drawn.

    Example:

    >>> samples = Synthetic(10, seed=1)
    >>> samples[0].image.shape, samples[0].keypoints.shape, len(samples)
    ((256, 320, 3), (17, 2), 10)
    """

    def __init__(
        self,
        count: int,
        seed: int = 0,
        image_size: tuple[int, int] = (256, 320),
        people_per_image: int = 2,
        skeleton: Skeleton = COCO17,
    ):
        if count < 0 or seed < 0 or people_per_image < 1:
            given = f"count={count}, seed={seed}, people_per_image={people_per_image}"
            raise ValueError(f"Synthetic needs count ≥ 0, seed ≥ 0 and people_per_image ≥ 1. Received: {given}")
        if len(image_size) != 2 or min(image_size) < 32:
            raise ValueError(f"image_size must be (height, width) of at least 32 pixels each. Received: {image_size}")
        known = random_person(np.random.default_rng(0))[0]
        unknown = [name for name in skeleton.keypoints if name not in known]
        if unknown:
            raise ValueError(f"Synthetic cannot draw the keypoints {', '.join(unknown)}. It knows: {', '.join(known)}")
        super().__init__(range(count), skeleton)
        height, width = image_size
        self.seed, self.image_size = seed, (height, width)
        self._group_sizes = np.random.default_rng(seed).integers(1, people_per_image + 1, size=count)
        self._numbers = np.repeat(np.arange(count), self._group_sizes)[:count]  # of the image of each

    def field(self, name: str) -> Sequence:
        return super().field(name) if name == "image" else self._undrawn.field(name)

    @property
    def photographs(self) -> np.ndarray:
        return self._numbers

    @cached_property
    def _undrawn(self):
        return People([self._sample(index, drawn=False) for index in range(len(self))], self.skeleton)

    def _sample(self, index, drawn=True):
        """Returns a sample, without its picture unless it is to be drawn."""
        number, place = self._locate(index)
        figure, image = self._figures(number)[place], self._draw(number).copy() if drawn else ""
        visible, area = figure.inside.astype(np.float32), estimated_area(figure.box)
        head = figure.head_size if self.skeleton.name == MPII16.name else None
        return Sample(image, figure.box, figure.keypoints, visible, number + 1, index + 1, area, head_size=head)

    @cached_property
    def annotations(self) -> dict:
        """The samples as a COCO keypoint file: images, annotations, categories. Made at first use."""
        height, width = self.image_size
        images, annotations = [], []
        for index, sample in enumerate(self._undrawn):
            number, place = self._locate(index)
            if place == 0:
                covered = self._covered(number)
                name = f"synthetic_{self.seed}_{number + 1:06d}.png"
                images.append({"id": number + 1, "file_name": name, "height": height, "width": width})
            flags = np.where(sample.visible > 0, np.where(covered[place], 1, 2), 0)
            annotations.append(coco_annotation(sample, flags))
        return {"images": images, "annotations": annotations, "categories": [coco_category(self.skeleton)]}

    def _locate(self, index):
        """Returns the number of the image in which a sample stands, and its place among that image's people."""
        number = int(self._numbers[index])
        return number, index - int(np.searchsorted(self._numbers, number))

    @lru_cache(maxsize=2)  # noqa: B019 -- two pictures may outlive their people
    def _figures(self, number):
        """Returns the people of a picture, the farthest first, as they are drawn."""
        generator = np.random.default_rng((self.seed, number, 0))
        count = int(self._group_sizes[number])
        figures = [_place_person(generator, self.image_size, self.skeleton, slot, count) for slot in range(count)]
        return sorted(figures, key=lambda figure: figure.scale)

    def _shapes(self, number):
        """Returns all outlines of a picture in the order in which they are drawn, those in front of people last."""
        figures = self._figures(number)
        shapes = [(place, shape) for place, figure in enumerate(figures) for shape in figure.shapes]
        generator = np.random.default_rng((self.seed, number, 1))
        occluders = draw_occluders(generator, [figure.box for figure in figures])
        return shapes + [(None, _Shape(_fixed(outline), color)) for outline, color in occluders]

    @lru_cache(maxsize=2)  # noqa: B019
    def _draw(self, number):
        generator = np.random.default_rng((self.seed, number, 2))
        image = draw_background(generator, self.image_size)
        for _, shape in self._shapes(number):
            cv2.fillConvexPoly(image, shape.outline, shape.color, cv2.LINE_AA, _SHIFT)
        return photograph(generator, image)

    def _covered(self, number):
        """Returns one (K,) bool array per person: which joints are behind something."""
        height, width = self.image_size
        figures, own = self._figures(number), {}
        # Each shape leaves its number at its pixels; a joint is covered where one drawn after its own did so.
        numbers = np.zeros((height, width), np.int32)
        for drawn, (place, shape) in enumerate(self._shapes(number), start=1):
            cv2.fillConvexPoly(numbers, shape.outline, drawn, shift=_SHIFT)
            own.update(((place, name), drawn) for name in shape.joints)
        covered = []
        for place, figure in enumerate(figures):
            x, y = figure.keypoints.round().astype(int).T
            at_joint = numbers[y.clip(0, height - 1), x.clip(0, width - 1)]
            covered.append(at_joint > [own.get((place, name), 0) for name in self.skeleton.keypoints])
        return covered


class _Shape(NamedTuple):
    """A convex outline, (P, 1, 2) points in OpenCV's fixed point, its colour, and the joints that lie inside."""

    outline: np.ndarray
    color: tuple[float, ...]
    joints: tuple[str, ...] = ()


class _Figure(NamedTuple):
    """A person in the picture."""

    keypoints: np.ndarray
    inside: np.ndarray
    box: np.ndarray
    head_size: float
    scale: float
    shapes: list[_Shape]


def _place_person(generator, image_size, skeleton, slot, count):
    """Draws a person and puts them before the camera, in one of `count` slots from left to right."""
    height, width = image_size
    joints, parts = random_person(generator)
    turn, tilt, distance = _camera(generator)
    points = np.concatenate([part.centers for part in parts] + [list(joints.values())]) @ turn.T
    # What hides what is decided at eye level: seen from above, a head would be nearer than all that it is behind.
    depths = points[:, 2]
    points = points @ tilt.T
    zoom = distance / (distance - points[:, 2])
    flat = points[:, :2] * zoom[:, None] * [1, -1]
    radii = np.concatenate([part.radii for part in parts])
    spheres = len(radii)
    radii = radii * zoom[:spheres]
    low, high = (flat[:spheres] - radii[:, None]).min(0), (flat[:spheres] + radii[:, None]).max(0)

    room = np.array([width if count == 1 else 1.3 * width / count, height])
    scale = (room / (high - low)).min() * generator.triangular(0.5, 0.9, 1.1)
    middle = (low + high) / 2
    if count == 1 and generator.random() < _CLOSE_UPS:
        scale *= generator.uniform(1.3, 1.9)
        middle = flat[spheres + list(joints).index("thorax")]
    free = np.maximum(room - scale * (high - low), 0) / 2 + 0.06 * room
    target = np.array([(slot + 0.5) / count * width, height / 2]) + generator.uniform(-free, free)
    offset = target - scale * middle
    flat, radii = flat * scale + offset, radii * scale

    positions = dict(zip(joints, flat[spheres:], strict=True))
    keypoints = np.array([positions[name] for name in skeleton.keypoints], np.float32)
    box = np.concatenate([low * scale + offset, high * scale + offset]).clip(0, [width, height] * 2)
    # MPII's head box reaches from the upper neck to the top of the head; its normaliser is 0.6 of the diagonal.
    head_size = 0.6 * 1.25 * float(np.linalg.norm(positions["head_top"] - positions["upper_neck"]))
    inside = np.all((keypoints >= 0) & (keypoints <= [width - 1, height - 1]), axis=-1)
    shapes = _draw_order(parts, tilt @ turn, flat[:spheres], radii, depths, joints)
    return _Figure(keypoints, inside, box.astype(np.float32), head_size, scale, shapes)


def _draw_order(parts, camera, centers, radii, depths, joints):
    """Returns the outlines of the parts that face the camera, the farthest first."""
    ends = np.cumsum([len(part.radii) for part in parts])
    circles = np.split(_fixed(centers[:, None] + radii[:, None, None] * _CIRCLE), ends[:-1])
    part_depths = [spheres.mean() for spheres in np.split(depths, ends)[:-1]]
    joint_depths = dict(zip(joints, depths[ends[-1] :].tolist(), strict=True))
    drawn = []
    facing = [i for i, part in enumerate(parts) if part.normal is None or camera[2] @ part.normal > 0.08]
    # What lies on a part has that part's place in the order, behind it.
    for _, i in sorted((part_depths[i if parts[i].base is None else parts[i].base], i) for i in facing):
        part, depth = parts[i], part_depths[i]
        own = part.joints if part.base is None else part.joints + parts[part.base].joints
        # A joint at the far side of a part is hidden by that part, as the far shoulder is in profile.
        names = tuple(name for name in own if joint_depths[name] > depth - 0.06)
        color = part.color * min(max(0.95 + 0.6 * depth, 0.7), 1.1)  # the far side lies in shadow
        drawn.append(_Shape(cv2.convexHull(circles[i].reshape(-1, 2)), tuple(color.tolist()), names))
    return drawn


def _camera(generator):
    """Returns how the body turns about its own axis, then tilts before the camera (to which z points), and how far
    away in statures it is."""
    yaw = generator.normal((0, 0, 180, 90)[generator.integers(4)], 35)
    roll = generator.normal((0, 0, 0, 0, 0, 0, 90, -90)[generator.integers(8)], 12)
    pitch = generator.normal(6, 9)
    return rotation("y", yaw), rotation("z", roll) @ rotation("x", pitch), generator.uniform(2.5, 6)


def _fixed(points):
    """Returns points in OpenCV's fixed point."""
    return np.round(points * (1 << _SHIFT)).astype(np.int32)
