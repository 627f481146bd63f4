"""From numbers to pictures: one face for each row of a batch, from signed distances alone.

A part of a face (an eye, a lip, a lock of hair) is a function of the place: negative inside, zero
on its outline, positive outside, in units of half the picture's height. Where the value is below
half a pixel the part is painted, with soft edges. Nothing is loaded, and nothing is learnt.

Places are given as seen in the picture: x and u to the right, y and v downwards. The two sides of
a face are 0 (left in the picture) and 1 (right); q runs outwards from the middle on either side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Numbers = Mapping[str, Tensor]

# The action units that can be drawn, by their numbers in the Facial Action Coding System.
ACTION_UNITS = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    12: "lip corner puller",
    14: "dimpler",
    15: "lip corner depressor",
    16: "lower lip depressor",
    17: "chin raiser",
    20: "lip stretcher",
    23: "lip tightener",
    24: "lip pressor",
    25: "lips part",
    26: "jaw drop",
    27: "mouth stretch",
    43: "eyes close",
}

# What a person looks like: the range that each number is drawn from, evenly. Lengths are in units
# of half the picture's height, "tone" and the like in shares.
LOOKS = {
    "head_width": (0.55, 0.67),
    "head_height": (0.76, 0.86),
    "jaw": (0.05, 0.30),  # how much narrower than the temples
    "squareness": (2.0, 2.6),
    "ear": (0.10, 0.15),
    "eye_x": (0.245, 0.295),
    "eye_y": (-0.13, -0.05),
    "eye_width": (0.150, 0.190),
    "eye_height": (0.088, 0.120),
    "eye_tilt": (-0.025, 0.02),
    "iris": (0.076, 0.092),
    "iris_tone": (0.0, 1.0),
    "lash": (0.014, 0.026),
    "brow_gap": (0.205, 0.25),  # above the eye's middle
    "brow_length": (0.29, 0.35),
    "brow_arch": (0.015, 0.05),
    "brow_thick": (0.018, 0.036),
    "nose_y": (0.17, 0.25),
    "nose_width": (0.085, 0.13),
    "nose_bridge": (0.0, 1.0),
    "mouth_y": (0.43, 0.49),
    "mouth_width": (0.215, 0.275),
    "lip_upper": (0.032, 0.055),
    "lip_lower": (0.042, 0.070),
    "lip_red": (0.25, 0.75),
    "skin": (0.0, 1.0),
    "warmth": (0.0, 1.0),
    "freckles": (-2.0, 1.0),  # below 0: none; so for all that not everybody has
    "hair_tone": (0.0, 1.0),
    "hair_rise": (0.05, 0.17),
    "hair_side": (0.01, 0.16),
    "hair_length": (-0.9, 1.0),  # where the hair ends at the sides, from the ears downwards
    "hair_line": (0.14, 0.33),  # of the forehead, below the top of the head
    "hair_drop": (-0.05, 0.35),  # how far it comes down at the temples
    "hair_part": (-0.22, 0.22),  # a slanted hairline
    "curl": (-1.0, 1.0),
    "curl_count": (9.0, 17.0),
    "bald": (-8.0, 1.0),
    "beard": (-2.2, 1.0),
    "moustache": (-5.0, 1.0),
    "glasses": (-4.0, 1.0),
    "shirt": (0.0, 1.0),
    "ground": (0.0, 1.0),
}

# How a frame is taken. Nothing here belongs to the person.
SCENES = (
    "move_x",  # to the right, in half heights
    "move_y",  # downwards
    "zoom",  # factor
    "roll",  # clockwise, in radians
    "turn",  # to the right: by so many half heights the middle of the face shifts, 0.3 at most
    "nod",  # downwards, likewise
    "gaze",  # to the right, likewise
    "light_x",  # brightness gained on a half height to the right
    "light_y",  # downwards
    "bright",  # factor, in the middle
)

VERSION = 1  # of the rules below: to be raised when they draw another picture from the same numbers
LUMINANCE = (0.299, 0.587, 0.114)
# Knots of colour ramps, red green blue: light to dark.
_SKIN = (
    (0.99, 0.87, 0.77),
    (0.95, 0.76, 0.61),
    (0.83, 0.60, 0.43),
    (0.62, 0.41, 0.28),
    (0.47, 0.31, 0.22),
)
_HAIR = (
    (0.90, 0.77, 0.50),
    (0.72, 0.42, 0.20),
    (0.45, 0.27, 0.16),
    (0.24, 0.15, 0.11),
    (0.11, 0.09, 0.10),
    (0.66, 0.65, 0.65),
)
_IRIS = ((0.42, 0.60, 0.70), (0.42, 0.55, 0.38), (0.50, 0.34, 0.18), (0.27, 0.17, 0.10))
_SHIRT = (
    (0.30, 0.42, 0.55),
    (0.70, 0.34, 0.30),
    (0.86, 0.78, 0.62),
    (0.33, 0.47, 0.40),
    (0.35, 0.32, 0.42),
)
_GROUND = ((0.83, 0.88, 0.90), (0.93, 0.90, 0.82), (0.86, 0.90, 0.83), (0.91, 0.86, 0.88))


def draw(
    look: Numbers, action: Tensor, scene: Numbers, size: tuple[int, int], channels: int
) -> Tensor:
    """Draw one face for each row.

    Args:
        look: the numbers of `LOOKS`, [B] each.
        action: [B, A, 2], how strongly each of `ACTION_UNITS` is contracted at either side:
            0 not at all, 1 as far as it goes.
        scene: the numbers of `SCENES`, [B] each.
        size: height and width in pixels; the face's units are of half the height.
        channels: 1 for grey, 3 for colour. The grey picture is the luminance of the coloured one.

    Returns:
        [B, channels, H, W] in 0..1, without grain.
    """
    look = {name: value[:, None, None] for name, value in look.items()}  # [B, 1, 1]
    scene = {name: value[:, None, None] for name, value in scene.items()}
    au = _by_number(action)
    picture = _Picture(look, size, channels, action.device)
    x, y = pixel_grid(size, action.device)  # [H, W]
    u, v = _to_head(x, y, scene)  # [B, H, W]
    head = _head(u, v, look, au)
    _paint_behind(picture, u, v, look)
    _paint_head(picture, u, v, head, look, scene, au)
    u, v = _to_features(u, v, look, scene)
    _paint_folds(picture, u, v, look, au)
    _paint_nose(picture, u, v, look, au)
    _paint_beard(picture, u, v, head, look, au)
    _paint_mouth(picture, u, v, look, au)
    for side in (0, 1):
        q = u if side else -u
        _paint_eye(picture, q, v, look, scene, au, side)
        _paint_brow(picture, q, v, look, au, side)
    _paint_fringe(picture, u, v, head, look)
    _paint_glasses(picture, u, v, look)
    return picture.lit(x, y, scene)


def pixel_grid(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The places of the pixels' middles, x and y, [H, W] each, in units of half the height."""
    height, width = size
    y = (torch.arange(height, device=device) + 0.5) * (2 / height) - 1
    x = (torch.arange(width, device=device) + 0.5) * (2 / height) - width / height
    return x.expand(height, width), y[:, None].expand(height, width)


