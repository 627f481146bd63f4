"""Self-checks for the exercises of chapter 3."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from duetbook.checks.verdict import Arguments, Verdict, draws, judge, normal


def _mask(rng: random.Random, B: int, L: int) -> Tensor:
    """`[B, L]`, right-padded: the first history is full, no two are equally long."""
    n = torch.tensor([L, *rng.sample(range(1, L), B - 1)])
    return torch.arange(L) < n.unsqueeze(1)


def masked_mean(answer: Callable[..., Any]) -> Verdict:
    """Exercise 1: `f(clicks, mask)` gives the mean of the real clicks, `[B, D]`."""

    def one(rng: random.Random, B: int | None = None) -> Arguments:
        L, D = rng.sample(range(5, 9), 2)
        B = B or rng.randint(3, 4)
        # What stands at padding is not zero here, so that a forgotten mask shows.
        return normal(rng, B, L, D), _mask(rng, B, L)

    def total(clicks: Tensor, mask: Tensor) -> Tensor:
        return (clicks * mask.unsqueeze(-1)).sum(1)  # [B, D]

    def count(mask: Tensor) -> Tensor:
        return mask.sum(1, keepdim=True)  # [B, 1]

    return judge(
        answer,
        draws(one),
        lambda clicks, mask: total(clicks, mask) / count(mask),
        {
            "no_mask": (
                lambda clicks, mask: clicks.mean(1),
                "padding is in the mean: use the mask in the sum too",
            ),
            "divided_by_length": (
                lambda clicks, mask: total(clicks, mask) / mask.shape[1],
                "the sum is right, but divided by L: divide by how many clicks are real",
            ),
            "sum_of_all": (
                lambda clicks, mask: clicks.sum(1) / count(mask),
                "the count is right, but padding is in the sum",
            ),
            "no_division": (total, "that is the sum: divide it by how many clicks are real"),
        },
        praise="right: the mask decides both what is summed and what it is divided by",
        otherwise="not yet: sum the real clicks over dimension 1, then divide by their number",
        edges=draws(lambda rng: one(rng, B=1), 1),
    )


def visible(answer: Callable[..., Any]) -> Verdict:
    """Exercise 2: `f(mask)` gives `[B, L, L]`, True where row t may look at column s."""

    def one(rng: random.Random) -> Arguments:
        return (_mask(rng, 3, rng.randint(4, 6)),)

    def causal(mask: Tensor, diagonal: int = 0) -> Tensor:
        L = mask.shape[1]
        return torch.ones(len(mask), L, L, dtype=torch.bool).tril(diagonal)

    def right(mask: Tensor) -> Tensor:
        seen = causal(mask) & mask.unsqueeze(1)
        itself = torch.eye(mask.shape[1], dtype=torch.bool)
        return torch.where(seen.any(2, keepdim=True), seen, itself)

    full, none = torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.bool)
    late = torch.tensor([[False, False, True, True]])  # padded on the left
    return judge(
        answer,
        draws(one),
        right,
        {
            "looks_ahead": (
                lambda mask: causal(mask).mT & mask.unsqueeze(1),
                "row t looks at what came after it: a click may see itself and what came before",
            ),
            "no_padding": (causal, "causal, but padding can be seen"),
            "no_causal": (
                lambda mask: mask.unsqueeze(1).expand(-1, mask.shape[1], -1),
                "padding is hidden, but the future is not",
            ),
            "not_itself": (
                lambda mask: causal(mask, -1) & mask.unsqueeze(1),
                "a click may see itself: the first one has nothing else to look at",
            ),
            "rows_masked": (
                lambda mask: causal(mask) & mask.unsqueeze(2),
                "you blanked the rows of padding: it is the columns that nobody may look at",
            ),
            "blind": (
                lambda mask: causal(mask) & mask.unsqueeze(1),
                "nearly: a user without a click sees nothing, and a softmax over nothing is not a "
                "number. Let such a row look at itself",
            ),
        },
        praise="right: a lower triangle, less the columns of padding, and no row is blind",
        otherwise="not yet: combine a lower triangle [L, L] with the mask as [B, 1, L]; a row that "
        "would see nothing looks at itself, and at nothing else",
        edges=[(none,), (torch.cat([late, full, none]),)],
    )


def ndcg(answer: Callable[..., Any]) -> Verdict:
    """Exercise 3: `f(rank, k)` gives NDCG@k of each rank in a tensor."""

    def one(rng: random.Random) -> Arguments:
        k = rng.randint(4, 9)
        ranks = [1, k, k + 1, rng.randint(2, k - 1), rng.randint(k + 2, 30)]
        return torch.tensor(rng.sample(ranks, 5)).float(), k

    def within(gain: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], Tensor]:
        return lambda rank, k: (rank <= k) * gain(rank)

    def gain(rank: Tensor) -> Tensor:
        return 1 / torch.log2(1 + rank)

    return judge(
        answer,
        draws(one),
        within(gain),
        {
            "no_cut": (
                lambda rank, k: gain(rank),
                "right within the first k, but beyond them the gain is 0",
            ),
            "too_early": (
                lambda rank, k: gain(rank) * (rank < k),
                "rank k itself still counts: use <=",
            ),
            "natural": (
                within(lambda rank: 1 / torch.log(1 + rank)),
                "that is the natural logarithm: with base 2, rank 1 gains exactly 1",
            ),
            "reciprocal": (
                within(lambda rank: 1 / rank),
                "that is the reciprocal rank: NDCG falls with log2",
            ),
            "off_by_one": (
                within(lambda rank: 1 / torch.log2(rank)),
                "log2(1) is 0, so rank 1 gains without end: take log2(1 + rank)",
            ),
        },
        praise="right: 1 at the top, 1/2 at rank 3, nothing past k",
        otherwise="not yet: 1 / log2(1 + rank) within the first k, else 0",
    )


def backwards(answer: Callable[..., Any]) -> Verdict:
    """Exercise 4: `f(user, time)` counts rows that are earlier than their user's row before."""

    def one(rng: random.Random) -> Arguments:
        lengths = {user: rng.randint(5, 9) for user in rng.sample(range(1, 50), 6)}
        user = [user for user, n in lengths.items() for _ in range(n)]
        return torch.tensor(user), torch.tensor([rng.randint(100, 105) for _ in user])

    def steps(user: Tensor, time: Tensor, ties: bool, all_users: bool) -> int:
        back = time[1:] <= time[:-1] if ties else time[1:] < time[:-1]
        return int((back & ((user[1:] == user[:-1]) | all_users)).sum())

    return judge(
        answer,
        draws(one),
        lambda user, time: steps(user, time, ties=False, all_users=False),
        {
            "across_users": (
                lambda user, time: steps(user, time, ties=False, all_users=True),
                "a new user may start earlier than the one before ended: compare within a user",
            ),
            "ties": (
                lambda user, time: steps(user, time, ties=True, all_users=False),
                "two clicks in the same second are in order: use <, not <=",
            ),
            "ties_across_users": (
                lambda user, time: steps(user, time, ties=True, all_users=True),
                "compare within a user only, and let ties pass",
            ),
        },
        praise="right: with none of these, rows are in order of time within each user",
        otherwise="not yet: compare each row with the one before it, where both are of one user",
        edges=[(torch.tensor([7, 7, 2, 2]), torch.tensor([9, 5, 8, 6]))],  # the first, the last
    )
