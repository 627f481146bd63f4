"""Self-checks for the exercises of chapter 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..drift import jensen_shannon as js_bits
from .verdict import Verdict, judge


def history(answer: Callable[..., Any]) -> Verdict:
    """Exercise 1: `f(clicks, position, length)` gives the padded history of one target."""
    clicks = [2, 1, 4, 3, 7]

    def given() -> Any:
        short = answer(list(clicks), 2, 4)
        return None if short is None else [short, answer(list(clicks), 4, 3)]

    return judge(
        given,
        right=[[2, 1, 0, 0], [1, 4, 3]],
        usual={
            "leak": (
                [[2, 1, 4, 0], [4, 3, 7]],
                "the target itself is in its history: stop one click before it",
            ),
            "left_padded": ([[0, 0, 2, 1], [1, 4, 3]], "the zeros belong on the right"),
            "oldest": (
                [[2, 1, 0, 0], [2, 1, 4]],
                "of a long history the last clicks are kept, not the first ones",
            ),
            "negative": (
                [[0, 0, 0, 0], [1, 4, 3]],
                "a slice that starts below 0 counts from the end: start at "
                "max(0, position - length)",
            ),
            "not_padded": ([[2, 1], [1, 4, 3]], "short histories are filled with 0 up to `length`"),
        },
        praise="right: only what came before, the newest `length` of it, zeros on the right",
        otherwise="not yet: take the `length` clicks right before the target, then fill with 0",
    )


ROWS = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 3), (4, 3), (4, 4), (4, 5)]


def _core(rows: list[tuple[int, int]], k: int, rounds: int, sides: tuple[int, ...]) -> Any:
    """`rounds` passes of a naive k-core that looks at the given sides (0 user, 1 item)."""
    for _ in range(rounds):
        columns = {side: [row[side] for row in rows] for side in sides}
        rows = [r for r in rows if all(columns[s].count(r[s]) >= k for s in sides)]
    return rows


def k_core(answer: Callable[..., Any]) -> Verdict:
    """Exercise 2: `f(rows, k)` keeps the (user, item) rows of the k-core, in their order."""

    def given() -> Any:
        rows = answer(list(ROWS), 2)
        return rows if rows is None else [tuple(row) for row in rows]

    return judge(
        given,
        right=_core(ROWS, 2, len(ROWS), (0, 1)),
        usual={
            "once": (
                _core(ROWS, 2, 1, (0, 1)),
                "that is one pass: dropping a row took another user or item below k. Repeat",
            ),
            "users_only": (_core(ROWS, 2, 9, (0,)), "items need k rows too, not only users"),
            "more_than_k": (
                _core(ROWS, 3, len(ROWS), (0, 1)),
                "exactly k rows are enough: use >=, not >",
            ),
        },
        praise="right: it takes several passes, because a dropped row can pull others below k",
        otherwise="not yet: keep rows whose user and item both have at least k rows, and repeat",
    )


def jensen_shannon(answer: Callable[..., Any]) -> Verdict:
    """Exercise 3: `f(p, q)` gives the divergence of two tensors in bits."""
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.25, 0.5])
    middle = (p + q) / 2
    right = float(js_bits(p.double().numpy(), q.double().numpy()))

    def kl(a: Tensor, b: Tensor) -> float:
        return float((a[:2] * torch.log2(a[:2] / b[:2])).sum())

    return judge(
        lambda: answer(p, q),
        right=right,
        usual={
            "nan": (math.nan, "not a number: 0 · log 0 counts as 0, so keep zeros out of the log"),
            "nats": (right * math.log(2), "those are nats: take the logarithm to base 2"),
            "distance": (right**0.5, "that is the distance: the divergence has no square root"),
            "not_halved": (2 * right, "weigh each side by one half"),
            "kl": (kl(p, q), "that compares p with q: compare both with (p + q) / 2"),
            "one_sided": (kl(p, middle), "that is p's side alone: q has a side of its own"),
        },
        praise="right: with the mixture in the middle, it lies between 0 and 1 bit",
        otherwise="not yet: entropy of the mixture, less the mean of the two entropies",
    )


def negatives(answer: Callable[..., Any]) -> Verdict:
    """Exercise 4: `f(n_items, clicks, per_positive)` gives (films to draw from, draws an epoch)."""
    n_items, clicks, each = 50, [4, 9, 2, 7, 1, 30, 12, 5], 4
    pool, targets = n_items - len(clicks), len(clicks) - 3
    return judge(
        lambda: answer(n_items, list(clicks), each),
        right=(pool, each * targets),
        usual={
            "leak": (
                (pool + 2, each * targets),
                "validation and test targets would be called wrong answers in training: leave out "
                "every film that the user has in any part",
            ),
            "padding": ((pool + 1, each * targets), "id 0 is padding, and never a candidate"),
            "first_click": (
                (pool, each * (targets + 1)),
                "the first click has no history, so it is no training target",
            ),
            "held_out": (
                (pool, each * (targets + 2)),
                "the last two clicks are for validation and testing, not for training",
            ),
        },
        praise="right: held-out films are never drawn, and the first click is no target",
        otherwise="not yet: films that the user has in no part, and n for each training target",
    )
