"""CK+ for those who hold a licence: six frames of each labelled video, cut to the face, in grey.

The folder is the official one, as its zips unpack::

    cohn-kanade-images/S005/001/S005_001_00000001.png, ...
    Emotion/S005/001/S005_001_00000011_emotion.txt       (or Emotion_labels)
    Landmarks/S005/001/S005_001_00000001_landmarks.txt   (not needed)

A sequence without a label is left out, as everybody leaves it out. One that is broken is left out
too, by name. Nothing is guessed: no label from a neighbour, no frame in place of another.

No frame may be shown to anybody: what is returned says so, and refuses to be drawn.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.arguments import whole
from data_prep.places import CacheWarning, absolute, named, optional
from data_prep.sources import DataError, default_cache, sha256, write_aside
from data_prep.videos import (
    CLASSES,
    COUNTS,
    DRAWN,
    KEPT,
    LABELLED_SUBJECTS,
    Ints,
    Pixels,
    Videos,
    frame_emotions,
)

VARIABLE = "DUET_CKPLUS"
IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
LABELS = ("Emotion", "Emotion_labels", "Emotion_labels/Emotion")
LANDMARKS = ("Landmarks", "Landmarks/Landmarks")
LAYOUT = "cohn-kanade-images/S005/001/*.png and Emotion/S005/001/*_emotion.txt"

VERSION = 1  # of the rules below: to be raised when they cut another picture from the same files
POINTS = 68  # landmarks of a face, from the brows to the chin
FACE = 1.3  # side of the crop, in longer sides of the landmarks' box
RISE = 0.1  # by so much of its side the crop is moved up, towards the forehead

UNLABELLED = "without a label"  # the one reason that is no damage
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class Flaw(Exception):
    """Why a sequence is left out: the kind, which is counted, and what was seen."""

    def __init__(self, kind: str, seen: str = ""):
        super().__init__(f"{kind}: {seen}" if seen else kind)
        self.kind, self.seen = kind, seen


@dataclass(frozen=True)
class Sequence6:
    """A labelled sequence before its pictures are opened."""

    place: str  # "S005/001"
    emotion: int  # index into CLASSES
    frames: tuple[Path, ...]  # the six that are kept
    landmarks: tuple[Path, ...]  # those of the six, or none
    sha256: str  # of the files above, and of the label

    @property
    def subject(self) -> str:
        """Who it is, by the folder's name."""
        return self.place.partition("/")[0]


Flaws = dict[str, Flaw]  # by the sequence's place


def load_ckplus(
    path: str | os.PathLike[str] | None = None,
    *,
    size: int = 224,
) -> Videos:
    """Read the labelled videos of CK+.

    Args:
        path: the folder that holds the images' folder and the labels'; else DUET_CKPLUS names it.
        size: of a frame, in pixels. Every frame becomes grey: most of CK+ is.

    Returns:
        Videos with frames [V, 6, size, size], in the order of subjects and sequences. A frame is
        cut to the square around the landmarks of all six frames of its video; where a video has
        no landmark files, to the largest square in the frame's middle, and the label says so.
        The label also says when the data set is not whole.

    Raises:
        DataError: when there is no such folder, it has another layout, or nothing in it is usable.
        ValueError: for frames of fewer than 8 pixels.

    Warns:
        UserWarning: names each labelled sequence that was left out, and why.

    Source: Chapter 8, Section 4.1.1.
    """
    whole(8, size=size)
    root = find_root(path)
    found, flaws = survey(root)
    key = _sum(found, size)
    file = default_cache() / "ckplus" / f"{key}.npz"
    cut = _from_cache(file, len(found), size)
    if cut is None:
        cut = _cut_all(found, size)
        _to_cache(file, cut)
    flaws |= {found[i].place: flaw for i, flaw in cut.flaws.items()}
    kept = [found[i] for i in cut.kept.tolist()]
    _refuse_nothing(root, kept, flaws)
    _warn_of_flaws(root, flaws)
    subject = np.unique([each.subject for each in kept], return_inverse=True)[1].astype(np.int64)
    emotion = np.array([each.emotion for each in kept])
    drawn = (root / DRAWN).exists()
    return Videos(
        frames=cut.frames,
        emotion=frame_emotions(emotion),
        subject=subject + 1,
        n_subjects=int(subject.max()) + 1,
        label=_label(drawn, kept),
        sha256=key,
        skipped=dict(Counter(flaw.kind for flaw in flaws.values()).most_common()),
        licensed=not drawn,
    )


