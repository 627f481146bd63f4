"""Drawn faces: a stand-in for CK+ that anyone can run, made from nothing but numbers.

A person is a look, a face at rest that is theirs alone, and a gain on each action unit: how far
the same effort moves their face. An emotion is a recipe of action units. A video runs from
neutral to the apex under its own pose, light and grain. What is personal, rest and gains, has a
strength: 0 for people who differ in looks alone, 1 for people one might meet, 2 for a strong case.

It tests a mechanism: whether a model can use what is personal. It is no evidence on real faces,
and its numbers are called a stand-in's.

All numbers are drawn by NumPy on the CPU, so that the same seed gives the same faces everywhere;
on another kind of processor a pixel may be rounded to the grey beside it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data_prep import drawing
from data_prep.arguments import check_seed, number, one_of, whole
from data_prep.drawing import ACTION_UNITS, LOOKS
from data_prep.places import absolute
from data_prep.sources import DataError, sha256, write_aside
from data_prep.videos import (
    CLASSES,
    COUNTS,
    DRAWN,
    KEPT,
    LABELLED_SUBJECTS,
    SEQUENCES,
    SUBJECTS,
    Ints,
    Videos,
    frame_emotions,
)

Floats = NDArray[np.float64]
Spread = float | Floats  # one number, or one for each video

# How strongly each action unit is contracted at an emotion's apex: from, to, and how likely it is
# there at all. The prototypes are those of Ekman and Friesen (1978) and of Ekman, Friesen and
# Hager (2002); what is always there meets the table by which Lucey et al. (2010) gave CK+ its
# labels. 1 is FACS's intensity E, 0.4 is its B.
RECIPES: dict[str, dict[int, tuple[float, float, float]]] = {
    "anger": {
        4: (0.7, 1.0, 1.0),
        7: (0.4, 0.9, 1.0),
        23: (0.6, 1.0, 1.0),
        24: (0.6, 1.0, 1.0),
        5: (0.3, 0.7, 0.5),
        17: (0.2, 0.6, 0.5),
    },
    "contempt": {14: (0.7, 1.0, 1.0), 12: (0.2, 0.5, 0.7)},
    "disgust": {
        9: (0.7, 1.0, 1.0),
        10: (0.3, 0.8, 0.6),
        17: (0.3, 0.6, 0.5),
        4: (0.2, 0.5, 0.4),
        7: (0.2, 0.5, 0.4),
        16: (0.3, 0.7, 0.3),
        25: (0.3, 0.7, 0.3),
    },
    "fear": {
        1: (0.6, 1.0, 1.0),
        2: (0.4, 0.8, 1.0),
        4: (0.4, 0.8, 1.0),
        5: (0.6, 1.0, 1.0),
        20: (0.5, 1.0, 1.0),
        25: (0.5, 0.9, 1.0),
        26: (0.2, 0.6, 0.5),
    },
    "happiness": {
        12: (0.7, 1.0, 1.0),
        6: (0.4, 1.0, 0.85),
        25: (0.4, 1.0, 0.8),
        26: (0.1, 0.3, 0.2),
    },
    "sadness": {
        1: (0.6, 1.0, 1.0),
        4: (0.3, 0.7, 1.0),
        15: (0.6, 1.0, 1.0),
        17: (0.3, 0.8, 0.7),
    },
    "surprise": {
        1: (0.7, 1.0, 1.0),
        2: (0.7, 1.0, 1.0),
        5: (0.2, 0.4, 1.0),
        25: (0.8, 1.0, 1.0),
        26: (0.3, 0.6, 0.5),
        27: (0.5, 1.0, 1.0),
    },
}
ONE_SIDED = ("contempt",)

# What a face may do at rest, one way or the other way of the same muscles.
RESTS = ((1, 4), (2, 43), (5, 7), (12, 15), (25, 24), (17, 6), (10, 14), (20, 9))
REST_REACH = 0.55  # at strength 1, of a full contraction
GAIN_SPREAD = 0.35  # at strength 1, of the gain's logarithm

# The middle of each number of a scene, its spread to either side, and how far it drifts within a
# video. The first group belongs to the pose, the second to the light.
POSE = {
    "move_x": (0.0, 0.05, 0.02),
    "move_y": (0.06, 0.04, 0.02),
    "zoom": (1.0, 0.05, 0.01),
    "roll": (0.0, 0.10, 0.03),
    "turn": (0.0, 0.12, 0.04),
    "nod": (0.0, 0.06, 0.03),
    "gaze": (0.0, 0.012, 0.01),
}
LIGHT = {
    "light_x": (0.0, 0.22, 0.01),
    "light_y": (-0.04, 0.10, 0.01),
    "bright": (0.96, 0.13, 0.02),
}
GRAIN = (0.004, 0.022)  # standard deviation of a pixel, from and to
LENGTHS = (10, 28)  # frames of a whole video, from and to; the last is included
CHUNK = 2**17  # pixels drawn at once on a CPU: measured best from 32 to 224 px


@dataclass(frozen=True, eq=False)
class People:
    """N people: their looks, their faces at rest, and the gains on their action units."""

    looks: dict[str, Floats]  # the numbers of drawing.LOOKS, [N] each
    rest: Floats  # [N, A, 2] contraction of each unit at either side, at rest
    gain: Floats  # [N, A, 2] by which an effort is multiplied

    def __len__(self) -> int:
        return len(self.rest)


@dataclass(frozen=True, eq=False)
class Takes:
    """V videos before they are drawn: who, what, and under which pose and light."""

    people: People
    person: Ints  # [V] row of `people`
    emotion: Ints  # [V] index into CLASSES; 0 for a video without a label
    effort: Floats  # [V, A, 2] at the apex
    start: dict[str, Floats]  # the scene's numbers in the first frame, [V] each
    drift: dict[str, Floats]  # what is added by the last frame, [V] each
    grain: Floats  # [V] standard deviation of a pixel
    length: Ints  # [V] frames of the whole video
    number: Ints  # [V] which video of its seed it is: its grain follows from the two
    seed: int

    def __len__(self) -> int:
        return len(self.person)

    def __getitem__(self, rows: slice | Sequence[int] | Ints) -> Takes:
        """Some of the videos. They are drawn as they are among all of them."""
        return replace(
            self,
            person=self.person[rows],
            emotion=self.emotion[rows],
            effort=self.effort[rows],
            start={name: value[rows] for name, value in self.start.items()},
            drift={name: value[rows] for name, value in self.drift.items()},
            grain=self.grain[rows],
            length=self.length[rows],
            number=self.number[rows],
        )


# --- the numbers -----------------------------------------------------------------------------


def draw_people(n: int = LABELLED_SUBJECTS, *, strength: float = 1.0, seed: int = 0) -> People:
    """Draw n people. The first ones stay the same when n grows, and at every strength.

    Args:
        n: how many.
        strength: of what is personal, 0 or more: at 0 all rest alike and move alike.
        seed: another seed gives other people.

    Raises:
        ValueError: for nobody, a negative strength, or a seed that is none.
    """
    whole(1, n=n)
    number(0, strength=strength)
    check_seed(seed)
    units, rests = len(ACTION_UNITS), len(RESTS)
    share = np.random.default_rng([seed, 0]).random((n, len(LOOKS) + 2 * rests + 3 * units))
    look, rest, gain = np.split(share, [len(LOOKS), len(LOOKS) + 2 * rests], axis=1)
    return People(
        looks={
            name: low + (high - low) * look[:, i]
            for i, (name, (low, high)) in enumerate(LOOKS.items())
        },
        rest=strength * _rest(rest.reshape(n, rests, 2)),
        gain=np.exp(strength * GAIN_SPREAD * _both_sides(gain.reshape(n, units, 3))),
    )


def _rest(share: Floats) -> Floats:
    """From even numbers [N, pairs, 2] to contractions at rest [N, A, 2], at strength 1."""
    pull, slant = 2 * share[..., 0] - 1, 0.5 * (share[..., 1] - 0.5)
    force = REST_REACH * np.abs(pull) ** 1.5
    sides = force[..., None] * np.stack([1 - slant, 1 + slant], axis=-1)  # [N, pairs, 2]
    rest = np.zeros((len(share), len(ACTION_UNITS), 2))
    units = list(ACTION_UNITS)
    for i, (one, other) in enumerate(RESTS):
        rest[:, units.index(one)] += sides[:, i] * (pull[:, i, None] > 0)
        rest[:, units.index(other)] += sides[:, i] * (pull[:, i, None] <= 0)
    return rest


def _both_sides(share: Floats) -> Floats:
    """From even numbers [..., 3] to numbers around 0 that two sides mostly share [..., 2]."""
    centred = np.sqrt(12) * (share - 0.5)  # variance 1
    return centred[..., :1] + 0.3 * centred[..., 1:]


def shoot(
    people: People,
    counts: Mapping[str, int] = COUNTS,
    *,
    unlabelled: int = 0,
    seed: int = 0,
    pose: Spread = 1.0,
    light: Spread = 1.0,
    noise: Spread = 1.0,
    shift: Mapping[str, Spread] | None = None,
    n_labelled: int | None = None,
) -> Takes:
    """Let people show emotions: so many videos of each, by different people where they suffice.

    Args:
        people: whom; each of them gets a video, unless there are more people than videos.
        counts: videos of each emotion.
        unlabelled: videos of two units chosen at random, which come last and have no label.
        seed: of casting, efforts, scenes and grain.
        pose, light, noise: what the spread of the scenes is multiplied with: 0 for none, 1 as
            usual; one number, or [V]. The numbers drawn stay the same.
        shift: what is added to a number of the scene, in its own unit (see drawing.SCENES), from
            the first frame to the last: one number, or [V]. Nothing else changes with it.
        n_labelled: how many of the people show an emotion, the first ones; all by default. The
            others get videos without a label, as far as there are any.

    Returns:
        V videos: those of each emotion in the order of `counts`, then those without a label.

    Raises:
        DataError: for an emotion without a recipe, or a shift of what is no number of a scene.
        ValueError: for a number of videos or people, a spread or a seed that cannot be.
    """
    _refuse_unknown("recipe for", counts, RECIPES)
    _refuse_unknown("number of a scene called", shift or {}, POSE | LIGHT)
    whole(0, unlabelled=unlabelled, **{f"counts of {name}": n for name, n in counts.items()})
    if not unlabelled + sum(counts.values()):
        raise ValueError("counts and unlabelled ask for no video: ask for one at least")
    whole(1, len(people), n_labelled=len(people) if n_labelled is None else n_labelled)
    check_seed(seed)
    for name, spread in (("pose", pose), ("light", light), ("noise", noise)):
        number(0, **_ends(name, spread))
    for name, by in (shift or {}).items():
        number(-math.inf, **_ends(f"shift of {name}", by))
    rng = np.random.default_rng([seed, 1])
    emotion = np.repeat([CLASSES.index(name) for name in counts], list(counts.values()))
    n_labelled = len(people) if n_labelled is None else n_labelled
    person = _cast(rng, emotion, n_labelled)
    others = np.arange(n_labelled, len(people))[:unlabelled]
    extra = np.concatenate([others, rng.integers(len(people), size=unlabelled - len(others))])
    emotion = np.concatenate([emotion, np.zeros(unlabelled)]).astype(np.int64)
    share = rng.random((len(emotion), 3, len(ACTION_UNITS)))
    spreads = {name: pose for name in POSE} | {name: light for name in LIGHT}
    ranges = POSE | LIGHT
    even = 2 * rng.random((2, len(ranges), len(emotion))) - 1
    grain = GRAIN[0] + (GRAIN[1] - GRAIN[0]) * rng.random(len(emotion))
    return Takes(
        people=people,
        person=np.concatenate([person, extra]).astype(np.int64),
        emotion=emotion,
        effort=_efforts(emotion, share),
        start={
            name: middle + spreads[name] * width * even[0, i] + (shift or {}).get(name, 0.0)
            for i, (name, (middle, width, _)) in enumerate(ranges.items())
        },
        drift={
            name: spreads[name] * drift * even[1, i]
            for i, (name, (_, _, drift)) in enumerate(ranges.items())
        },
        grain=noise * grain,
        length=rng.integers(LENGTHS[0], LENGTHS[1] + 1, size=len(emotion)),
        number=np.arange(len(emotion)),
        seed=seed,
    )


def _ends(name: str, spread: Spread) -> dict[str, Any]:
    """The least and the largest number of a spread, by the names that a refusal calls them."""
    return {name: np.min(spread), f"the largest {name}": np.max(spread)}


def _refuse_unknown(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise DataError(f"no {what} {', '.join(unknown)}: there are {', '.join(known)}")


def _cast(rng: np.random.Generator, emotion: Ints, n: int) -> Ints:
    """Who shows what [V]: nobody the same emotion twice, if that can be, and nobody nothing."""
    person = np.zeros(len(emotion), dtype=np.int64)
    for which in np.unique(emotion):
        rows = np.flatnonzero(emotion == which)
        person[rows] = np.resize(rng.permutation(n), len(rows))
    for idle in np.setdiff1d(np.arange(n), person):
        busy = np.flatnonzero(np.bincount(person, minlength=n)[person] > 1)
        if len(busy):
            person[rng.choice(busy)] = idle
    return person


def _efforts(emotion: Ints, share: Floats) -> Floats:
    """From even numbers [V, 3, A] to the efforts at the apex [V, A, 2]."""
    low, high, chance = (np.zeros((len(CLASSES), len(ACTION_UNITS))) for _ in range(3))
    units = list(ACTION_UNITS)
    for name, recipe in RECIPES.items():
        for unit, numbers in recipe.items():
            at = CLASSES.index(name), units.index(unit)
            low[at], high[at], chance[at] = numbers
    there = share[:, 0] < chance[emotion]
    effort = there * (low[emotion] + (high - low)[emotion] * share[:, 1])  # [V, A]
    two = np.argsort(share[:, 0], axis=1)[:, :2]  # of a video without a label
    free = np.zeros_like(effort)
    np.put_along_axis(free, two, 0.8, axis=1)
    effort = np.where(emotion[:, None] == 0, free, effort)
    one_sided = np.isin(emotion, [CLASSES.index(name) for name in ONE_SIDED])
    right = share[:, 2, 0] < 0.5
    sides = np.stack([~one_sided | ~right, ~one_sided | right], axis=-1)  # [V, 2]
    return effort[..., None] * sides[:, None]  # [V, A, 2]


def level(time: Floats) -> Floats:
    """How much of the effort is made at a time from 0 to 1: it starts late and ends softly."""
    t = np.clip((time - 0.08) / 0.8, 0, 1)
    return t * t * (3 - 2 * t)


def kept_times(length: Ints) -> Floats:
    """The times of the first and last three frames [V, 6] of videos of so many frames [V]."""
    half = KEPT // 2
    number = np.arange(half)
    last = length[:, None] - 1
    frame = np.concatenate([number + 0 * last, last - number[::-1]], axis=1)  # [V, 6]
    return frame / last


# --- the pictures ----------------------------------------------------------------------------


def film(
    takes: Takes,
    times: Floats,
    size: int | tuple[int, int] = 64,
    *,
    channels: int = 1,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Draw videos at some times.

    Args:
        takes: V videos.
        times: [V, T] from 0, neutral, to 1, the apex.
        size: S for a square, or height and width, in pixels.
        channels: 1 for grey, 3 for colour.
        device: where to draw, and where the result is.

    Returns:
        uint8 [V, T, channels, height, width].

    Raises:
        ValueError: for another number of channels, frames of fewer than 8 pixels, or times that
            are not [V, T] from 0 to 1.
    """
    one_of((1, 3), channels=channels)
    height, width = size if isinstance(size, tuple) else (size, size)
    whole(8, size=height)
    whole(8, **{"the width of size": width})
    if times.ndim != 2 or len(times) != len(takes):
        raise ValueError(f"times are of shape {times.shape}: they must be [{len(takes)}, T]")
    number(0, 1, **{"the first of times": times.min(), "the last of times": times.max()})
    numbers = _frames(takes, times)
    rows = len(numbers[1])
    pixels = CHUNK if torch.device(device).type == "cpu" else 64 * CHUNK
    chunk = max(1, pixels // (height * width))  # frames drawn at once
    of_frame = [(video, i) for video in takes.number.tolist() for i in range(times.shape[1])]
    frames = torch.empty((rows, channels, height, width), dtype=torch.uint8, device=device)
    for first in range(0, rows, chunk):
        look, action, scene, grain = _chunk(numbers, slice(first, first + chunk), device)
        picture = drawing.draw(look, action, scene, (height, width), channels)
        noise = _noise(takes.seed, of_frame[first : first + chunk], (height, width))
        picture += noise.to(device) * grain[:, None, None, None]
        frames[first : first + chunk] = (picture * 255).round_().clamp_(0, 255)
    return frames.reshape(*times.shape, channels, height, width)


def _noise(seed: int, frames: list[tuple[int, int]], size: tuple[int, int]) -> Tensor:
    """Grain [B, 1, H, W] of variance 1: each frame has its own seed, whatever is drawn beside."""
    grains = [
        np.random.default_rng([seed, 2, video, frame]).standard_normal((1, *size), np.float32)
        for video, frame in frames
    ]
    return torch.from_numpy(np.stack(grains))


Frames = tuple[dict[str, Floats], Floats, dict[str, Floats], Floats]


def _frames(takes: Takes, times: Floats) -> Frames:
    """Look, action, scene and grain of each frame: V·T rows."""
    steps = times.shape[1]
    people, person = takes.people, takes.person
    effort = takes.effort * people.gain[person]  # [V, A, 2]
    action = people.rest[person][:, None] + level(times)[..., None, None] * effort[:, None]
    at = {
        name: takes.start[name][:, None] + times * takes.drift[name][:, None]
        for name in takes.start
    }
    return (
        {name: np.repeat(value[person], steps) for name, value in people.looks.items()},
        action.clip(0, 1.25).reshape(-1, len(ACTION_UNITS), 2),
        {name: value.reshape(-1) for name, value in at.items()},
        np.repeat(takes.grain, steps),
    )


def _chunk(
    numbers: Frames, rows: slice, device: str | torch.device
) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor], Tensor]:
    """Some rows of the numbers, as tensors on the device."""

    def tensor(array: Floats) -> Tensor:
        return torch.from_numpy(array[rows].astype(np.float32)).to(device)

    look, action, scene, grain = numbers
    return (
        {name: tensor(value) for name, value in look.items()},
        tensor(action),
        {name: tensor(value) for name, value in scene.items()},
        tensor(grain),
    )


