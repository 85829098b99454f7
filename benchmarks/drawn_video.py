"""Drawn videos with known truth: two to five people who walk, cross, leave the picture and come back. Used by video.py.

A person has a body of its own, with clothes, and walks by a gait of sines. All is a function of (seed, frame).
"""

import dataclasses
from functools import cached_property

import cv2
import numpy as np

from keras_regpose import COCO17
from keras_regpose.data import People, Sample
from keras_regpose.drawn.people import _SHIFT, _draw_order
from keras_regpose.drawn.person import _add_arm, _add_leg, _dress, rotation
from keras_regpose.drawn.picture import draw_background, photograph
from keras_regpose.images import save_picture

RATE, SIZE, FRAMES = 30, (480, 640), 150
_NAMES = ("leg", "arm", "trunk", "shoulders", "hips", "girth", "head")


@dataclasses.dataclass(eq=False)
class Walker:
    """Somebody who walks between places, from one to the next at a constant speed but for a smooth turn.

    Args:
        seed: int. Of body, clothes and gait.
        height: float. In pixels.
        feet: float. Row of the picture at which they stand.
        stops: list of (time, x). Where they are, in seconds and pixels; in between they walk straight.
    """

    seed: int
    height: float
    feet: float
    stops: list

    def __post_init__(self):
        generator = np.random.default_rng((7, self.seed))
        low, high = (0.9, 0.92, 0.92, 0.85, 0.85, 0.85, 0.95), (1.1, 1.08, 1.08, 1.15, 1.15, 1.3, 1.25)
        self.body = dict(zip(_NAMES, generator.uniform(low, high), strict=True))
        self.stride, self.swing, self.lean = generator.uniform((20, 15, 0), (34, 40, 8))
        self.pace, self.phase, self.turned = generator.uniform((0.9, 0, -25), (1.15, 6.28, 25))
        self.times, self.places = np.array(self.stops, float).T

    def position(self, time):
        """Returns x and its change in a second, smoothed over a fifth of one."""
        around = np.interp(time + np.linspace(-0.1, 0.1, 9), self.times, self.places)
        return around.mean(), (around[-1] - around[0]) / 0.2

    @cached_property
    def _way(self):
        times = np.arange(0, self.times[-1] + 1, 1 / 60)
        places = np.array([self.position(time)[0] for time in times])
        return times, np.concatenate([[0], np.abs(np.diff(places)).cumsum()])

    def drawn(self, time):
        """Returns the (17, 2) keypoints in the picture, and the outlines in the order in which they are drawn."""
        x, speed = self.position(time)
        # A step of two is 0.85 of the height long.
        phase = self.phase + 2 * np.pi * self.pace * np.interp(time, *self._way) / (0.85 * self.height)
        moving = min(abs(speed) / (0.3 * self.height), 1)
        facing = 90 * np.tanh(speed / (0.3 * self.height)) + self.turned
        joints, frames = self._pose(phase, moving, time)
        parts = _dress(np.random.default_rng((8, self.seed)), joints, frames, self.body)
        turn, tilt, distance = rotation("y", facing), rotation("x", 5), 5.0
        points = np.concatenate([part.centers for part in parts] + [list(joints.values())]) @ turn.T
        depths = points[:, 2]
        points = points @ tilt.T
        zoom = distance / (distance - points[:, 2])
        flat = points[:, :2] * zoom[:, None] * [1, -1]
        radii = np.concatenate([part.radii for part in parts]) * zoom[: sum(len(part.radii) for part in parts)]
        spheres = len(radii)
        lowest = (flat[:spheres, 1] + radii).max()
        offset = np.array([x, self.feet]) - np.array([0, lowest]) * self.height
        flat, radii = flat * self.height + offset, radii * self.height
        shapes = _draw_order(parts, tilt @ turn, flat[:spheres], radii, depths, joints)
        positions = dict(zip(joints, flat[spheres:], strict=True))
        low, high = (flat[:spheres] - radii[:, None]).min(0), (flat[:spheres] + radii[:, None]).max(0)
        return np.array([positions[name] for name in COCO17.keypoints]), np.concatenate([low, high]), shapes

    def _pose(self, phase, moving, time):
        size, swing = self.body, np.sin(phase) * moving
        chest = rotation("x", self.lean * moving) @ rotation("y", 8 * swing)
        head = chest @ rotation("y", 12 * np.sin(time + self.phase)) @ rotation("x", -self.lean)
        pelvis, waist = np.zeros(3), np.array([0, 0.12 * size["trunk"], 0])
        thorax = waist + chest @ [0, 0.17 * size["trunk"], 0]
        neck = thorax + chest @ [0, 0.035, 0.004]
        skull = neck + chest @ [0, 0.045, 0.01] + head @ [0, 0.05 * size["head"], 0.012]
        joints = {"pelvis": pelvis, "waist": waist, "thorax": thorax, "upper_neck": neck, "neck": thorax}
        joints["skull"] = skull
        for name, place in (("nose", (0, -0.014, 0.064)), ("head_top", (0, 0.07, 0))):
            joints[name] = skull + head @ (np.array(place) * size["head"])
        for name, side in (("left", 1), ("right", -1)):
            for part, place in (("eye", (0.021 * side, 0.01, 0.052)), ("ear", (0.05 * side, -0.002, -0.004))):
                joints[f"{name}_{part}"] = skull + head @ (np.array(place) * size["head"])
            ahead = side * swing
            bent = 20 + 15 * moving * (1 - ahead)
            arm = (8 + self.swing * abs(ahead), 90 if ahead < 0 else -90, 0, bent)
            _add_arm(joints, name, side, chest, arm, size)
            lifted = max(0.0, side * np.cos(phase)) * moving
            _add_leg(joints, name, side, (self.stride * ahead + 12 * lifted, 3, 6 + 45 * lifted), 6, size)
        return joints, {"chest": chest, "head": head}


