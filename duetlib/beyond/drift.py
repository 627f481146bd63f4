"""Drift: how far a user's taste moves from one stretch of clicks to the next.

Chapter 1 cuts every user's clicks into windows, describes a window by its genres, and measures how
far consecutive windows lie apart. Two windows never agree exactly, so the measure means something
only beside the same clicks in shuffled order. Arrays hold one row for each click, sorted by user.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_prep.arguments import check_seed, number, whole

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def in_full_window(user: Ints, width: int) -> Bools:
    """Mark the clicks that fill whole windows of `width`: the last few of a user may not.

    Args:
        user: `[N]` sorted. width: clicks in a window.

    Returns:
        `[N]` bool; every user has a multiple of `width` clicks marked.

    Raises:
        ValueError: if `width` is below 1 or above all histories, or `user` is not sorted.
    """
    whole(1, width=width)
    if (np.diff(user) < 0).any():
        raise ValueError("the clicks are not sorted by user: sort them by user and time first")
    if len(user) and np.bincount(user).max() < width:
        raise ValueError(f"nobody has {width} clicks: take a shorter window")
    _, start, number, count = np.unique(
        user, return_index=True, return_inverse=True, return_counts=True
    )
    position = np.arange(len(user)) - start[number]  # place of a click among its user's
    return position < (count // width * width)[number]


def genre_windows(user: Ints, item: Ints, genres: Bools, width: int) -> tuple[Floats, Ints]:
    """Cut every user's clicks into windows, one after the other, and average their genres.

    Each click counts once, shared equally among its film's genres. Clicks past a user's last whole
    window are left out.

    Args:
        user: `[N]` sorted. item: `[N]` in order of time. genres: `[n_items + 1, G]`.
        width: clicks in a window.

    Returns:
        `[R, G]` the genre distribution of each window, a row sums to 1; and `[R]` whose it is.

    Raises:
        ValueError: if there are no genres, or a film that was clicked has none; and as
            `in_full_window`.

    Source: Chapter 1.
    """
    if not genres.shape[1]:
        raise ValueError("there are no genres: load the ratings with their item file beside them")
    per_film = genres.sum(1, keepdims=True)  # [n_items + 1, 1]
    if (per_film[item] == 0).any():
        raise ValueError(f"item {item[(per_film[item] == 0).ravel()][0]} has no genre")
    share = genres / np.maximum(per_film, 1)  # [n_items + 1, G]
    full = in_full_window(user, width)
    windows = share[item[full]].reshape(-1, width, genres.shape[1]).mean(1)  # [R, G]
    return windows, user[full][::width]


def entropy(p: Floats) -> Floats:
    """Shannon entropy in bits of the distributions in the last axis: `[..., G]` to `[...]`."""
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(-1)  # 0 log 0 = 0


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon divergence in bits: 0 for equal distributions, 1 for disjoint ones.

    The entropy of the mixture less the mean of the two entropies.

    Args:
        p, q: `[..., G]`, the last axis sums to 1.

    Returns:
        `[...]`.

    Source: Chapter 1.
    """
    mixture = (p + q) / 2
    gap = entropy(mixture) - (entropy(p) + entropy(q)) / 2
    return np.clip(gap, 0.0, 1.0)  # rounding alone can leave this range


def window_drift(windows: Floats, owner: Ints) -> tuple[Floats, Ints]:
    """Mean divergence between a user's consecutive windows.

    Args:
        windows: `[R, G]` and owner: `[R]`, from `genre_windows`.

    Returns:
        `[U]` bits, for the users with two windows or more; and `[U]` who they are.
    """
    step = jensen_shannon(windows[:-1], windows[1:])  # [R - 1], some of them between two users
    same = owner[:-1] == owner[1:]
    users, number = np.unique(owner[:-1][same], return_inverse=True)
    return np.bincount(number, step[same]) / np.bincount(number), users


def shuffled_drift(
    user: Ints,
    item: Ints,
    genres: Bools,
    width: int,
    *,
    time: Ints | None = None,
    n_shuffles: int = 200,
    seed: int = 0,
) -> Floats:
    """`window_drift` of the same clicks in random order: what windows differ by without any drift.

    The clicks that fill whole windows are shuffled within each user, all users at once, so that a
    user keeps every click and loses only their order.

    Args:
        user, item, genres, width: as in `genre_windows`. n_shuffles: S, how often. seed: of the
            shuffles. time: `[N]` seconds; if given, neighbouring clicks of the same second stay
            together, and only such groups are shuffled.

    Returns:
        `[S, U]` bits, the columns in the order of `window_drift`.

    Source: Chapter 1.
    """
    whole(1, n_shuffles=n_shuffles)
    check_seed(seed)
    rng = np.random.default_rng(seed)
    full = in_full_window(user, width)
    user, item = user[full], item[full]
    group = np.arange(len(user))
    if time is not None:
        new = (np.diff(user) != 0) | (np.diff(time[full]) != 0)
        group = np.concatenate([[0], np.cumsum(new)])
    drift = []
    for _ in range(n_shuffles):
        # Users are whole numbers and the rest is below 1: users stay in order, their groups do not.
        order = np.argsort(user + rng.random(group[-1] + 1)[group], kind="stable")
        windows, owner = genre_windows(user, item[order], genres, width)
        drift.append(window_drift(windows, owner)[0])
    return np.stack(drift)


def bootstrap_interval(
    values: Floats, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean: draw as many values anew, with replacement.

    Args:
        values: `[U]`, one for each user. level: of the interval. n_resamples, seed: of the draws.

    Returns:
        its lower and its upper end.

    Raises:
        ValueError: if there are no values or they are not [U], and for a level, a number of draws
            or a seed that cannot be.

    Source: Chapter 1.
    """
    number(0, 1, above=True, level=level)
    whole(1, n_resamples=n_resamples)
    check_seed(seed)
    if not len(values):
        raise ValueError("no values to draw from")
    if np.ndim(values) != 1:
        raise ValueError(f"values are of shape {np.shape(values)}: give one for each user, [U]")
    draws = np.random.default_rng(seed).integers(len(values), size=(n_resamples, len(values)))
    means = np.asarray(values)[draws].mean(1)  # [n_resamples]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
