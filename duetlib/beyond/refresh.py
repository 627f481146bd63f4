"""Asking seldom: a device that keeps its layers for some clicks, and when it asks for new ones.

The layers of a click are made from the clicks before it. A device that does not ask at each click
works with layers that are some clicks old. Chapter 11.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data_prep.arguments import check_seed, number, whole
from duetlib.dynamic import Layer, apply_layers
from duetlib.serving.folded import encode
from duetlib.sessions import Sessions
from duetlib.umn import UniversalMetaNetwork


class Late(nn.Module):
    """A source of layers that, while it trains, does not see the last few clicks.

    So layers and backbone get used to each other as they will meet on a device that asks seldom.
    In evaluation it is the source that it wraps.

    Args:
        source: a `PPG` that has a neck (not `state`). oldest: each row misses 0 to this many
            clicks, drawn anew each time; one click is always left.

    Raises:
        ValueError: for a negative `oldest`, or a source without a neck.

    Source: Chapter 11.
    """

    def __init__(self, source: nn.Module, oldest: int):
        super().__init__()
        whole(0, oldest=oldest)
        if getattr(source, "reads_state", False):
            raise ValueError("the source reads the backbone's state: it has no neck to train late")
        self.source, self.oldest = source, oldest

    def forward(self, clicks: Tensor, mask: Tensor) -> list[Layer]:
        """`[B, L, D]` clicks and their `[B, L]` mask to the layers of each row."""
        if self.training:
            age = torch.randint(self.oldest + 1, mask.shape[:1], device=mask.device)  # [B]
            mask = without_last(mask, age)
        layers: list[Layer] = self.source(clicks, mask)
        return layers


def without_last(mask: Tensor, age: Tensor) -> Tensor:
    """`[B, L]` the mask of histories whose last clicks are hidden; one click is always left.

    Args:
        mask: `[B, L]`. age: `[B]` how many to hide in each.
    """
    after = mask.sum(1, keepdim=True) - mask.cumsum(1)  # [B, L] clicks that come later
    return mask & (after >= age.minimum(mask.sum(1) - 1).unsqueeze(1))


def by_click(sessions: Sessions, X: Tensor) -> Tensor:
    """`[T, U, ...]` rows of consecutive sessions, by click and by user, in the order of time.

    Args:
        sessions: T of each user, in the order of time. X: `[U · T, ...]` a row for each.

    Raises:
        ValueError: if users have different numbers of sessions, or X has not a row for each.
    """
    if len(X) != len(sessions):
        raise ValueError(f"X has {len(X)} rows, and there are {len(sessions)} sessions")
    n_users = len(sessions.user.unique())
    counts = sessions.user.bincount()
    if not torch.all(counts[counts > 0] == len(sessions) // n_users):
        raise ValueError(
            "users have unlike numbers of sessions: take a part that leave_last_out held out"
        )
    order = sessions.user.argsort(stable=True)
    return X[order].unflatten(0, (n_users, -1)).transpose(0, 1)


@torch.no_grad()
def scores_of_ages(
    model: UniversalMetaNetwork,
    history: Tensor,
    candidates: Tensor,
    layers: Sequence[Sequence[Layer]] | None = None,
) -> Tensor:
    """What a device would score at each click with the layers of each click before it.

    Args:
        history: `[T, U, L]`. candidates: `[T, U, C]`.
        layers: what is generated at each of the T clicks; the model's own by default.

    Returns:
        `[T, T, U, C]`: at click t (first) with the layers of click s (second); NaN where s > t.

    Source: Chapter 11.
    """
    model.eval()
    layers = layers or [model.layers(h) for h in history]
    n_clicks, n_users, C = candidates.shape
    scores = model.items.weight.new_full((n_clicks, n_clicks, n_users, C), float("nan"))
    for t in range(n_clicks):
        features, items = model.features(history[t], candidates[t])
        for s in range(t + 1):
            scores[t, s] = model.backbone.score(apply_layers(features, layers[s]), items)
    return scores


def every(n: int, n_clicks: int, n_users: int) -> Tensor:
    """`[T, U]` whether a device asks: at the first click, and at each n-th after it."""
    whole(1, n=n, n_clicks=n_clicks, n_users=n_users)
    return (torch.arange(n_clicks) % n == 0).unsqueeze(1).expand(-1, n_users)


def at_random(share: float, n_clicks: int, n_users: int, seed: int = 0) -> Tensor:
    """`[T, U]` whether a device asks: at the first click, and at a random share of the others."""
    number(0, 1, share=share)
    whole(1, n_clicks=n_clicks, n_users=n_users)
    check_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    asks = torch.rand(n_clicks, n_users, generator=generator) < share
    asks[0] = True
    return asks


def when_moved(embedding: Tensor, far: float) -> Tensor:
    """`[T, U]` whether a device asks: at the first click, and when its embedding is far from where
    it was at the last request.

    Args:
        embedding: `[T, U, D]` E_share at each click, which the device's own neck makes.
        far: the distance that may be covered without asking.
    """
    number(0, far=far)
    asks = torch.ones(embedding.shape[:2], dtype=torch.bool, device=embedding.device)
    last = embedding[0]  # [U, D]
    for t in range(1, len(embedding)):
        asks[t] = (embedding[t] - last).norm(dim=1) > far
        last = torch.where(asks[t].unsqueeze(1), embedding[t], last)
    return asks


def asked_at(asks: Tensor) -> Tensor:
    """`[T, U]` the click at which the layers that a device holds were made.

    Raises:
        ValueError: if a device has not asked at its first click, and so holds no layers.
    """
    if not asks[0].all():
        raise ValueError("at the first click every device must ask: it holds no layers yet")
    t = torch.arange(len(asks), device=asks.device).unsqueeze(1)  # [T, 1]
    return (t * asks).cummax(0).values


def held(scores: Tensor, asks: Tensor) -> Tensor:
    """`[T, U, C]` what the devices score with the layers that they hold.

    Args:
        scores: `[T, T, U, C]` of `scores_of_ages`. asks: `[T, U]`.
    """
    of = asked_at(asks)  # [T, U]
    t = torch.arange(len(of), device=of.device).unsqueeze(1)
    return scores[t, of, torch.arange(of.shape[1], device=of.device)]


@torch.no_grad()
def embeddings(model: UniversalMetaNetwork, history: Tensor) -> Tensor:
    """`[T, U, D]` E_share at each click, from `[T, U, L]` histories."""
    return torch.stack([encode(model, h) for h in history])


def usual_move(embedding: Tensor, user: Tensor) -> float:
    """The median distance that one more click moves a user's embedding: a unit to count in.

    Args:
        embedding: `[N, D]` of training sessions, in the order of users and time. user: `[N]`.
    """
    same = user[1:] == user[:-1]
    return float((embedding[1:] - embedding[:-1])[same].norm(dim=1).median())
