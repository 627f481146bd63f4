"""Inversion: which recent clicks does the uploaded embedding give away?

The neck ships with every device, so it is no secret: whoever has other users' histories can make as
many pairs of embedding and clicks as there are, and learn the way back. Chapter 10.
"""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from data_prep.arguments import check_seed, whole
from duetlib.serving.folded import encode
from duetlib.sessions import PAD, Sessions
from duetlib.umn import UniversalMetaNetwork

BATCH = 256


class Pairs(NamedTuple):
    """What was uploaded, and what it was made from.

    Attributes:
        embedding: `[N, D]`. recent: `[N, T]` the last T clicks, newest first. user: `[N]`.
    """

    embedding: Tensor
    recent: Tensor
    user: Tensor

    def of(self, users: Tensor) -> Pairs:
        """The pairs of some users alone."""
        return Pairs(*(part[torch.isin(self.user, users)] for part in self))


@torch.no_grad()
def pairs(model: UniversalMetaNetwork, sessions: Sessions, clicks: int = 10) -> Pairs:
    """The pair of each history that has at least `clicks` clicks.

    Raises:
        ValueError: if no history is that long.

    Source: Chapter 10; E_share of Eq. (5).
    """
    whole(1, clicks=clicks)
    history = sessions.history
    count = (history != PAD).sum(1)  # [N]
    long = count >= clicks
    if not long.any():
        raise ValueError(f"no history has {clicks} clicks: ask for fewer")
    history, count = history[long], count[long]
    newest_first = count.unsqueeze(1) - 1 - torch.arange(clicks, device=count.device)
    recent = history.gather(1, newest_first)  # [N, T]
    embedding = torch.cat([encode(model, part) for part in history.split(4096)])  # [N, D]
    return Pairs(embedding, recent, sessions.user[long])


def split_users(user: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Half of the users to learn from, a quarter to choose the epoch by, a quarter to attack.

    Raises:
        ValueError: for fewer than four users.
    """
    check_seed(seed)
    ids = user.unique()
    if len(ids) < 4:
        raise ValueError(f"there are {len(ids)} users: three parts of them take four or more")
    drawn = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))]
    learn, choose, attack = drawn.tensor_split([len(ids) // 2, 3 * len(ids) // 4])
    return learn, choose, attack


def popularity(known: Pairs, n_items: int) -> Tensor:
    """`[V + 1]` how often each item is the newest click: a guess that looks at no embedding."""
    return torch.bincount(known.recent[:, 0], minlength=n_items + 1).float()


def recall(scores: Tensor, recent: Tensor, guesses: int | None = None) -> Tensor:
    """`[N]` the share of the clicks that are among the highest scores.

    Args:
        scores: `[N, V + 1]` for each item, or `[V + 1]` for everybody.
        recent: `[N, k]` clicks, all different. guesses: how many scores count; k by default.
    """
    whole(1, guesses=recent.shape[1] if guesses is None else guesses)
    scores = scores.expand(len(recent), -1).clone()
    scores[:, PAD] = float("-inf")  # padding is no click
    best = scores.topk(guesses or recent.shape[1]).indices  # [N, guesses]
    return (recent.unsqueeze(2) == best.unsqueeze(1)).any(2).float().mean(1)


def by_user(values: Tensor, user: Tensor) -> Tensor:
    """`[U]` each user's mean, so that a long history counts no more than a short one."""
    _, place = user.unique(return_inverse=True)
    return torch.bincount(place, values.double()) / torch.bincount(place)


class Attack(nn.Module):
    """From an embedding to a score for each item: two layers.

    Args:
        embedding: `[N, D]` those learnt from, whose scale is removed. n_items: ids from 1.
    """

    def __init__(self, embedding: Tensor, n_items: int, hidden: int = 256):
        super().__init__()
        dim = embedding.shape[1]
        self.mean, self.std = embedding.mean(0), embedding.std(0).clamp(min=1e-6)  # [D]
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, n_items + 1)
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """`[B, D]` to `[B, V + 1]`."""
        return self.layers((embedding - self.mean) / self.std)


def learn(
    known: Pairs, choose: Pairs, n_items: int, k: int, *, seed: int = 0, epochs: int = 30
) -> tuple[Attack, int]:
    """An attack on the last k clicks, and the epoch (from 1) at which it was best on `choose`.

    Each of the k clicks is one answer of a softmax over all items.

    Args:
        known: to learn from. choose: other users, who decide when to stop: after three epochs
            without a better recall. n_items: ids from 1. k: clicks. seed: of start and order.

    Raises:
        ValueError: if no epoch is asked for, or more clicks than the pairs have.

    Source: Chapter 10; compare Song and Raghunathan (2020).
    """
    whole(1, n_items=n_items, epochs=epochs)
    whole(1, min(part.recent.shape[1] for part in (known, choose)), k=k)
    check_seed(seed)
    torch.manual_seed(seed)
    attack = Attack(known.embedding, n_items).to(known.embedding.device)
    optimizer = torch.optim.Adam(attack.parameters(), lr=2e-3, fused=True)
    best, best_epoch, kept = -1.0, 0, attack
    for epoch in range(1, epochs + 1):
        for index in torch.randperm(len(known.user)).split(BATCH):
            log_p = attack(known.embedding[index]).log_softmax(1)  # [B, V + 1]
            loss = -log_p.gather(1, known.recent[index, :k]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            found = recall(attack(choose.embedding), choose.recent[:, :k])
        mean = float(by_user(found, choose.user).mean())
        if mean > best:
            best, best_epoch, kept = mean, epoch, deepcopy(attack)
        elif epoch - best_epoch >= 3:
            break
    return kept, best_epoch