def _refuse_nothing(root: Path, kept: list[Sequence6], flaws: Flaws) -> None:
    if not kept:
        lines = _listed(flaws) or ["  no sequence at all"]
        raise DataError("\n".join([f"{root} holds no labelled video that can be used:", *lines]))


def _warn_of_flaws(root: Path, flaws: Flaws) -> None:
    broken = {place: flaw for place, flaw in flaws.items() if flaw.kind != UNLABELLED}
    if broken:
        head = f"{root}: labelled sequences that are left out: {len(broken)}"
        warnings.warn("\n".join([head, *_listed(broken)]), stacklevel=3)


def _listed(flaws: Flaws, most: int = 40) -> list[str]:
    lines = [f"  {place}: {flaw}" for place, flaw in sorted(flaws.items())]
    return lines[:most] + [f"  and {len(lines) - most} more"] * (len(lines) > most)


def _label(drawn: bool, kept: list[Sequence6]) -> str:
    """The data set's name, with all that a result made from it must carry."""
    label = "faces (drawn stand-in, read from CK+'s layout)" if drawn else "ckplus"
    count = Counter(CLASSES[each.emotion] for each in kept)
    people = len({each.subject for each in kept})
    if count != COUNTS or people != LABELLED_SUBJECTS:
        label += f" (not whole: {len(kept)} of {sum(COUNTS.values())} videos, {people} people)"
    centred = sum(not each.landmarks for each in kept)
    return f"{label} ({centred} cut in the middle, without landmarks)" if centred else label


# --- the folder ------------------------------------------------------------------------------


def find_root(path: str | os.PathLike[str] | None = None) -> Path:
    """The folder of CK+: `path`, or what DUET_CKPLUS names.

    Raises:
        DataError: when neither is given, or it is no folder.
    """
    root = absolute(path) if path else named(VARIABLE)
    if root is None:
        raise DataError(
            "CK+ is given out by its authors alone, after a signed agreement. Name the folder of "
            f"your copy with path=... (--path), or set {VARIABLE}. "
            "Without one, take the drawn stand-in: load_faces()"
        )
    if not root.is_dir():
        raise DataError(f"{root} is no folder: name the one that holds {LAYOUT}")
    return root


def survey(root: Path) -> tuple[list[Sequence6], Flaws]:
    """Look through the folder, opening no picture: the usable sequences, and why others are not.

    Raises:
        DataError: when it has another layout than CK+.
    """
    images = _folder(root, IMAGES)
    labels = _folder(root, LABELS)
    landmarks = _folder(root, LANDMARKS, needed=False)
    found, flaws = [], Flaws()
    for place in _places(images, labels):
        try:
            found.append(_sequence(place, images, labels, landmarks))
        except Flaw as flaw:
            flaws[place] = flaw
        except OSError as error:
            flaws[place] = Flaw("file that cannot be opened", str(error))
    return found, flaws


def _folder(root: Path, names: Sequence[str], needed: bool = True) -> Path:
    """The one folder with subjects in it, of those that may have been meant."""
    there = [root / name for name in names if any(root.glob(f"{name}/S[0-9][0-9][0-9]"))]
    if len(there) > 1:
        both = " and ".join(str(each.relative_to(root)) for each in there)
        raise DataError(
            f"{root} holds both {both}: leave one of them, it is not clear which to use"
        )
    if there or not needed:
        return there[0] if there else root / names[0]
    raise DataError(
        f"{root} holds no subjects under {' or '.join(names)}{_advice(root)}. "
        f"Needed is the folder with {LAYOUT}"
    )


def _advice(root: Path) -> str:
    """What may have gone wrong, if that can be seen."""
    if any(root.glob("S[0-9][0-9][0-9]")):
        return f" (but subjects themselves: did you mean {root.parent}?)"
    below = next((each.parent for name in IMAGES for each in root.glob(f"*/{name}")), None)
    return f" (but they are under {below}: did you mean that?)" if below else ""


def _places(images: Path, labels: Path) -> list[str]:
    """All folders of sequences, "S005/001", whether they hold frames, a label or both."""
    return sorted(
        {
            each.relative_to(folder).as_posix()
            for folder in (images, labels)
            for each in folder.glob("*/*")
            if each.is_dir() and not each.name.startswith(".")
        }
    )


