"""Self-checks for the exercises of chapter 7."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from duetbook.checks.verdict import Arguments, Verdict, draws, judge, normal


def share_kept(answer: Callable[[float, float, float], float]) -> Verdict:
    """Exercise 1: how much of a gain a control keeps."""

    def one(rng: random.Random) -> Arguments:
        base = rng.uniform(0.80, 0.85)
        return base, base + rng.uniform(0.01, 0.02), base + rng.uniform(0.03, 0.05)

    return judge(
        answer,
        draws(one),
        lambda base, control, whole: (control - base) / (whole - base),
        {
            "ratio_of_levels": (
                lambda base, control, whole: control / whole,
                "this is a ratio of two AUCs; what is asked for is a ratio of two gains over the "
                "base",
            ),
            "lost": (
                lambda base, control, whole: (whole - control) / (whole - base),
                "this is the share that is lost, not kept",
            ),
            "upside_down": (
                lambda base, control, whole: (whole - base) / (control - base),
                "the ratio is upside down: the control's gain goes above the line",
            ),
            "not_divided": (
                lambda base, control, whole: control - base,
                "this is the control's gain; divide it by the whole one",
            ),
        },
        "right: the base is 0, the whole is 1, and a control may lie outside both",
        "subtract the base from both, then divide the control's gain by the whole one",
        edges=[(0.875, 0.75, 0.9375), (0.75, 0.9375, 0.875)],  # below the base, above the whole
    )


def redraw(answer: Callable[[Tensor, Tensor, Tensor], Any]) -> Verdict:
    """Exercise 2: the mean over drawn seeds and drawn users."""

    def one(rng: random.Random, S: int = 5, U: int = 5) -> Arguments:
        seeds, users = (torch.tensor(rng.choices(range(n), k=n)) for n in (S, U))
        return normal(rng, S, U), seeds, users

    return judge(
        answer,
        draws(one),  # as many seeds as users, so that a wrong pairing gives a number
        lambda d, seeds, users: d[seeds][:, users].mean(),
        {
            "pairs": (
                lambda d, seeds, users: d[seeds, users].mean(),
                "`d[seeds, users]` takes the first seed with the first user, the second with the "
                "second, and so on; every drawn seed is wanted with every drawn user",
            ),
            "no_repeats": (
                lambda d, seeds, users: d[seeds.unique()][:, users.unique()].mean(),
                "who is drawn twice counts twice: do not drop the repeats",
            ),
            "users_only": (lambda d, seeds, users: d[:, users].mean(), "the seeds were not drawn"),
            "seeds_only": (lambda d, seeds, users: d[seeds].mean(), "the users were not drawn"),
        },
        "right: rows first, then columns, each as often as it was drawn",
        "take the drawn rows, of these the drawn columns, then the mean of all numbers",
        edges=draws(lambda rng: one(rng, 4, 7), 1),
    )


def film_before(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Any]) -> Verdict:
    """Exercise 3: FiLM in front of a layer, written as one layer."""

    def one(rng: random.Random, n_in: int = 3, n_out: int = 3) -> Arguments:
        return normal(rng, n_in, n_out), normal(rng, n_out), normal(rng, n_in), normal(rng, n_in)

    def rows(W: Tensor, gamma: Tensor) -> Tensor:
        return gamma.unsqueeze(1) * W

    return judge(
        answer,
        draws(one),  # square, so that a wrong axis has the right shape
        lambda W, b, gamma, beta: (rows(W, gamma), beta @ W + b),
        {
            "behind": (
                lambda W, b, gamma, beta: (W * gamma, b * gamma + beta),
                "that is FiLM behind the layer; here it scales what goes in",
            ),
            "columns": (
                lambda W, b, gamma, beta: (W * gamma, beta @ W + b),
                "this scales the outputs of the layer; its inputs meet the rows of W",
            ),
            "beta_outside": (
                lambda W, b, gamma, beta: (rows(W, gamma), b + beta),
                "beta goes in with x, so W multiplies it too",
            ),
            "transposed": (
                lambda W, b, gamma, beta: (rows(W, gamma), W @ beta + b),
                "beta stands where x stood: on the left of W",
            ),
            "no_shift": (
                lambda W, b, gamma, beta: (rows(W, gamma), b),
                "with x at zero, beta still goes through W",
            ),
        },
        "right: FiLM is a generated layer on either side, with 2 · N numbers to generate",
        "multiply out (gamma ∘ x + beta) W + b, and sort by what multiplies x",
        edges=draws(lambda rng: one(rng, 4, 2), 1),
    )


def wider(answer: Callable[[int, int], float]) -> Verdict:
    """Exercise 4: how much longer an interval gets, so that k of them hold together at 95 %."""

    def one(rng: random.Random) -> Arguments:
        return rng.randint(5, 20), rng.randint(3, 9)

    def t(p: float, df: int) -> float:
        return float(stats.t.ppf(p, df))

    return judge(
        answer,
        [(15, 5), *draws(one)],
        lambda k, n: t(1 - 0.025 / k, n - 1) / t(0.975, n - 1),
        {
            "normal": (
                lambda k, n: float(stats.norm.ppf(1 - 0.025 / k) / stats.norm.ppf(0.975)),
                "that is the normal distribution; with a few seeds its tails are far too short",
            ),
            "degrees": (
                lambda k, n: t(1 - 0.025 / k, n) / t(0.975, n),
                "one degree of freedom went into the mean: S seeds leave S - 1",
            ),
            "one_sided": (
                lambda k, n: t(1 - 0.05 / k, n - 1) / t(0.95, n - 1),
                "an interval may fail on either side: half of each chance belongs to one",
            ),
            "not_divided": (
                lambda k, n: t(1 - 0.025 / k, n - 1),
                "that is the quantile for k comparisons; divide it by the one for a single "
                "comparison",
            ),
            "independent": (
                lambda k, n: t((1 + 0.95 ** (1 / k)) / 2, n - 1) / t(0.975, n - 1),
                "nearly: that needs comparisons that know nothing of each other, but ours share a "
                "base; Bonferroni's 5 % / k holds for any",
            ),
        },
        "right: with few seeds the price is high, for Student's t has long tails",
        "a quantile at 1 - 0.025 / k over the one at 0.975, both with S - 1 degrees of freedom",
        edges=[(1, 4)],
    )
