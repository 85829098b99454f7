"""A random person as a 3-D body of spheres: proportions, pose, clothes. `drawn.people` draws it.

Every part of the body is the convex hull of a few spheres: two for a limb, more for a chest. Coordinates are in
statures (the person is about 1 tall): x to the person's left, y up, z out of the chest, origin between the hips.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np


@dataclass
class Part:
    """A convex piece of the body.

    Args:
        centers: (S, 3) array. Centres of the spheres.
        radii: (S,) array.
        color: (3,) array, RGB 0–255.
        joints: tuple of str. The joints inside this part, which it therefore cannot hide.
        base: int or None. Number of the part on which this one lies; it is drawn right after that part.
        normal: (3,) array or None. If given, the part is seen only when this direction points to the camera.
    """

    centers: np.ndarray
    radii: np.ndarray
    color: np.ndarray
    joints: tuple[str, ...] = ()
    base: int | None = None
    normal: np.ndarray | None = None


_BODY = tomllib.loads(Path(__file__).with_name("person.toml").read_text(encoding="utf-8"))
_HIPS = ("left_hip", "right_hip", "pelvis")
_SHOULDERS = ("left_shoulder", "right_shoulder", "thorax", "neck")


def random_person(generator: np.random.Generator) -> tuple[dict[str, np.ndarray], list[Part]]:
    """Draws proportions, a pose within the limits of human joints, and clothes.

    Args:
        generator: `np.random.Generator`.

    Returns:
        The joints by name, (3,) arrays: those of COCO17, MPII16 and LSP14. And the parts of the body.

    Example:

    >>> joints, parts = random_person(np.random.default_rng(0))
    >>> sorted(joints)[:4], bool(0.1 < np.linalg.norm(joints["left_knee"] - joints["left_hip"]) < 0.3)
    (['head_top', 'left_ankle', 'left_ear', 'left_elbow'], True)
    """
    sizes = generator.uniform(*zip(*_BODY["sizes"].values(), strict=True))
    size = dict(zip(_BODY["sizes"], sizes, strict=True))
    joints, frames = _pose(generator, size)
    return joints, _dress(generator, joints, frames, size)


def rotation(axis: str, degrees: float) -> np.ndarray:
    """Returns the (3, 3) right-handed rotation about "x", "y" or "z"."""
    return cv2.Rodrigues(np.deg2rad(degrees) * np.eye(3)["xyz".index(axis)])[0]


def _pose(generator, size):
    """Returns the joints by name and the rotations of chest and head."""
    half_spine, chest, head = _spine(generator)
    pelvis = np.zeros(3)
    waist = half_spine @ [0, 0.12 * size["trunk"], 0]
    thorax = waist + chest @ [0, 0.17 * size["trunk"], 0]
    neck = thorax + chest @ [0, 0.035, 0.004]
    skull = neck + (chest + head) / 2 @ [0, 0.045, 0.01] + head @ [0, 0.05 * size["head"], 0.012]
    joints = {"pelvis": pelvis, "waist": waist, "thorax": thorax, "upper_neck": neck, "neck": thorax, "skull": skull}

    def on_head(x, y, z):
        return skull + head @ (np.array([x, y, z]) * size["head"])

    joints["nose"], joints["head_top"] = on_head(0, -0.014, 0.064), on_head(0, 0.07, 0)
    arms, legs = (list(_BODY[limb].values())[generator.integers(len(_BODY[limb]))] for limb in ("arms", "legs"))
    for name, side in (("left", 1), ("right", -1)):
        joints[f"{name}_eye"] = on_head(0.021 * side, 0.01, 0.052)
        joints[f"{name}_ear"] = on_head(0.05 * side, -0.002, -0.004)
        _add_arm(joints, name, side, chest, generator.uniform(*arms), size)
        _add_leg(joints, name, side, generator.uniform(*legs), generator.uniform(-10, 30), size)
    return joints, {"chest": chest, "head": head}


def _spine(generator):
    flexion, sideways, twist = generator.uniform((-6, -12, -25), (14, 12, 25))
    if generator.random() < 0.2:
        flexion, sideways = generator.uniform((-22, -28), (60, 28))
    half = rotation("y", twist / 2) @ rotation("z", sideways / 2) @ rotation("x", flexion / 2)
    chest = half @ half
    turn, nod, tilt = generator.normal(0, (28, 12, 8)).clip((-75, -35, -25), (75, 40, 25))
    # People look ahead: the neck takes back part of the spine's flexion.
    head = chest @ rotation("y", turn) @ rotation("x", nod - flexion * 0.6) @ rotation("z", tilt)
    return half, chest, head


def _add_arm(joints, name, side, chest, angles, size):
    raised, plane, twist, elbow = angles
    shoulder = joints["thorax"] + chest @ [0.112 * side * size["shoulders"], -0.012 + max(raised - 70, 0) * 3e-4, 0]
    swing = rotation("y", -side * plane) @ rotation("z", side * raised) @ rotation("y", side * plane)
    upper = chest @ swing @ rotation("y", -side * twist)
    lower = upper @ rotation("x", -elbow)
    joints[f"{name}_shoulder"] = shoulder
    joints[f"{name}_elbow"] = shoulder + upper @ [0, -0.165 * size["arm"], 0]
    joints[f"{name}_wrist"] = joints[f"{name}_elbow"] + lower @ [0, -0.142 * size["arm"], 0]
    joints[f"{name}_hand"] = joints[f"{name}_wrist"] + lower @ [0, -0.042, 0.006]


def _add_leg(joints, name, side, angles, turnout, size):
    flexion, spread, knee = angles
    upper = rotation("z", side * spread) @ rotation("x", -flexion) @ rotation("y", side * turnout)
    lower = upper @ rotation("x", knee)
    joints[f"{name}_hip"] = np.array([0.057 * side * size["hips"], 0, 0])
    joints[f"{name}_knee"] = joints[f"{name}_hip"] + upper @ [0, -0.238 * size["leg"], 0]
    joints[f"{name}_ankle"] = joints[f"{name}_knee"] + lower @ [0, -0.232 * size["leg"], 0]
    joints[f"{name}_heel"] = joints[f"{name}_ankle"] + lower @ [0, -0.022, -0.012]
    joints[f"{name}_toe"] = joints[f"{name}_ankle"] + lower @ [0, -0.03, 0.085]


def _dress(generator, joints, frames, size):
    """Returns the parts of the body in the colours of skin and clothes."""
    skin, shares = _color("skin", generator) * generator.uniform(0.94, 1.04, 3), _BODY["shares"]
    top, bottom, shoes = (generator.uniform(15, 240) * generator.uniform(0.5, 1, 3) for _ in range(3))
    colors = {"skin": skin, "top": top, "bottom": bottom, "shoes": shoes}
    colors["forearm"] = top if generator.random() < shares["long_sleeves"] else skin
    colors["shin"] = bottom if generator.random() < shares["long_trousers"] else skin
    parts = _trunk(joints, frames["chest"], size, skin, top, bottom)
    for name in ("left", "right"):
        for limb in _BODY["limbs"]:
            ends = np.array([joints[f"{name}_{end}"] for end in limb["ends"]])
            inner = tuple(f"{name}_{joint}" for joint in limb["joints"])
            parts.append(Part(ends, np.array(limb["radii"]) * size["girth"], colors[limb["color"]], inner))
    return parts + _head(generator, joints["skull"], frames["head"], size["head"], skin, len(parts))


def _color(name, generator):
    """Returns one of the colours of skin or hair."""
    return np.array(_BODY[name][generator.integers(len(_BODY[name]))], float)


def _trunk(joints, chest, size, skin, top, bottom):
    """Trunk and neck, and what tells front from back: the neckline."""
    waist, thorax, girth, depth = joints["waist"], joints["thorax"], size["girth"], 0.055 * size["girth"]
    shoulders = np.array([joints["left_shoulder"], joints["right_shoulder"]])
    hips = np.array([joints["left_hip"], joints["right_hip"]])
    height = 0.17 * size["trunk"]
    across = chest @ [0.06 * size["shoulders"], 0, 0]
    ribs = waist + chest @ [0, height / 2, 0.006] + np.array([across, -across])
    collar = shoulders * 0.4 + thorax * 0.6 + chest @ [0, 0.014, 0]
    belly = hips * 0.75 + waist * 0.25 + (chest @ [0, 0, 0.002])
    neckline = np.array([(-0.03, height + 0.012, 0.03), (0.03, height + 0.012, 0.03), (0, height - 0.06, depth)])
    return [
        Part(np.vstack([hips, [waist * 0.35]]), np.array([0.052, 0.052, 0.058]) * girth, bottom, _HIPS),
        Part(np.vstack([belly, ribs]), np.repeat((0.053 * girth, depth), 2), top, _HIPS),
        Part(np.vstack([shoulders, collar, ribs]), np.repeat((0.032, 0.034, depth), 2), top, _SHOULDERS),
        Part(waist + neckline @ chest.T, np.full(3, 0.01), skin, (), 2, chest[:, 2]),
        Part(np.array([thorax, joints["upper_neck"]]), np.array([0.034, 0.03]), skin, ("thorax", "neck", "upper_neck")),
    ]


def _head(generator, skull, turn, scale, skin, number):
    """Skull, hair, face and ears; `number` is that of the first of these parts."""
    hair, parts = _color("hair", generator) * generator.uniform(0.85, 1.15), []
    colors = {"skin": skin, "hair": hair, "white": np.array([245, 245, 242.0]), "black": np.array([38, 30, 28.0])}
    if generator.random() < _BODY["shares"]["long_hair"]:
        colors["long_hair"] = hair
    for piece in _BODY["head"]:
        if piece["color"] in colors:
            centers = skull + np.array(piece["centers"]) * scale @ turn.T
            base, normal = (number, turn @ piece["normal"]) if "normal" in piece else (None, None)
            color, joints = colors[piece["color"]] * piece.get("shade", (1, 1, 1)), tuple(piece.get("joints", ()))
            parts.append(Part(centers, np.array(piece["radii"]) * scale, color, joints, base, normal))
    return parts