def _sequence(place: str, images: Path, labels: Path, landmarks: Path) -> Sequence6:
    """Choose the files of one sequence.

    Raises:
        Flaw: when it has no label, or something about it is wrong.
    """
    if not re.fullmatch(r"S\d{3}/\d{3}", place):
        raise Flaw("folder of another name", "a sequence lies in S and 3 digits / 3 digits")
    name = place.replace("/", "_")
    label, labelled = _label_file(labels / place, name)
    emotion = _emotion(label)
    frames = _kept_frames(images / place, name, labelled)
    points = [landmarks / place / f"{frame.stem}_landmarks.txt" for frame in frames]
    there = [each for each in points if each.exists()]
    if 0 < len(there) < len(points):
        missing = next(each.name for each in points if each not in there)
        raise Flaw("landmarks missing", missing)
    files = [label, *frames, *there]
    return Sequence6(place, emotion, tuple(frames), tuple(there), _sum_of_files(files))


def _visible(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder with some suffix, in order, less what Finder and others leave there."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [each for each in files if each.suffix == suffix and not each.name.startswith(".")]


def _label_file(folder: Path, name: str) -> tuple[Path, int]:
    """The label of a sequence, and the number of the frame that it names."""
    files = _visible(folder, ".txt")
    if not files:
        raise Flaw(UNLABELLED)
    if len(files) > 1:
        raise Flaw("more than one label", ", ".join(each.name for each in files))
    named = re.fullmatch(rf"{name}_(\d{{8}})_emotion\.txt", files[0].name)
    if not named:
        raise Flaw("label of another sequence", files[0].name)
    return files[0], int(named[1])


def _emotion(label: Path) -> int:
    """Read a label: one number, such as 3.0000000e+00."""
    text = label.read_bytes()[:100].decode("ascii", "replace").strip()
    try:
        code = float(text)
    except ValueError as error:
        raise Flaw("unreadable label", f"{label.name} says {text!r}") from error
    if code not in range(1, len(CLASSES)):
        raise Flaw("unknown emotion", f"{label.name} says {text}, and CK+ has 1 to 7")
    return int(code)


def _kept_frames(folder: Path, name: str, labelled: int) -> list[Path]:
    """The first three and the last three frames of a sequence."""
    frames = {}
    for file in _visible(folder, ".png"):
        named = re.fullmatch(rf"{name}_(\d{{8}})\.png", file.name)
        if not named:
            raise Flaw("frame of another sequence", file.name)
        frames[int(named[1])] = file
    if not frames:
        raise Flaw("without frames", f"no {name}_*.png")
    if len(frames) < KEPT:
        raise Flaw("too short", f"{len(frames)} frames, and {KEPT} are needed")
    if labelled not in frames:
        raise Flaw("labelled frame missing", f"{name}_{labelled:08d}.png")
    half, last = KEPT // 2, max(frames)
    if labelled != last:  # CK+ labels the peak, which is where a sequence ends
        raise Flaw("label not on the last frame", f"{labelled}, and the last is {last}")
    needed = [*range(1, half + 1), *range(last - half + 1, last + 1)]
    missing = [number for number in needed if number not in frames]
    if missing:
        raise Flaw("frame missing at an end", f"{name}_{missing[0]:08d}.png")
    return [frames[number] for number in needed]


def _sum_of_files(files: Iterable[Path]) -> str:
    """One SHA-256 for the names and bytes of some files."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.name} {sha256(file.read_bytes())}\n".encode())
    return whole.hexdigest()


def _sum(found: list[Sequence6], size: int) -> str:
    """One SHA-256 for all that the frames are made from: files, size and rules."""
    rules = f"{VERSION} {size} {KEPT} {FACE} {RISE}\n"
    return sha256((rules + "".join(f"{each.place} {each.sha256}\n" for each in found)).encode())


# --- the frames ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cut:
    """What came of opening the pictures of some sequences."""

    frames: Pixels  # [V, 6, S, S]
    kept: Ints  # [V] number of the sequence
    flaws: dict[int, Flaw]  # by the number of the sequence


def _cut_all(found: list[Sequence6], size: int) -> _Cut:
    frames = np.empty((len(found), KEPT, size, size), np.uint8)
    kept: list[int] = []
    flaws = {}
    for i, sequence in enumerate(found):
        try:
            frames[len(kept)] = cut_video(sequence, size)
            kept.append(i)
        except Flaw as flaw:
            flaws[i] = flaw
    return _Cut(frames[: len(kept)], np.array(kept, dtype=np.int64), flaws)


def cut_video(sequence: Sequence6, size: int) -> Pixels:
    """Open the six frames of a sequence, and cut them to the face: [6, size, size].

    Raises:
        Flaw: when a frame or its landmarks cannot be read, or the frames do not fit together.
    """
    pictures = [_open(file) for file in sequence.frames]
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise Flaw("frames of several sizes", ", ".join(f"{w}×{h}" for w, h in sorted(sizes)))
    if len({_in_colour(picture) for picture in pictures}) > 1:
        raise Flaw("colour beside grey", "within one sequence")
    box = _box(sequence.landmarks, pictures[0].size)
    grey = [picture.convert("L") for picture in pictures]
    cut = [each.resize((size, size), Image.Resampling.BILINEAR, box=box) for each in grey]
    return np.stack([np.asarray(each) for each in cut])


def _open(file: Path) -> Image.Image:
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            picture.load()
    except _UNREADABLE as error:
        raise Flaw("unreadable frame", f"{file.name} ({error})") from error
    if picture.mode not in ("L", "RGB"):
        raise Flaw("unreadable frame", f"{file.name} has mode {picture.mode}, not L or RGB")
    return picture


def _in_colour(picture: Image.Image) -> bool:
    """Whether any pixel is not grey: some greys are stored as red, green and blue."""
    pixels = np.asarray(picture)
    return pixels.ndim == 3 and bool((pixels != pixels[..., :1]).any())


def _box(landmarks: Sequence[Path], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The square to cut out, in pixels: left, top, right, bottom. It lies within the frame."""
    frame = np.array(size)  # width, height
    side, corner = float(frame.min()), (frame - frame.min()) / 2
    if landmarks:
        points = np.concatenate([_points(file, frame) for file in landmarks]) + 0.5
        low, high = points.min(axis=0), points.max(axis=0)
        side = min(FACE * float((high - low).max()), side)
        middle = (low + high) / 2 - (0, RISE * side)
        corner = (middle - side / 2).clip(0, frame - side)
    left, top = corner.tolist()
    return left, top, left + side, top + side


def _points(file: Path, frame: Ints) -> NDArray[np.float64]:
    """Read the landmarks of a frame, columns and rows in pixels: [68, 2]."""
    try:
        lines = file.read_text("ascii").strip().splitlines()
        points = np.array([line.split() for line in lines], dtype=float)
    except (OSError, ValueError) as error:
        raise Flaw("unreadable landmarks", f"{file.name} ({error})") from error
    if points.shape != (POINTS, 2):
        raise Flaw("unreadable landmarks", f"{file.name} holds {points.shape}, not {POINTS} × 2")
    inside = (points > -0.1 * frame) & (points < 1.1 * frame)  # of nan: neither
    if not inside.all() or not (np.ptp(points, axis=0) > 0).all():
        raise Flaw("landmarks off the face", file.name)
    return points


# --- the cache -------------------------------------------------------------------------------


def _to_cache(file: Path, cut: _Cut) -> None:
    """Keep the frames, for their owner alone."""
    flaws = [[i, flaw.kind, flaw.seen] for i, flaw in cut.flaws.items()]
    whole = io.BytesIO()
    np.savez(whole, frames=cut.frames, kept=cut.kept, flaws=np.array(json.dumps(flaws)))
    with optional(file, "DUET_DATA"):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_aside(file, whole.getvalue())


def _from_cache(file: Path, n_found: int, size: int) -> _Cut | None:
    """What is kept; None when there is nothing, or it is damaged, which is said."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            flaws = {i: Flaw(kind, seen) for i, kind, seen in json.loads(str(kept["flaws"]))}
            cut = _Cut(kept["frames"], kept["kept"], flaws)
        if cut.frames.shape != (n_found - len(flaws), KEPT, size, size):
            raise ValueError(f"frames of {cut.frames.shape}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        again = f"{file} is damaged ({error}): the frames are cut again"
        warnings.warn(again, CacheWarning, stacklevel=3)
        return None
    return cut
