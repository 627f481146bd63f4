"""Self-checks for the exercises of chapter 7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from .verdict import Verdict, judge


def share_kept(answer: Callable[[float, float, float], float]) -> Verdict:
    """Exercise 1: how much of a gain a control keeps."""
    base, control, whole = 0.880, 0.895, 0.905
    usual = {
        "ratio_of_levels": (
            control / whole,
            "this is a ratio of two AUCs; what is asked for is a ratio of two gains over the base",
        ),
        "lost": ((whole - control) / (whole - base), "this is the share that is lost, not kept"),
        "upside_down": (
            (whole - base) / (control - base),
            "the ratio is upside down: the control's gain goes above the line",
        ),
        "not_divided": (control - base, "this is the control's gain; divide it by the whole one"),
    }
    return judge(
        lambda: answer(base, control, whole),
        (control - base) / (whole - base),
        usual,
        "right: the base is 0, the whole is 1, and a control may lie outside both",
        "subtract the base from both, then divide the control's gain by the whole one",
    )


def redraw(answer: Callable[[Tensor, Tensor, Tensor], Any]) -> Verdict:
    """Exercise 2: the mean over drawn seeds and drawn users."""
    d = torch.arange(16.0).view(4, 4) ** 2 / 32  # [S, U]
    seeds, users = torch.tensor([0, 3, 3, 1]), torch.tensor([2, 2, 0, 3])
    right = float(d[seeds][:, users].mean())
    usual = {
        "pairs": (
            float(d[seeds, users].mean()),
            "`d[seeds, users]` takes the first seed with the first user, the second with the "
            "second, and so on; every drawn seed is wanted with every drawn user",
        ),
        "no_repeats": (
            float(d[seeds.unique()][:, users.unique()].mean()),
            "who is drawn twice counts twice: do not drop the repeats",
        ),
        "users_only": (float(d[:, users].mean()), "the seeds were not drawn"),
        "seeds_only": (float(d[seeds].mean()), "the users were not drawn"),
    }
    return judge(
        lambda: answer(d.clone(), seeds.clone(), users.clone()),
        right,
        usual,
        "right: rows first, then columns, each as often as it was drawn",
        "take the drawn rows, of these the drawn columns, then the mean of all numbers",
    )


def film_before(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Any]) -> Verdict:
    """Exercise 3: FiLM in front of a layer, written as one layer."""
    generator = torch.Generator().manual_seed(7)
    W = torch.randn(3, 3, generator=generator)  # square, so that a wrong axis has the right shape
    b, gamma, beta = torch.randn(3, 3, generator=generator)
    rows = gamma.unsqueeze(1) * W
    usual = {
        "behind": (
            (W * gamma, b * gamma + beta),
            "that is FiLM behind the layer; here it scales what goes in",
        ),
        "columns": (
            (W * gamma, beta @ W + b),
            "this scales the outputs of the layer; its inputs meet the rows of W",
        ),
        "beta_outside": (
            (rows, b + beta),
            "beta goes in with x, so W multiplies it too",
        ),
        "transposed": ((rows, W @ beta + b), "beta stands where x stood: on the left of W"),
        "no_shift": ((rows, b), "with x at zero, beta still goes through W"),
    }
    return judge(
        lambda: answer(*(t.clone() for t in (W, b, gamma, beta))),
        (rows, beta @ W + b),
        usual,
        "right: FiLM is a generated layer on either side, with 2 · N numbers to generate",
        "multiply out (gamma ∘ x + beta) W + b, and sort by what multiplies x",
    )


def wider(answer: Callable[[int, int], float]) -> Verdict:
    """Exercise 4: how much longer an interval gets, so that k of them hold together at 95 %."""
    k, n_seeds = 15, 5

    def ratio(quantile: Callable[[float], float], each: float = 0.025 / k) -> float:
        return float(quantile(1 - each) / quantile(0.975))

    def t(df: int) -> Callable[[float], float]:
        return lambda p: stats.t.ppf(p, df)

    usual = {
        "normal": (
            ratio(stats.norm.ppf),
            "that is the normal distribution; with a few seeds its tails are far too short",
        ),
        "degrees": (
            ratio(t(n_seeds)),
            "one degree of freedom went into the mean: S seeds leave S - 1",
        ),
        "one_sided": (
            float(stats.t.ppf(1 - 0.05 / k, n_seeds - 1) / stats.t.ppf(0.95, n_seeds - 1)),
            "an interval may fail on either side: half of each chance belongs to one",
        ),
        "not_divided": (
            float(stats.t.ppf(1 - 0.025 / k, n_seeds - 1)),
            "that is the quantile for k comparisons; divide it by the one for a single comparison",
        ),
        "independent": (
            ratio(t(n_seeds - 1), (1 - 0.95 ** (1 / k)) / 2),
            "nearly: that needs comparisons that know nothing of each other, but ours share a "
            "base; Bonferroni's 5 % / k holds for any",
        ),
    }
    return judge(
        lambda: answer(k, n_seeds),
        ratio(t(n_seeds - 1)),
        usual,
        "right: with few seeds the price is high, for Student's t has long tails",
        "a quantile at 1 - 0.025 / k over the one at 0.975, both with S - 1 degrees of freedom",
    )