def portraits(
    people: People, size: int = 64, *, channels: int = 3, device: str | torch.device = "cpu"
) -> Tensor:
    """Every person at rest and at the apex of each emotion, all under the same light.

    Each unit is contracted as its recipe has it on average, if it is there more often than not.

    Returns:
        uint8 [N, 8, channels, size, size], in the order of CLASSES.
    """
    n, classes = len(people), len(CLASSES)
    emotion = np.tile(np.arange(classes), n)
    average = np.full((len(emotion), 3, len(ACTION_UNITS)), 0.5)
    effort = _efforts(emotion, average) * (emotion > 0)[:, None, None]
    takes = shoot(people, {"anger": len(emotion)}, pose=0.0, light=0.0, noise=0.0)
    takes = replace(takes, person=np.repeat(np.arange(n), classes), emotion=emotion, effort=effort)
    takes.start["light_x"] += 0.06
    frames = film(takes, np.ones((len(emotion), 1)), size, channels=channels, device=device)
    return frames.reshape(n, classes, *frames.shape[2:])


def load_faces(
    size: int = 64,
    *,
    strength: float = 1.0,
    seed: int = 0,
    channels: int = 1,
    counts: Mapping[str, int] = COUNTS,
    n_subjects: int = LABELLED_SUBJECTS,
    pose: Spread = 1.0,
    light: Spread = 1.0,
    noise: Spread = 1.0,
    shift: Mapping[str, Spread] | None = None,
    device: str | torch.device = "cpu",
) -> Videos:
    """Draw a stand-in for CK+: as many people, and as many videos of each emotion.

    Args:
        size: of a frame, in pixels.
        strength: of what is personal: 0 none, 1 as one might meet, 2 strong.
        seed: of people and videos alike.
        channels: 1 for grey, as most of CK+ is, or 3 for colour.
        counts: videos of each emotion; CK+'s own by default.
        n_subjects: how many people; CK+'s labelled ones by default.
        pose, light, noise, shift: as in `shoot`.
        device: where to draw. The result is on the CPU.

    Returns:
        Videos with frames [V, 6, size, size], or [V, 6, 3, size, size] in colour. The sum is that
        of all numbers that the frames are drawn from, so it is the same on every machine.

    Source: Chapter 8.
    """
    people = draw_people(n_subjects, strength=strength, seed=seed)
    takes = shoot(people, counts, seed=seed, pose=pose, light=light, noise=noise, shift=shift)
    times = kept_times(takes.length)
    frames = film(takes, times, size, channels=channels, device=device).cpu().numpy()
    present, subject = np.unique(takes.person, return_inverse=True)
    return Videos(
        frames=frames[:, :, 0] if channels == 1 else frames,
        emotion=frame_emotions(takes.emotion),
        subject=subject.astype(np.int64) + 1,
        n_subjects=len(present),
        label=f"faces (drawn stand-in, personal strength {strength:g})",
        sha256=_sum(takes, times, size, channels),
    )


