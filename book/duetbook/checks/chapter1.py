"""Self-checks for the exercises of chapter 1."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from duetbook.checks.verdict import Arguments, Verdict, draws, judge
from duetlib.beyond.drift import jensen_shannon as js_bits

Clicks = list[int]
Rows = list[tuple[int, int]]


def history(answer: Callable[..., Any]) -> Verdict:
    """Exercise 1: `f(clicks, position, length)` gives the padded history of one target."""

    def short(rng: random.Random) -> Arguments:
        return rng.sample(range(1, 90), 9), rng.randint(2, 4), rng.randint(5, 6)

    def long(rng: random.Random) -> Arguments:
        return rng.sample(range(1, 90), 10), rng.randint(6, 8), rng.randint(3, 4)

    def pad(found: Clicks, length: int) -> Clicks:
        return found[:length] + [0] * (length - len(found))

    def before(clicks: Clicks, position: int, length: int) -> Clicks:
        return clicks[max(0, position - length) : position]

    return judge(
        answer,
        [*draws(short), *draws(long)],
        lambda c, p, n: pad(before(c, p, n), n),
        {
            "leak": (
                lambda c, p, n: pad(before(c, p + 1, n), n),
                "the target itself is in its history: stop one click before it",
            ),
            "left_padded": (
                lambda c, p, n: [0] * (n - p) + before(c, p, n),
                "the zeros belong on the right",
            ),
            "oldest": (
                lambda c, p, n: pad(c[:p], n),
                "of a long history the last clicks are kept, not the first ones",
            ),
            "negative": (
                lambda c, p, n: pad(c[p - n : p], n),
                "a slice that starts below 0 counts from the end: start at "
                "max(0, position - length)",
            ),
            "not_padded": (before, "short histories are filled with 0 up to `length`"),
        },
        praise="right: only what came before, the newest `length` of it, zeros on the right",
        otherwise="not yet: take the `length` clicks right before the target, then fill with 0",
        edges=[([8, 3, 5, 1], 0, 3), ([8, 3, 5, 1], 3, 3), ([8, 3, 5, 1], 2, 1)],
    )


ROWS = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 3), (4, 3), (4, 4), (4, 5)]


def _core(rows: Rows, k: int, rounds: int = 99, sides: tuple[int, ...] = (0, 1)) -> Rows:
    """`rounds` passes of a naive k-core that looks at the given sides (0 user, 1 item)."""
    for _ in range(rounds):
        columns = {side: [row[side] for row in rows] for side in sides}
        rows = [r for r in rows if all(columns[s].count(r[s]) >= k for s in sides)]
    return rows


def k_core(answer: Callable[..., Any]) -> Verdict:
    """Exercise 2: `f(rows, k)` keeps the (user, item) rows of the k-core, in their order."""

    def one(rng: random.Random) -> Arguments:
        return rng.sample([(u, i) for u in range(1, 9) for i in range(1, 11)], 30), 3

    return judge(
        answer,
        [(ROWS, 2), *draws(one)],
        _core,
        {
            "once": (
                lambda rows, k: _core(rows, k, 1),
                "that is one pass: dropping a row took another user or item below k. Repeat",
            ),
            "users_only": (
                lambda rows, k: _core(rows, k, sides=(0,)),
                "items need k rows too, not only users",
            ),
            "items_only": (
                lambda rows, k: _core(rows, k, sides=(1,)),
                "users need k rows too, not only items",
            ),
            "more_than_k": (
                lambda rows, k: _core(rows, k + 1),
                "exactly k rows are enough: use >=, not >",
            ),
        },
        praise="right: it takes several passes, because a dropped row can pull others below k",
        otherwise="not yet: keep rows whose user and item both have at least k rows, and repeat",
        edges=[(ROWS, 1), (ROWS, 4)],  # all stay, none stays
    )


def jensen_shannon(answer: Callable[..., Any]) -> Verdict:
    """Exercise 3: `f(p, q)` gives the divergence of two tensors in bits."""

    def one(rng: random.Random) -> Arguments:
        n = rng.randint(3, 6)
        p, q = (torch.tensor([rng.uniform(0.1, 2) for _ in range(n)]) for _ in range(2))
        return p / p.sum(), q / q.sum()

    def right(p: Tensor, q: Tensor) -> float:
        return float(js_bits(p.double().numpy(), q.double().numpy()))

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a * torch.log2(a / b)).sum()

    return judge(
        answer,
        draws(one),
        right,
        {
            "nan": (
                lambda p, q: (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2,
                "not a number: 0 · log 0 counts as 0, so keep zeros out of the log",
            ),
            "nats": (
                lambda p, q: right(p, q) * math.log(2),
                "those are nats: take the logarithm to base 2",
            ),
            "distance": (
                lambda p, q: right(p, q) ** 0.5,
                "that is the distance: the divergence has no square root",
            ),
            "not_halved": (lambda p, q: 2 * right(p, q), "weigh each side by one half"),
            "kl": (kl, "that compares p with q: compare both with (p + q) / 2"),
            "one_sided": (
                lambda p, q: kl(p, (p + q) / 2),
                "that is p's side alone: q has a side of its own",
            ),
        },
        praise="right: with the mixture in the middle, it lies between 0 and 1 bit",
        otherwise="not yet: entropy of the mixture, less the mean of the two entropies",
        edges=[
            (torch.tensor([0.5, 0.3, 0.2, 0.0, 0.0]), torch.tensor([0.0, 0.1, 0.4, 0.5, 0.0])),
            (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])),  # apart: a whole bit
        ],
    )


def negatives(answer: Callable[..., Any]) -> Verdict:
    """Exercise 4: `f(n_items, clicks, per_positive)` gives (films to draw from, draws an epoch)."""

    def one(rng: random.Random) -> Arguments:
        n_items = rng.randint(40, 80)
        clicks = rng.sample(range(1, n_items + 1), rng.randint(6, 12))
        return n_items, clicks, rng.randint(2, 7)

    def off(pool: int, targets: int) -> Callable[[int, Clicks, int], tuple[int, int]]:
        """So many films and targets too many."""
        return lambda n, clicks, each: (n - len(clicks) + pool, each * (len(clicks) - 3 + targets))

    return judge(
        answer,
        draws(one, 3),
        off(0, 0),
        {
            "leak": (
                off(2, 0),
                "validation and test targets would be called wrong answers in training: leave out "
                "every film that the user has in any part",
            ),
            "padding": (off(1, 0), "id 0 is padding, and never a candidate"),
            "first_click": (
                off(0, 1),
                "the first click has no history, so it is no training target",
            ),
            "held_out": (
                off(0, 2),
                "the last two clicks are for validation and testing, not for training",
            ),
        },
        praise="right: held-out films are never drawn, and the first click is no target",
        otherwise="not yet: films that the user has in no part, and n for each training target",
        edges=[(20, [7, 2, 9], 4)],  # no training target
    )
