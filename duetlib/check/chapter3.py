"""Self-checks for the exercises of chapter 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .verdict import Verdict, judge


def masked_mean(answer: Callable[..., Any]) -> Verdict:
    """Exercise 1: `f(clicks, mask)` gives the mean of the real clicks, `[B, D]`."""
    # What stands at padding is not zero here, so that a forgotten mask shows.
    clicks = torch.tensor(
        [[[2.0, 4.0], [4.0, 0.0], [9.0, 9.0]], [[1.0, 3.0], [9.0, 9.0], [9.0, 9.0]]]
    )
    mask = torch.tensor([[True, True, False], [True, False, False]])
    total = (clicks * mask.unsqueeze(-1)).sum(1)  # [B, D]
    count = mask.sum(1, keepdim=True)  # [B, 1]
    return judge(
        lambda: answer(clicks, mask),
        right=total / count,
        usual={
            "no_mask": (clicks.mean(1), "padding is in the mean: use the mask in the sum too"),
            "divided_by_length": (
                total / mask.shape[1],
                "the sum is right, but divided by L: divide by how many clicks are real",
            ),
            "sum_of_all": (clicks.sum(1) / count, "the count is right, but padding is in the sum"),
            "no_division": (total, "that is the sum: divide it by how many clicks are real"),
        },
        praise="right: the mask decides both what is summed and what it is divided by",
        otherwise="not yet: sum the real clicks over dimension 1, then divide by their number",
    )


def visible(answer: Callable[..., Any]) -> Verdict:
    """Exercise 2: `f(mask)` gives `[B, L, L]`, True where row t may look at column s."""
    mask = torch.tensor([[True, True, True], [True, True, False]])
    causal = torch.ones(3, 3, dtype=torch.bool).tril()
    padding = mask.unsqueeze(1)  # [B, 1, L]
    with_clicks = judge(
        lambda: answer(mask),
        right=causal & padding,
        usual={
            "looks_ahead": (
                causal.T & padding,
                "row t looks at what came after it: a click may see itself and what came before",
            ),
            "no_padding": (causal.expand(2, 3, 3), "causal, but padding can be seen"),
            "no_causal": (padding.expand(2, 3, 3), "padding is hidden, but the future is not"),
            "not_itself": (
                causal.tril(-1) & padding,
                "a click may see itself: the first one has nothing else to look at",
            ),
            "rows_masked": (
                causal & mask.unsqueeze(2),
                "you blanked the rows of padding: it is the columns that nobody may look at",
            ),
        },
        praise="right",
        otherwise="not yet: combine a lower triangle [L, L] with the mask as [B, 1, L]",
    )
    if not with_clicks.passed:
        return with_clicks
    return judge(
        lambda: answer(torch.zeros(1, 3, dtype=torch.bool)),
        right=torch.eye(3, dtype=torch.bool).unsqueeze(0),
        usual={
            "blind": (
                torch.zeros(1, 3, 3, dtype=torch.bool),
                "nearly: a user without a click sees nothing, and a softmax over nothing is not a "
                "number. Let such a row look at itself",
            )
        },
        praise="right: a lower triangle, less the columns of padding, and no row is blind",
        otherwise="not yet: without any click, each row looks at itself and at nothing else",
    )


def ndcg(answer: Callable[..., Any]) -> Verdict:
    """Exercise 3: `f(rank, k)` gives NDCG@k of each rank in a tensor."""
    rank = torch.tensor([1.0, 3.0, 5.0, 6.0])
    gain = 1 / torch.log2(1 + rank)
    inside = (rank <= 5).float()
    return judge(
        lambda: answer(rank, 5),
        right=gain * inside,
        usual={
            "no_cut": (gain, "right within the first k, but beyond them the gain is 0"),
            "too_early": (gain * (rank < 5), "rank k itself still counts: use <="),
            "natural": (
                inside / torch.log(1 + rank),
                "that is the natural logarithm: with base 2, rank 1 gains exactly 1",
            ),
            "reciprocal": (inside / rank, "that is the reciprocal rank: NDCG falls with log2"),
            "off_by_one": (
                inside / torch.log2(rank),
                "log2(1) is 0, so rank 1 gains without end: take log2(1 + rank)",
            ),
        },
        praise="right: 1 at the top, 1/2 at rank 3, nothing past k",
        otherwise="not yet: 1 / log2(1 + rank) within the first k, else 0",
    )


def backwards(answer: Callable[..., Any]) -> Verdict:
    """Exercise 4: `f(user, time)` counts rows that are earlier than their user's row before."""
    user = torch.tensor([1, 1, 1, 1, 2, 2, 3, 3])
    time = torch.tensor([50, 60, 55, 55, 10, 20, 15, 5])
    return judge(
        lambda: answer(user, time),
        right=2,
        usual={
            "across_users": (
                4,
                "a new user may start earlier than the one before ended: compare within a user",
            ),
            "ties": (3, "two clicks in the same second are in order: use <, not <="),
            "ties_across_users": (5, "compare within a user only, and let ties pass"),
        },
        praise="right: with none of these, rows are in order of time within each user",
        otherwise="not yet: compare each row with the one before it, where both are of one user",
    )