def _sum(takes: Takes, times: Floats, size: int, channels: int) -> str:
    """SHA-256 of the numbers behind the frames, to four decimals: the last bits may differ."""
    look, action, scene, grain = _frames(takes, times)
    numbers = [*look.values(), action, *scene.values(), grain]
    whole = [np.rint(array * 1e4).astype("<i8").tobytes() for array in numbers]
    head = f"{drawing.VERSION} {size} {channels} {takes.seed} ".encode()
    return sha256(head + b"".join(whole))


# --- in CK+'s layout -------------------------------------------------------------------------


def write_ckplus(
    folder: str | os.PathLike[str],
    *,
    size: tuple[int, int] = (490, 640),
    counts: Mapping[str, int] = COUNTS,
    unlabelled: int = SEQUENCES - sum(COUNTS.values()),
    n_subjects: int = SUBJECTS,
    n_labelled: int = LABELLED_SUBJECTS,
    strength: float = 1.0,
    seed: int = 0,
    colour: float = 0.1,
    labels: str = "Emotion",
) -> Path:
    """Write drawn faces as CK+ is laid out, for the tests of its loader: whole videos as PNG.

    Args:
        folder: a new or empty folder. A file in it says that the faces are drawn.
        size: height and width of a frame, in pixels.
        counts, unlabelled, n_subjects, strength, seed: as elsewhere; CK+'s own counts by default.
        n_labelled: how many of the people have a label; CK+'s by default, or all if fewer.
        colour: the share of sequences that are in colour, as a few of CK+ are.
        labels: name of the label folder, "Emotion" or "Emotion_labels".

    Returns:
        The folder.

    Raises:
        DataError: when the folder is not empty.
        ValueError: for a number that cannot be; nothing is written then.
    """
    whole(8, **{"the height of size": size[0], "the width of size": size[1]})
    number(0, 1, colour=colour)
    one_of(("Emotion", "Emotion_labels"), labels=labels)
    root = absolute(folder)
    if root.exists() and any(root.iterdir()):
        raise DataError(f"{root} is not empty: name a new folder")
    people = draw_people(n_subjects, strength=strength, seed=seed)
    takes = shoot(
        people,
        counts,
        unlabelled=unlabelled,
        seed=seed,
        shift={"zoom": -0.4},  # there is room around CK+'s faces
        n_labelled=min(n_labelled, n_subjects),
    )
    write_aside(root / DRAWN, b"Drawn faces in CK+'s layout. This is not CK+.\n")
    taken: dict[int, int] = {}
    for video, person in enumerate(takes.person.tolist()):
        taken[person] = taken.get(person, 0) + 1
        place = (f"S{person + 1:03d}", f"{taken[person]:03d}")
        every = round(1 / colour) if colour else 0
        channels = 3 if every and video % every == every - 1 else 1
        _write_sequence(root, place, takes[[video]], size, channels, labels)
    return root