class DrawnVideo:
    """A video of `FRAMES` frames of `SIZE`, with truth.

    Args:
        seed: int.
        people: int or None. How many; None is two to five.
    """

    def __init__(self, seed, people=None):
        self.seed, generator = seed, np.random.default_rng((6, seed))
        count = people or int(generator.integers(2, 6))
        self.background = draw_background(np.random.default_rng((5, seed)), SIZE)
        width, length = SIZE[1], FRAMES / RATE
        walkers = []
        for number in range(count):
            height = generator.uniform(170, 330)
            feet = SIZE[0] * 0.62 + 0.5 * height + generator.uniform(-5, 5)
            speed, time = height * generator.uniform(0.45, 0.9), 0.0
            x = generator.uniform(0.05, 0.95) * width
            goal = width if x < width / 2 else 0
            stops = [(time, x)]
            # The first two meet, the third leaves and comes back; others do as it falls.
            leaves = number == 2 or (number != 0 and generator.random() < 0.35)
            while time < length + 1:
                if leaves and 0.15 * width < x < 0.85 * width:
                    target = goal + np.sign(goal - 1) * height * generator.uniform(0.22, 0.3)
                    goal, leaves = width - goal, generator.random() < 0.5
                else:
                    target = np.clip(goal + generator.uniform(-0.4, 0.15) * width * np.sign(goal - 1), 20, width - 20)
                    goal = width - goal
                time, x = time + max(abs(target - x) / speed, 0.1), target
                stops.append((time, x))
                if 0 < x < width and generator.random() < 0.3:
                    time += generator.uniform(0.3, 1)
                    stops.append((time, x))
            walkers.append(Walker(seed * 10 + number, height, feet, stops))
        self.walkers = sorted(walkers, key=lambda one: one.feet)

    def __len__(self):
        return FRAMES

    def __getitem__(self, number):
        """Returns the (H, W, 3) picture, and of each person keypoints, box in the picture, and the share seen."""
        picture, who = self.background.copy(), np.zeros(SIZE, np.uint8)
        truth, areas = [], []
        for place, walker in enumerate(self.walkers, 1):
            keypoints, box, shapes = walker.drawn(number / RATE)
            alone = np.zeros(SIZE, np.uint8)
            for shape in shapes:
                cv2.fillConvexPoly(picture, shape.outline, shape.color, cv2.LINE_AA, _SHIFT)
                cv2.fillConvexPoly(who, shape.outline, place, shift=_SHIFT)
                cv2.fillConvexPoly(alone, shape.outline, 1, shift=_SHIFT)
            inside = box.clip(0, [SIZE[1], SIZE[0]] * 2)
            sides = inside[2:] - inside[:2]
            share_inside = max(sides.prod(), 0) / (box[2:] - box[:2]).prod() if (sides > 2).all() else 0
            areas.append(max(np.count_nonzero(alone), 1) / max(share_inside, 1e-6))
            truth.append((keypoints, inside))
        seen = [np.count_nonzero(who == place) / area for place, area in enumerate(areas, 1)]
        picture = photograph(np.random.default_rng((4, self.seed)), picture)
        noise = np.random.default_rng((3, self.seed, number)).normal(0, 5, picture.shape)
        picture = (picture + noise).clip(0, 255).astype(np.uint8)
        return picture, [(*one, share) for one, share in zip(truth, seen, strict=True)]


def detections(video, number, truth):
    """Returns the (N, 5) boxes that a detector might give: shaken, of those who are seen, some missing, some false."""
    generator = np.random.default_rng((2, video.seed, number))
    rows = []
    for _, box, share in truth:
        shaken = box + generator.normal(0, 0.02, 4) * np.tile(box[2:] - box[:2], 2)
        score = min(share * 1.15, 1) * generator.uniform(0.8, 1)
        missed = generator.random() < (0.02 if share > 0.6 else 0.25)
        if share > 0.2 and not missed and (shaken[2:] - shaken[:2]).min() > 5:
            rows.append([*shaken, score])
    if generator.random() < 0.03:
        x, y = generator.uniform((0, 100), (560, 250))
        rows.append([x, y, x + generator.uniform(40, 90), y + generator.uniform(100, 200), generator.uniform(0.1, 0.6)])
    return np.array(rows, np.float32).reshape(-1, 5)


def people(folder, seeds, frames):
    """Returns the people of some frames of videos as `People`, whose pictures are written where they are not there."""
    samples = []
    for seed in seeds:
        path, video = folder / f"{seed}.npz", DrawnVideo(seed)
        chosen = np.random.default_rng((1, seed)).choice(FRAMES, frames, replace=False)
        rows = np.load(path)["rows"] if path.exists() else []
        for number in chosen if len(rows) == 0 else ():
            picture, truth = video[number]
            save_picture(folder / f"{seed}_{number}.jpg", picture)
            rows += [[number, *box, *keypoints.ravel()] for keypoints, box, share in truth if share >= 0.3]
        np.savez(path, rows=rows)
        for number, *numbers in np.asarray(rows, np.float32):
            box, points = np.array(numbers[:4], np.float32), np.reshape(numbers[4:], (17, 2))
            inside = ((points >= 0) & (points < [SIZE[1], SIZE[0]])).all(-1).astype(np.float32)
            image = str(folder / f"{seed}_{int(number)}.jpg")
            samples.append(Sample(image, box, points, inside, seed * FRAMES + int(number), len(samples)))
    return People(samples, COCO17)
