"""Intervals that know of other users, other people and other seeds, and what they decide.

Over users, drawn anew, and over seeds, by Student's t (Chapter 7); over seeds of which each tests
other people (Chapter 8).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from data_prep.arguments import check_seed, number, whole

Floats = NDArray[np.float64]

DRAWS = 4000  # of the bootstrap
SHIFTS = 50  # of the seeds, for each draw of users: cheap, and their tails are long
OVERLAP = 1 / 3  # people tested on over people trained on: one fold, and three


@lru_cache(maxsize=2)
def user_draws(n_users: int, draws: int, seed: int) -> Floats:
    """`[draws, U]` how often each user is drawn when U users are drawn with replacement, over U."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_users, np.full(n_users, 1 / n_users), draws) / n_users


def resampled_means(values: Floats, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Means of `values [S, U]` as they might come out with other users and other seeds.

    Users are many: they are drawn with replacement (Efron, 1979). Seeds are few, and three of them
    drawn with replacement spread far too little. So the shift that other seeds would bring is drawn
    from Student's t, as wide as the means of the S seeds say: with users all alike, the interval is
    the t-interval. From one seed nothing can be learnt of seeds: it is then one over users alone.

    The draws depend on S, U and `seed` alone, so that two calls with the same are paired.

    Returns:
        `[draws · SHIFTS]`, or `[draws]` from one seed.

    Raises:
        ValueError: for values that are not `[S, U]`, no draw, or a seed that is none.
    """
    whole(1, draws=draws)
    check_seed(seed)
    if np.ndim(values) != 2 or not np.size(values):
        raise ValueError(f"values are of shape {np.shape(values)}: give [S, U], one at least")
    n_seeds, n_users = values.shape
    means = user_draws(n_users, draws, seed) @ values.mean(0)
    if n_seeds == 1:
        return means
    means = np.repeat(means, SHIFTS)
    rng = np.random.default_rng(seed + 1)
    normal = rng.normal(size=(len(means), n_seeds))
    shift = normal - normal.mean(1, keepdims=True)  # weights that sum to zero
    shift /= np.sqrt(n_seeds * rng.chisquare(n_seeds - 1, (len(means), 1)))
    return means + shift @ values.mean(1)  # shift @ means is t · s / √S


def interval_over_seeds(
    values: Floats, overlap: float = OVERLAP, people_error: float = 0.0
) -> tuple[float, float]:
    """95 % interval of a mean over seeds, Student's t, widened for training people in common.

    NaN for fewer than three seeds: from two, Student's t reaches further than any claim.

    Args:
        people_error: of `error_of_people`; the interval is at least as wide as it asks for.

    Source: Nadeau and Bengio (2003), Section 3; Chapter 8.
    """
    number(0, overlap=overlap, people_error=people_error)
    n = len(values)
    if n < 3:
        return float("nan"), float("nan")
    reach = stdtrit(n - 1, 0.975) * values.std(ddof=1) * np.sqrt(1 / n + overlap)
    reach = max(reach, ndtri(0.975) * people_error)
    return float(values.mean() - reach), float(values.mean() + reach)


class Difference(NamedTuple):
    """How much one method is ahead of another, over the seeds that both have.

    Attributes:
        mean: over seeds and users. low, high: 95 % interval. seeds, users: how many.
        low_all, high_all: the interval so wide that *all* comparisons of the table hold together
            in 95 % of cases (Bonferroni).
    """

    mean: float
    low: float
    high: float
    seeds: int
    users: int
    low_all: float
    high_all: float

    @property
    def verdict(self) -> str:
        """`ahead`, `behind`, `undecided` where the interval holds zero; from one seed none."""
        if self.seeds < 2:
            return "no verdict"
        return "ahead" if self.low > 0 else "behind" if self.high < 0 else "undecided"


class Ahead(NamedTuple):
    """How far one method is ahead of another, over the seeds that both have.

    Attributes:
        mean: of the differences, seed by seed. low, high: 95 % interval. seeds: how many.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> str:
        """`ahead`, `behind`, or `undecided` where the interval holds zero or there is none."""
        return "ahead" if self.low > 0 else "behind" if self.high < 0 else "undecided"
