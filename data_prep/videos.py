"""What the readers of faces give: short videos of people as arrays, and splits by person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from data_prep.arguments import whole
from data_prep.sources import DataError

# The eight classes. From 1 on they are CK+'s own codes; a video's first frames are neutral.
CLASSES = (
    "neutral",
    "anger",
    "contempt",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
)
# How CK+ is made up: Lucey et al. 2010, and Section 4.1.1 of the paper.
COUNTS = {
    "anger": 45,
    "contempt": 18,
    "disgust": 59,
    "fear": 25,
    "happiness": 69,
    "sadness": 28,
    "surprise": 83,
}
SUBJECTS = 123
LABELLED_SUBJECTS = 118
SEQUENCES = 593
DRAWN = "DRAWN_FACES.txt"  # marks a folder in CK+'s layout as ours
MOST_SEED_OF_FOLDS = 2**32 - 1  # all that scikit-learn takes
KEPT = 6  # frames of a video: the first three are neutral, the last three show the emotion

Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, repr=False)
class Videos:
    """V videos of T = 6 frames each: three neutral ones, then three of the video's emotion.

    `label` names the data set, and says so when it is a stand-in or not whole: results made from
    it carry the label. `sha256` stands for all that the frames were made from. `skipped` counts
    the sequences that were left out, by what was wrong with them. Whatever draws frames takes
    them from `pictures`. Chapter 8, Section 4.1.1.
    """

    frames: Pixels  # [V, T, S, S] grey, or [V, T, 3, S, S] red green blue
    emotion: Ints  # [V, T] an index into CLASSES for each frame
    subject: Ints  # [V] in 1..n_subjects; who it is, renumbered: no id of a data set is kept
    n_subjects: int
    label: str
    sha256: str
    skipped: Mapping[str, int] = field(default_factory=dict)
    licensed: bool = False  # the frames may be trained on, and shown to nobody

    def __len__(self) -> int:
        return len(self.subject)

    def pictures(self) -> Pixels:
        """The frames, to be drawn.

        Raises:
            DataError: when their licence forbids that.
        """
        if self.licensed:
            raise DataError(
                f"{self.label}: its licence lets nobody show a frame, a crop or a montage. "
                "Draw load_faces() instead"
            )
        return self.frames

    def __repr__(self) -> str:
        size = " × ".join(map(str, self.frames.shape[2:]))
        text = (
            f"{self.label}: {len(self):,} videos of {self.n_subjects:,} people, "
            f"{self.emotion.shape[1]} frames of {size}, SHA-256 {self.sha256[:12]}"
        )
        left_out = ", ".join(f"{count} {kind}" for kind, count in self.skipped.items())
        return f"{text}; left out: {left_out}" if left_out else text


class Split(NamedTuple):
    """Row numbers of videos; no person stands in two of the three."""

    train: Ints
    validation: Ints
    test: Ints


def frame_emotions(emotion: Ints) -> Ints:
    """The class of each kept frame [V, 6], from that of each video [V]."""
    return np.where(np.arange(KEPT) < KEPT // 2, 0, emotion[:, None])


def folds(videos: Videos, n_folds: int = 5, seed: int = 0) -> Ints:
    """Deal the people out to folds, with the emotions spread evenly as far as that goes.

    Returns:
        [V] the fold of each video, from 0 to n_folds - 1. All videos of a person are in one fold.

    Raises:
        ValueError: when there are fewer people than folds, or the seed is none.
    """
    whole(2, videos.n_subjects, n_folds=n_folds)
    whole(0, MOST_SEED_OF_FOLDS, seed=seed)
    # Shuffled here: before 1.8, scikit-learn mixes up people's counts of emotions as it shuffles.
    people, who = np.unique(videos.subject, return_inverse=True)
    place = np.random.RandomState(seed).permutation(len(people)).argsort()
    fold = np.zeros(len(videos), dtype=np.int64)
    dealer = StratifiedGroupKFold(n_folds)
    pairs = dealer.split(videos.subject, videos.emotion[:, -1], groups=place[who])
    for number, (_, rows) in enumerate(pairs):
        fold[rows] = number
    return fold


def split(videos: Videos, fold: int = 0, n_folds: int = 5, seed: int = 0) -> Split:
    """Test on one fold, validate on the next, train on the others.

    Raises:
        ValueError: when there is no such fold, or nothing would be left to train on.
    """
    whole(3, n_folds=n_folds)
    whole(0, n_folds - 1, fold=fold)
    of_video = folds(videos, n_folds, seed)
    parts = of_video == fold, of_video == (fold + 1) % n_folds
    rest = ~(parts[0] | parts[1])
    return Split(*(np.flatnonzero(part) for part in (rest, parts[1], parts[0])))
