"""Metrics of a classifier of videos, from numbers of frames alone. Chapter 8."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.videos import CLASSES

N_CLASSES = len(CLASSES)


def rates(right: NDArray[Any], frames: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Metrics from numbers of frames by true class, along any leading axes.

    Args:
        right, frames: `[..., K]` classified right, and in all; whole numbers, or weighted sums of
            people's numbers (a bootstrap's).

    Returns:
        `[...]` each: `accuracy`; `majority`, that of always naming the commonest class;
        `balanced_accuracy`, the mean recall of the classes that are there; `apex_accuracy`, over
        frames that are not neutral, a video's last three; `recall_…` of each class.

    Raises:
        ValueError: if the two are not of one shape, with the eight classes last.
    """
    right, frames = np.asarray(right, float), np.asarray(frames, float)
    if right.shape != frames.shape or frames.shape[-1:] != (N_CLASSES,):
        raise ValueError(
            f"right is of shape {right.shape}, frames of {frames.shape}: "
            f"both must be [..., {N_CLASSES}]"
        )
    there = frames > 0
    recall = np.divide(right, frames, out=np.full(frames.shape, np.nan), where=there)
    total = frames.sum(-1)
    return {
        "accuracy": right.sum(-1) / total,
        "majority": frames.max(-1) / total,
        "balanced_accuracy": np.where(there, recall, 0).sum(-1) / there.sum(-1),
        "apex_accuracy": right[..., 1:].sum(-1) / frames[..., 1:].sum(-1),
        **{f"recall_{name}": recall[..., k] for k, name in enumerate(CLASSES)},
    }