def _by_number(action: Tensor) -> dict[int, Tensor]:
    """Each action unit's strength, [B, 1, 1, 2]: the last axis is the side."""
    return {unit: action[:, i, None, None, :] for i, unit in enumerate(ACTION_UNITS)}


def _to_head(x: Tensor, y: Tensor, scene: Numbers) -> tuple[Tensor, Tensor]:
    """From places in the picture to places on the upright head in its middle."""
    x, y = x - scene["move_x"], y - scene["move_y"]
    cos, sin = scene["roll"].cos() / scene["zoom"], scene["roll"].sin() / scene["zoom"]
    return cos * x + sin * y, cos * y - sin * x  # [B, H, W]


def _to_features(u: Tensor, v: Tensor, look: Numbers, scene: Numbers) -> tuple[Tensor, Tensor]:
    """From places on the head to places on the face: a turned head shows its middle shifted.

    The middle of the face stands out towards the viewer, its rim does not.
    """
    out = (1 - (u / look["head_width"]) ** 2 - (v / look["head_height"]) ** 2).clamp_min(0)
    return u - scene["turn"] * out, v - scene["nod"] * out


# --- signed distances ------------------------------------------------------------------------


def _ellipse(u: Tensor, v: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Distance from an ellipse around the origin, exact to the first order at its outline."""
    r = ((u / a) ** 2 + (v / b) ** 2).sqrt()
    slope = ((u / a**2) ** 2 + (v / b**2) ** 2).sqrt()
    return r * (r - 1) / slope.clamp_min(1e-4)


def _stroke(t: Tensor, off: Tensor, thick: Tensor) -> Tensor:
    """Distance from a pen stroke: thick in its middle, pointed where t is -1 and 1.

    `off` is the distance from the stroke's middle line.
    """
    return off.abs() - thick * (1 - t * t)


# --- painting --------------------------------------------------------------------------------


class _Picture:
    """A batch of pictures being painted, with the colours of each row's person."""

    def __init__(self, look: Numbers, size: tuple[int, int], channels: int, device: torch.device):
        self.channels = channels
        self.pixel = 2 / size[0]
        skin = _ramp(_SKIN, look["skin"])
        rosy = torch.tensor([0.03, -0.01, -0.03], device=device)[:, None, None]
        skin = (skin + rosy * look["warmth"][:, None]).clamp(0, 1)
        self.skin = self._tone(skin)  # [B, C, 1, 1]
        self.line = self._tone(skin * _colour((0.38, 0.30, 0.30), device))
        self.shade = self._tone(skin * _colour((0.72, 0.62, 0.58), device))
        self.blush = self._tone(skin * _colour((0.99, 0.76, 0.74), device))
        red = _colour((0.78, 0.36, 0.36), device)
        lip = skin * torch.lerp(_colour((0.86, 0.68, 0.66), device), red, look["lip_red"][:, None])
        self.lip = self._tone(lip)
        self.lip_dark = self._tone(lip * 0.82)
        hair = _ramp(_HAIR, torch.maximum(look["hair_tone"], 0.62 * look["skin"]))
        self.hair = self._tone(hair)
        self.brow = self._tone(torch.lerp(hair * 0.45, skin * 0.18, 0.4))
        self.iris = self._tone(_ramp(_IRIS, torch.maximum(look["iris_tone"], 0.9 * look["skin"])))
        self.shirt = self._tone(_ramp(_SHIRT, look["shirt"]))
        self.white = self._tone(_colour((0.98, 0.97, 0.95), device))
        self.black = self._tone(_colour((0.10, 0.08, 0.08), device))
        self.mouth = self._tone(_colour((0.28, 0.09, 0.10), device))
        self.tongue = self._tone(_colour((0.76, 0.38, 0.38), device))
        self.teeth = self._tone(_colour((0.97, 0.95, 0.90), device))
        ground = self._tone(_ramp(_GROUND, look["ground"]))
        rows = look["skin"].shape[0]
        self.image = ground.expand(rows, channels, *size).clone()  # [B, C, H, W]

    def _tone(self, colour: Tensor) -> Tensor:
        if self.channels == 3:
            return colour
        weights = colour.new_tensor(LUMINANCE)[:, None, None]
        return (colour * weights).sum(dim=1, keepdim=True)

    def cover(self, distance: Tensor, soft: float = 0.0) -> Tensor:
        """The share of each pixel that lies inside; `soft` blurs the edge over such a length."""
        return (0.5 - distance / max(self.pixel, soft)).clamp_(0, 1)

    def paint(
        self, distance: Tensor, colour: Tensor, strength: Tensor | float = 1.0, soft: float = 0.0
    ) -> None:
        """Lay a colour [B, C, 1, 1] over the inside of a shape [B, H, W]."""
        cover = self.cover(distance, soft) * strength
        self.image.lerp_(colour, cover[:, None])

    def lit(self, x: Tensor, y: Tensor, scene: Numbers) -> Tensor:
        """The picture under its light: brighter towards one side, and darker as a whole."""
        light = scene["bright"] + scene["light_x"] * x + scene["light_y"] * y  # [B, H, W]
        return self.image.mul_(light[:, None]).clamp_(0, 1)


def _colour(rgb: tuple[float, float, float], device: torch.device) -> Tensor:
    return torch.tensor(rgb, device=device)[None, :, None, None]  # [1, 3, 1, 1]


def _ramp(knots: tuple[tuple[float, float, float], ...], share: Tensor) -> Tensor:
    """The colour at a share [B, 1, 1] of the way along some knots, [B, 3, 1, 1]."""
    table = torch.tensor(knots, device=share.device)
    place = share.flatten().clamp(0, 1) * (len(knots) - 1)
    low = place.floor().long().clamp_max(len(knots) - 2)
    colour = torch.lerp(table[low], table[low + 1], (place - low)[:, None])
    return colour[:, :, None, None]


# --- head and hair ---------------------------------------------------------------------------


def _both(strength: Tensor) -> Tensor:
    """The mean of the two sides, [B, 1, 1]."""
    return strength.mean(dim=-1)


def _drop(au: dict[int, Tensor]) -> Tensor:
    """How far the jaw hangs down."""
    return 0.035 * _both(au[26]) + 0.085 * _both(au[27])


def _head(u: Tensor, v: Tensor, look: Numbers, au: dict[int, Tensor]) -> Tensor:
    """Distance from the head's outline: a rounded square that narrows to the jaw."""
    a, b = look["head_width"], look["head_height"]
    b = torch.where(v > 0, b + _drop(au), b)
    low = (v / b).clamp(0, 1)
    a = a * (1 - look["jaw"] * low**2)
    n = look["squareness"]
    r = ((u / a).abs() ** n + (v / b).abs() ** n + 1e-6) ** (1 / n)
    return (r - 1) * a


def _paint_behind(picture: _Picture, u: Tensor, v: Tensor, look: Numbers) -> None:
    """Hair behind the head, neck, shoulders, ears."""
    a, b = look["head_width"], look["head_height"]
    one = torch.ones_like(a)
    hairy = (look["bald"] <= 0).float()
    curl = look["curl"].clamp_min(0) * (torch.atan2(v, u) * look["curl_count"].round()).cos()
    top = _ellipse(u, v + 0.06, a + look["hair_side"] + 0.02, b + look["hair_rise"] - 0.03)
    end = 0.12 + look["hair_length"].clamp_min(-0.15)
    fall = torch.maximum(u.abs() - a - look["hair_side"] - 0.02 + 0.03 * v, v - end)
    fall = torch.maximum(fall, -v - 0.06)
    picture.paint(fall - 0.022 * curl, picture.hair * 0.80, hairy)
    picture.paint(torch.maximum(top - 0.022 * curl, v - 0.1), picture.hair, hairy)
    neck = torch.maximum(u.abs() - 0.46 * a - 0.10 * (v - 0.8) ** 2, 0.4 - v)
    picture.paint(neck, picture.skin)
    under = _ellipse(u, v - 0.22, 0.80 * a, 0.84 * one)
    picture.paint(torch.maximum(neck + 0.025, under), picture.shade, 0.9, soft=0.05)
    shirt = _ellipse(u, v - 1.50, 0.92 * one, 0.52 * one)
    neckline = _ellipse(u, v - 0.90, 0.40 * one, 0.21 * one)
    picture.paint(torch.maximum(shirt, 0.012 - neckline), picture.shirt)
    ear = _ellipse(u.abs() - a, v - 0.02, look["ear"] * 0.62, look["ear"])
    picture.paint(ear - 0.014, picture.line)
    picture.paint(ear, picture.skin)
    picture.paint(ear + 0.045, picture.shade, 0.7, soft=0.04)


def _paint_head(
    picture: _Picture,
    u: Tensor,
    v: Tensor,
    head: Tensor,
    look: Numbers,
    scene: Numbers,
    au: dict[int, Tensor],
) -> None:
    """The skin: outline, shading away from the light, cheeks, freckles."""
    picture.paint(head - 0.014, picture.line)
    picture.paint(head, picture.skin)
    rim = u * scene["light_x"].sign() * -1.0
    dark = picture.cover(head) * ((rim + 0.1) * 0.55 + (head + 0.22).clamp_min(0) * 1.1)
    picture.image.lerp_(picture.shade, dark.clamp_(0, 0.6)[:, None])
    cheek = _ellipse(u.abs() - 0.36, v - 0.20, 0.17 + 0 * look["jaw"], 0.12 + 0 * look["jaw"])
    warm = 0.45 + 0.4 * _both(au[6])
    picture.paint(torch.maximum(cheek, head + 0.1), picture.blush, warm, soft=0.20)
    dots = (u * 61).sin() * (v * 53 + 2.1 * (u * 17).sin()).sin()
    spots = torch.maximum(0.75 - dots, cheek * 8 - 0.3)
    picture.paint(spots * 0.08, picture.line, 0.45 * look["freckles"].clamp(0, 1))


def _paint_fringe(picture: _Picture, u: Tensor, v: Tensor, head: Tensor, look: Numbers) -> None:
    """Hair before the forehead, with a few strands that fan out from the parting."""
    t = u / look["head_width"]
    line = look["hair_line"] - look["head_height"] + look["hair_drop"] * t**4
    line = line + look["hair_part"] * t + 0.014 * look["curl"].clamp_min(0) * (u * 38).sin()
    hairy = (look["bald"] <= 0).float()
    picture.paint(torch.maximum(head, v - line - 0.02), picture.shade, 0.75 * hairy, soft=0.03)
    hair = torch.maximum(head - 0.03, v - line)
    picture.paint(hair, picture.hair, hairy)
    fan = (u - 0.8 * look["hair_part"]) / (v + 1.25).clamp_min(0.1)
    strands = (fan * 26).sin() - 0.2
    picture.paint(
        torch.maximum(hair + 0.02, -strands * 0.06), picture.hair * 0.80, 0.5 * hairy, soft=0.03
    )
    shine = _ellipse(
        u - look["hair_part"],
        v + look["head_height"] - 0.03,
        0.8 * look["head_width"],
        0.06 + 0 * line,
    )
    picture.paint(torch.maximum(hair, shine), picture.white, 0.12 * hairy, soft=0.08)


def _paint_beard(
    picture: _Picture, u: Tensor, v: Tensor, head: Tensor, look: Numbers, au: dict[int, Tensor]
) -> None:
    """Beard and moustache, for those who have one."""
    t = u / look["head_width"]
    cut = look["mouth_y"] + 0.02 - 0.50 * t**4 - 0.16 * (1 - (t * 1.7) ** 2).clamp(-0.4, 1)
    short = look["hair_length"] < 0.2
    grown = ((look["beard"] > 0) & short).float()
    picture.paint(torch.maximum(head + 0.004, cut - v), picture.hair, 0.8 * grown, soft=0.05)
    t = u / look["mouth_width"]
    line = look["mouth_y"] - look["lip_upper"] - 0.055 + 0.065 * t * t
    line = line - 0.035 * _both(au[10]) - 0.02 * _both(au[9]) - 0.03 * _both(au[12]) * t * t
    grown = ((look["moustache"] > 0) & short).float()
    picture.paint(_stroke(t, v - line, 0.034 + 0 * line), picture.hair * 0.9, 0.95 * grown)


def _paint_glasses(picture: _Picture, u: Tensor, v: Tensor, look: Numbers) -> None:
    worn = (look["glasses"] > 0).float()
    q = u.abs()
    rim = _ellipse(
        q - look["eye_x"], v - look["eye_y"] - 0.01, look["eye_width"] + 0.065, 0 * worn + 0.165
    )
    picture.paint(rim.abs() - 0.011, picture.black, 0.9 * worn)
    bridge = torch.maximum(
        (v - look["eye_y"] + 0.02).abs() - 0.010, q - look["eye_x"] + look["eye_width"] + 0.06
    )
    picture.paint(bridge, picture.black, 0.9 * worn)


# --- eyes and brows --------------------------------------------------------------------------


def _lids(look: Numbers, au: dict[int, Tensor], side: int) -> tuple[Tensor, Tensor]:
    """How far the upper lid stands above the eye's line, and the lower one below it."""
    a = {unit: strength[..., side] for unit, strength in au.items()}
    up = 1 + 0.42 * a[5] - 0.34 * a[7] - 0.20 * a[6] - 0.26 * a[9] - 0.14 * a[4] - 0.9 * a[43]
    low = 0.62 + 0.18 * a[5] - 0.45 * a[7] - 0.62 * a[6] - 0.42 * a[9] - 0.55 * a[43]
    up = look["eye_height"] * up
    low = look["eye_height"] * low
    return torch.maximum(up, 0.010 - low), low


def _lid_lines(t: Tensor, look: Numbers, au: dict[int, Tensor], side: int) -> tuple[Tensor, Tensor]:
    """Where the upper and the lower lid run, at t from -1 at the nose to 1 at the temple."""
    up, low = _lids(look, au, side)
    arch = (1 - t * t).clamp_min(0)
    tilt = look["eye_tilt"] * t
    slant = 0.020 * au[1][..., side] * (0.4 + au[4][..., side]) * t  # the lid goes with the brow
    return tilt + slant - up * arch, tilt + low * arch


def _paint_eye(
    picture: _Picture,
    q: Tensor,
    v: Tensor,
    look: Numbers,
    scene: Numbers,
    au: dict[int, Tensor],
    side: int,
) -> None:
    """White, iris, pupil, a glint, lids, and the creases around them."""
    q, v = q - look["eye_x"], v - look["eye_y"]
    t = q / look["eye_width"]
    upper, lower = _lid_lines(t, look, au, side)
    eye = torch.maximum(torch.maximum(upper - v, v - lower), t.abs() * 0.16 - 0.16)
    picture.paint(eye, picture.white)
    gaze = scene["gaze"] if side else -scene["gaze"]
    centre = v + 0.012
    iris = ((q - gaze) ** 2 + centre**2).sqrt() - look["iris"]
    picture.paint(torch.maximum(iris, eye), picture.line)
    picture.paint(torch.maximum(iris + 0.012, eye), picture.iris)
    picture.paint(torch.maximum(iris + look["iris"] * 0.5, eye), picture.black)
    shine = 0.022 if side else -0.022
    glint = ((q - gaze + shine) ** 2 + (centre + 0.024) ** 2).sqrt() - 0.019
    picture.paint(torch.maximum(glint, eye), picture.white)
    picture.paint(torch.maximum(eye, v - upper - 0.022), picture.line, 0.25)  # the lid's shadow
    wide = t / 1.12
    picture.paint(_stroke(wide, v - upper, look["lash"] * 1.25), picture.black)
    picture.paint(_stroke(wide, v - lower, 0.010 + 0 * t), picture.line, 0.7)
    crease = v - upper + 0.045 - 0.02 * au[5][..., side]
    picture.paint(_stroke(t, crease, 0.010 + 0 * t), picture.line, 0.55)
    bag = v - lower - 0.045 + 0.012 * (1 - t * t)
    strong = (
        0.12 + 0.75 * au[6][..., side] + 0.55 * au[7][..., side] + 0.4 * au[9][..., side]
    ).clamp(0, 0.8)
    picture.paint(_stroke(t, bag, 0.012 + 0 * t), picture.line, strong)
    _paint_crow(picture, q - look["eye_width"], v, au[6][..., side])


def _paint_crow(picture: _Picture, q: Tensor, v: Tensor, raised: Tensor) -> None:
    """Crow's feet: three strokes that fan out from the eye's corner."""
    t = (q - 0.075) / 0.05
    for slope in (-0.55, 0.0, 0.55):
        off = v - 0.005 - slope * q
        picture.paint(_stroke(t, off, 0.008 + 0 * t), picture.line, 0.7 * raised)


def _brow_ends(look: Numbers, au: dict[int, Tensor], side: int) -> tuple[Tensor, ...]:
    """Where the brow starts (q, v) and ends (q, v), and how far it is arched."""
    a = {unit: strength[..., side] for unit, strength in au.items()}
    level = look["eye_y"] - look["brow_gap"]
    near = look["eye_x"] - 0.5 * look["brow_length"] - 0.045 * a[4] - 0.02 * a[9]
    far = look["eye_x"] + 0.52 * look["brow_length"]
    inner = level - 0.105 * a[1] + 0.095 * a[4] * (1 - 0.75 * a[1]) + 0.055 * a[9] + 0.012
    outer = level - 0.095 * a[2] + 0.035 * a[4] + 0.025 * a[6] + 0.030 * a[1] * (1 - a[2]) + 0.02
    arch = look["brow_arch"] + 0.035 * a[2] - 0.030 * a[4] - 0.01 * a[9]
    return near, inner, far, outer, arch


def _paint_brow(
    picture: _Picture, q: Tensor, v: Tensor, look: Numbers, au: dict[int, Tensor], side: int
) -> None:
    near, inner, far, outer, arch = _brow_ends(look, au, side)
    t = (q - near) / (far - near)  # 0 at the nose, 1 at the temple
    line = torch.lerp(inner, outer, t) - arch * 4 * t * (1 - t)
    thick = look["brow_thick"] * (1.1 - 0.75 * t)
    body = (v - line).abs() * 0.95 - thick
    ends = torch.maximum(-t, t - 1) * look["brow_length"]
    picture.paint(torch.maximum(body, ends), picture.brow)
    _paint_frown(picture, q, v, look, au, side)


def _paint_frown(
    picture: _Picture, q: Tensor, v: Tensor, look: Numbers, au: dict[int, Tensor], side: int
) -> None:
    """Furrows: upright ones between lowered brows, level ones on the forehead above raised ones."""
    level = look["eye_y"] - look["brow_gap"] + 0.02
    t = (v - level) / 0.075
    picture.paint(
        _stroke(t, q - 0.040 - 0.012 * t, 0.013 + 0 * t), picture.line, 0.85 * au[4][..., side]
    )
    raised = au[1][..., side] * 0.6 + au[2][..., side] * 0.4
    t = (q - 0.16) / 0.24
    for i in (0, 1):
        off = v - level + 0.185 + 0.055 * i - 0.02 * t * t + 0.06 * raised
        picture.paint(_stroke(t, off, 0.008 + 0 * t), picture.line, 0.6 * raised)


# --- nose, folds, mouth ----------------------------------------------------------------------


def _paint_nose(
    picture: _Picture, u: Tensor, v: Tensor, look: Numbers, au: dict[int, Tensor]
) -> None:
    """Bridge, wings and nostrils; wrinkles across its root when it is wrinkled."""
    wrinkle = _both(au[9])
    width = look["nose_width"] * (1 + 0.12 * wrinkle + 0.10 * _both(au[12]))
    v0 = v - look["nose_y"] + 0.035 * wrinkle
    t = u / width
    picture.paint(
        _ellipse(u, v0 - 0.015, width * 1.05, 0.05 + 0 * width), picture.shade, 0.55, soft=0.06
    )
    tip = _ellipse(u + 0.01, v0 + 0.05, width * 0.45, 0.05 + 0 * width)
    picture.paint(tip, picture.white, 0.22, soft=0.08)
    base = v0 - 0.030 * (1 - t * t)
    picture.paint(_stroke(t * 0.98, base, 0.013 + 0 * t), picture.line, 0.9)
    q = u.abs()
    wing = (
        _ellipse(q - width * 0.92, v0 + 0.012, 0.032 + 0 * width, 0.045 + 0 * width)
    ).abs() - 0.007
    wing = torch.maximum(wing, width * 0.95 - q)
    picture.paint(wing, picture.line, 0.75)
    nostril = _ellipse(q - width * 0.48, v0 - 0.004, 0.026 + 0 * width, 0.013 + 0 * width)
    picture.paint(nostril, picture.line, 0.9)
    # 0 between the eyes, 1 at the tip
    rise = (v - look["eye_y"]) / (look["nose_y"] - look["eye_y"])
    side = u - 0.038 - 0.02 * rise
    picture.paint(
        _stroke(rise * 1.6 - 0.8, side, 0.012 + 0 * t),
        picture.shade,
        0.3 + 0.7 * look["nose_bridge"],
    )
    for i in (0, 1, 2):
        t = (q - 0.055) / 0.05
        off = v - look["eye_y"] - 0.005 - 0.045 * i + 0.35 * (q - 0.05)
        picture.paint(_stroke(t, off, 0.010 + 0 * t), picture.line, (1.1 * wrinkle).clamp_max(0.9))


def _mouth_width(look: Numbers, au: dict[int, Tensor]) -> Tensor:
    """From the middle of the mouth to its corner at either side, [B, 1, 1, 2]."""
    wider = 0.30 * au[12] + 0.34 * au[20] + 0.08 * au[14] + 0.06 * au[15]
    narrower = 0.16 * au[23] + 0.10 * au[24] + 0.08 * au[26] + 0.22 * au[27] + 0.06 * au[17]
    return look["mouth_width"][..., None] * (1 + wider - narrower)


class _Mouth:
    """The curves of the mouth over the place u: where each lip begins and ends."""

    def __init__(self, u: Tensor, look: Numbers, au: dict[int, Tensor]):
        both = {unit: _both(strength) for unit, strength in au.items()}
        self.width = self.by_side(u, _mouth_width(look, au))
        corner = (
            -0.012
            - 0.125 * au[12]
            + 0.100 * au[15]
            - 0.042 * au[14]
            + 0.018 * au[20]
            + 0.02 * au[17]
        )
        raise_ = self.by_side(u, au[10] + 0.5 * au[9])
        self.t = u / self.width
        t2 = self.t * self.t
        arch = (1 - t2).clamp_min(0)
        self.arch = arch
        round_ = torch.lerp(arch, arch.sqrt(), (both[27] + 0.5 * both[26]).clamp(0, 1))
        part = both[25]
        middle = look["mouth_y"] - 0.040 * both[17] * arch + self.by_side(u, corner) * t2
        middle = middle - 0.022 * raise_ * arch - 0.01 * both[24]
        gap = 0.050 * part + 0.10 * both[26] * part + 0.28 * both[27] * part
        thin = (
            1 - 0.42 * both[23] - 0.42 * both[24] - 0.22 * both[12] - 0.20 * both[20]
        ).clamp_min(0.25)
        self.inner_top = middle - (0.25 * gap + 0.030 * raise_ * part) * round_
        self.inner_low = middle + (0.75 * gap + 0.035 * both[16] * part) * round_
        bow = arch * (0.72 + 1.1 * t2)
        self.top = self.inner_top - look["lip_upper"] * thin * (1 - 0.25 * both[10]) * bow
        self.low = self.inner_low + look["lip_lower"] * thin * (1 + 0.35 * both[17]) * arch
        self.middle = middle
        self.part = part
        self.beyond = (self.t.abs() - 1) * self.width

    @staticmethod
    def by_side(u: Tensor, value: Tensor) -> Tensor:
        """The left value left of the middle, the right one right of it: [B, H, W]."""
        return torch.where(u < 0, value[..., 0], value[..., 1])


def _paint_mouth(
    picture: _Picture, u: Tensor, v: Tensor, look: Numbers, au: dict[int, Tensor]
) -> None:
    """Lips, what is seen between them, and the shadow below."""
    m = _Mouth(u, look, au)
    both = {unit: _both(strength) for unit, strength in au.items()}
    lips = torch.maximum(torch.maximum(m.top - v, v - m.low), m.beyond)
    picture.paint(lips - 0.010, picture.line, 0.45)
    picture.paint(lips, picture.lip)
    picture.paint(torch.maximum(lips, v - m.middle), picture.lip_dark, 0.8)
    glow = _stroke(m.t * 1.7, v - 0.5 * (m.inner_low + m.low), 0.014 + 0 * v)
    picture.paint(torch.maximum(glow, lips), picture.white, 0.28, soft=0.03)
    hole = torch.maximum(torch.maximum(m.inner_top - v, v - m.inner_low), m.beyond)
    hole = torch.where(m.part > 0.02, hole, hole.new_tensor(1.0))
    picture.paint(hole, picture.mouth)
    tongue = _ellipse(
        u, v - m.inner_low + 0.02, m.width * 0.55, 0.02 + 0.08 * both[27] + 0.04 * both[26]
    )
    picture.paint(torch.maximum(tongue, hole + 0.01), picture.tongue, 0.9)
    bared = (both[12] + both[20] + both[10] + both[16] + 0.45 * both[27] + 0.3 * both[26]).clamp(
        0, 1
    )
    teeth = torch.maximum(hole + 0.006, v - m.inner_top - 0.030 - 0.030 * bared)
    picture.paint(teeth, picture.teeth, bared * 0.97)
    line = _stroke(m.t, v - m.middle, 0.013 + 0.006 * both[24] + 0 * v)
    picture.paint(line, picture.line, 1 - (m.part * 4).clamp(0, 1))
    shadow = _stroke(m.t * 1.9, v - m.low - 0.035, 0.020 + 0 * v)
    picture.paint(shadow, picture.shade, 0.6, soft=0.03)


def _paint_folds(
    picture: _Picture, u: Tensor, v: Tensor, look: Numbers, au: dict[int, Tensor]
) -> None:
    """The folds from nose to mouth, dimples, lines below the corners, and the bossed chin."""
    for side in (0, 1):
        q = u if side else -u
        a = {unit: strength[..., side] for unit, strength in au.items()}
        _paint_fold(picture, q, v, look, a)
        reach = look["mouth_width"] * (1 + 0.30 * a[12] + 0.34 * a[20] + 0.08 * a[14]) + 0.035
        height = look["mouth_y"] - 0.125 * a[12] + 0.10 * a[15] - 0.042 * a[14]
        t = (v - height + 0.01) / 0.085
        dimple = q - reach + 0.012 - 0.030 * (1 - t * t)
        picture.paint(_stroke(t, dimple, 0.013 + 0 * t), picture.line, (1.1 * a[14]).clamp(0, 0.85))
        t = (v - height - 0.07) / 0.07
        picture.paint(
            _stroke(t, q - reach + 0.01 - 0.02 * t, 0.013 + 0 * t), picture.line, 0.55 * a[15]
        )
    raised = _both(au[17])
    t = u / 0.15
    off = v - look["mouth_y"] - 0.135 - 0.035 * t * t + 0.02 * raised
    picture.paint(_stroke(t, off, 0.016 + 0 * t), picture.line, 0.7 * raised)
    dents = (u * 75).sin() * (v * 80).sin() - 0.35
    boss = _ellipse(u, v - look["mouth_y"] - 0.20, 0.10 + 0 * raised, 0.06 + 0 * raised)
    picture.paint(torch.maximum(boss, -dents * 0.03), picture.line, 0.35 * raised)


def _paint_fold(
    picture: _Picture, q: Tensor, v: Tensor, look: Numbers, a: dict[int, Tensor]
) -> None:
    """The fold beside the mouth: deep when the cheek or the upper lip is raised."""
    from_v = look["nose_y"] - 0.015 - 0.03 * a[9]
    to_v = torch.maximum(look["mouth_y"] - 0.01 - 0.06 * a[12], from_v + 0.16)
    t = (v - from_v) / (to_v - from_v)
    start = look["nose_width"] + 0.055
    end = look["mouth_width"] * (1 + 0.30 * a[12] + 0.2 * a[20]) + 0.055
    line = torch.lerp(start, end, t) + 0.05 * (a[12] + a[6]) * t * (1 - t)
    deep = 0.10 + 0.75 * a[12] + 0.85 * a[9] + 0.70 * a[10] + 0.2 * a[20] + 0.15 * a[15]
    picture.paint(_stroke(2 * t - 1, q - line, 0.014 + 0 * t), picture.line, deep.clamp(0, 0.85))


# --- landmarks -------------------------------------------------------------------------------


def landmarks(look: Numbers, action: Tensor, scene: Numbers, size: tuple[int, int]) -> Tensor:
    """Where 68 points of each face lie, in the usual order: jaw, brows, nose, eyes, mouth.

    Args:
        look, action, scene, size: as in `draw`.

    Returns:
        [B, 68, 2] columns and rows in pixels, 0 in the middle of the first.
    """
    look = {name: value[:, None, None] for name, value in look.items()}  # [B, 1, 1]
    scene = {name: value[:, None, None] for name, value in scene.items()}
    au = _by_number(action)
    parts = (
        _brow_points(look, au),
        _nose_points(look),
        _eye_points(look, au),
        _lip_points(look, au),
    )
    inside = [torch.cat(axis, dim=-1) for axis in zip(*parts, strict=True)]
    u, v = _from_features(inside[0], inside[1], look, scene)
    jaw = _jaw_points(look, au)
    u, v = torch.cat([jaw[0], u], dim=-1), torch.cat([jaw[1], v], dim=-1)  # [B, 1, 68]
    cos, sin = scene["roll"].cos() * scene["zoom"], scene["roll"].sin() * scene["zoom"]
    x = cos * u - sin * v + scene["move_x"]
    y = sin * u + cos * v + scene["move_y"]
    height, width = size
    place = torch.stack([x + width / height, y + 1], dim=-1) * (height / 2) - 0.5
    return place[:, 0]


Points = tuple[Tensor, Tensor]  # u and v, [B, 1, n] each


def _from_features(u: Tensor, v: Tensor, look: Numbers, scene: Numbers) -> Points:
    """The inverse of `_to_features`, by repeating it."""
    on_head = u, v
    for _ in range(6):
        back = _to_features(*on_head, look, scene)
        on_head = on_head[0] + u - back[0], on_head[1] + v - back[1]
    return on_head


def _jaw_points(look: Numbers, au: dict[int, Tensor]) -> Points:
    """17 points from the left ear around the chin to the right one, on the head's outline."""
    angle = torch.linspace(0, math.pi, 17, device=look["jaw"].device)
    low = angle.sin().clamp_min(0)  # 0 at the ears, 1 at the chin
    n = look["squareness"]
    a = look["head_width"] * (1 - look["jaw"] * low**2)
    u = -angle.cos().sign() * a * (1 - low**n).clamp_min(0) ** (1 / n)
    return u, low * (look["head_height"] + _drop(au))


def _brow_points(look: Numbers, au: dict[int, Tensor]) -> Points:
    """Five points on each brow, from left to right."""
    us, vs = [], []
    for side in (0, 1):
        near, inner, far, outer, arch = _brow_ends(look, au, side)
        t = torch.linspace(0, 1, 5, device=near.device)
        t = t if side else t.flip(0)
        q = torch.lerp(near, far, t)
        us.append(q if side else -q)
        vs.append(torch.lerp(inner, outer, t) - arch * 4 * t * (1 - t))
    return torch.cat(us, dim=-1), torch.cat(vs, dim=-1)


def _nose_points(look: Numbers) -> Points:
    """Four points down the bridge, five along the base."""
    device = look["jaw"].device
    down = torch.linspace(0, 0.85, 4, device=device)
    across = torch.linspace(-0.8, 0.8, 5, device=device)
    bridge = torch.lerp(look["eye_y"], look["nose_y"], down)
    base = look["nose_y"] + 0.03 * (1 - across**2)
    u = torch.cat([0 * bridge, look["nose_width"] * across], dim=-1)
    return u, torch.cat([bridge, base], dim=-1)


def _eye_points(look: Numbers, au: dict[int, Tensor]) -> Points:
    """Six points around each eye: the left corner, above, the right corner, below."""
    us, vs = [], []
    for side in (0, 1):
        t = torch.tensor([-1, -1 / 3, 1 / 3, 1, 1 / 3, -1 / 3], device=look["jaw"].device)
        t = t if side else -t  # outwards
        upper, lower = _lid_lines(t, look, au, side)
        v = torch.cat([upper[..., :4], lower[..., 4:]], dim=-1)
        q = look["eye_x"] + look["eye_width"] * t
        us.append(q if side else -q)
        vs.append(look["eye_y"] + v)
    return torch.cat(us, dim=-1), torch.cat(vs, dim=-1)


def _lip_points(look: Numbers, au: dict[int, Tensor]) -> Points:
    """Twelve points around the lips, eight around the opening, from the left corner clockwise."""
    outer = torch.linspace(-1, 1, 7, device=look["jaw"].device)
    inner = torch.linspace(-0.85, 0.85, 5, device=look["jaw"].device)
    us, vs = [], []
    for t, above, below in ((outer, "top", "low"), (inner, "inner_top", "inner_low")):
        width = _Mouth.by_side(t, _mouth_width(look, au))
        mouth = _Mouth(t * width, look, au)
        us.append(torch.cat([t * width, (t * width)[..., 1:-1].flip(-1)], dim=-1))
        vs.append(
            torch.cat([getattr(mouth, above), getattr(mouth, below)[..., 1:-1].flip(-1)], dim=-1)
        )
    return torch.cat(us, dim=-1), torch.cat(vs, dim=-1)