def _write_sequence(
    root: Path,
    place: tuple[str, str],
    take: Takes,
    size: tuple[int, int],
    channels: int,
    labels: str,
) -> None:
    """Write one sequence: its frames, their landmarks, and its label if it has one."""
    length = int(take.length[0])
    times = np.linspace(0, 1, length)[None]  # [1, T]
    frames = film(take, times, size, channels=channels)[0].numpy()  # [T, C, H, W]
    look, action, scene, _ = _chunk(_frames(take, times), slice(None), "cpu")
    points = drawing.landmarks(look, action, scene, size).numpy()  # [T, 68, 2]
    name = "_".join(place)
    for folder in ("cohn-kanade-images", "Landmarks"):
        root.joinpath(folder, *place).mkdir(parents=True, exist_ok=True)
    for i in range(length):
        stem = f"{name}_{i + 1:08d}"
        pixels = frames[i].transpose(1, 2, 0) if channels == 3 else frames[i, 0]
        Image.fromarray(pixels).save(root.joinpath("cohn-kanade-images", *place, f"{stem}.png"))
        text = "".join(f"   {x:.7e}   {y:.7e}\n" for x, y in points[i].tolist())
        root.joinpath("Landmarks", *place, f"{stem}_landmarks.txt").write_text(text)
    if take.emotion[0]:
        target = root.joinpath(labels, *place, f"{name}_{length:08d}_emotion.txt")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"   {float(take.emotion[0]):.7e}\n")
