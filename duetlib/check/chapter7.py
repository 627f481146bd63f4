"""Self-checks for the exercises of chapter 7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
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


def film_as_layer(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Any]) -> Verdict:
    """Exercise 3: FiLM written as a generated layer."""
    generator = torch.Generator().manual_seed(7)
    W = torch.randn(3, 3, generator=generator)  # square, so that a wrong axis has the right shape
    b, gamma, beta = torch.randn(3, 3, generator=generator)
    usual = {
        "wrong_axis": (
            (W * gamma.unsqueeze(1), b * gamma + beta),
            "this scales the inputs of the layer; FiLM scales its outputs, the columns of W",
        ),
        "bias_not_scaled": (
            (W * gamma, b + beta),
            "FiLM scales all that comes out of the layer, and the old bias is part of it",
        ),
        "no_shift": ((W * gamma, b * gamma), "the shift beta is missing"),
    }
    return judge(
        lambda: answer(*(t.clone() for t in (W, b, gamma, beta))),
        (W * gamma, b * gamma + beta),
        usual,
        "right: FiLM generates 2 · N_out numbers a layer, a PPG all of them",
        "multiply out gamma ∘ (x W + b) + beta, and sort by what multiplies x",
    )


def level_for_all(answer: Callable[[int], float]) -> Verdict:
    """Exercise 4: the level of each interval, so that all together hold at 95 %."""
    k = 18
    usual = {
        "chance_of_all": (
            0.95**k,
            "this is the chance that all hold if each is at 95 %: turn the question round",
        ),
        "divided_level": (0.95 / k, "divide the 5 % that may go wrong, not the 95 %"),
        "one_left": (0.05 / k, "this is what may go wrong in each; the level is one less that"),
        "independent": (
            0.95 ** (1 / k),
            "nearly: that needs comparisons that know nothing of each other, but ours share a "
            "base; Bonferroni's 1 - 0.05 / k holds for any",
        ),
    }
    return judge(
        lambda: answer(k),
        1 - 0.05 / k,
        usual,
        "right: eighteen comparisons need intervals of 99.7 % each",
        "the chances that something goes wrong add up to 5 % at most if each is a k-th of that",
    )
