"""Sessions as tensors: what a device has clicked, what it is asked to rank, and what came next.

A *session* is one question put to the model: a history of clicks, and the item that followed.
Chapter 1 builds one by hand (Section 4.1.1 of the paper).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from data_prep import Interactions

PAD = 0  # item ids start at 1; 0 fills histories that are shorter than L


@dataclass(frozen=True, eq=False)
class Sessions:
    """N sessions, each a history and the item that came next.

    Attributes:
        history: `[N, L]` item ids, oldest first, filled with 0 on the right.
        target: `[N]` the item that the user chose next.
        user: `[N]` whose session it is.
    """

    history: Tensor
    target: Tensor
    user: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, index: Tensor | slice) -> Sessions:
        return Sessions(self.history[index], self.target[index], self.user[index])

    def to(self, device: torch.device | str) -> Sessions:
        """The same sessions on another device."""
        return Sessions(*(getattr(self, f.name).to(device) for f in fields(self)))

    def then(self, later: Sessions) -> Sessions:
        """These sessions and later ones together, by user; each user's in order of time."""
        names = [f.name for f in fields(self)]
        both = Sessions(*(torch.cat([getattr(s, n) for s in (self, later)]) for n in names))
        return both[both.user.argsort(stable=True)]


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test sessions of one data set.

    Attributes:
        train, valid, test: the sessions; `valid` is empty when `n_valid=0`.
        n_users, n_items: counts; ids run from 1.
        seen: `[n_users + 1, n_items + 1]` bool, every item a user has in *any* part. Column 0 is
            True, so that padding never serves as a negative.
        label: the data set's name, as it must stand beside every number made from it.
        sha256: of the ratings file.
    """

    train: Sessions
    valid: Sessions
    test: Sessions
    n_users: int
    n_items: int
    seen: Tensor
    label: str
    sha256: str

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        moved = {n: getattr(self, n).to(device) for n in ("train", "valid", "test", "seen")}
        if self.valid is self.test:  # as `last-10` has it; others go by this
            moved["valid"] = moved["test"]
        return Split(
            **moved,
            n_users=self.n_users,
            n_items=self.n_items,
            label=self.label,
            sha256=self.sha256,
        )


def leave_last_out(
    interactions: Interactions, *, n_test: int = 1, n_valid: int = 1, length: int = 30
) -> Split:
    """Cut every user's clicks, in order of time, into training, validation and test targets.

    The last `n_test` clicks of each user are test targets, the `n_valid` before them validation
    targets, and all earlier ones but the first (which has no history) training targets. The history
    of a target is the up to `length` clicks right before it.

    Args:
        interactions: rows sorted by user and time, ids from 1 (see `data_prep`).
        n_test, n_valid: targets held out for each user.
        length: L, the longest history.

    Raises:
        ValueError: if the rows are not sorted by user, or a user has too few clicks to leave one
            for training.

    Source: Chapter 1; Section 4.1.1.
    """
    user, item = interactions.user, interactions.item
    if (np.diff(user) < 0).any():
        raise ValueError("the clicks are not sorted by user: sort them by user and time first")
    count = np.bincount(user, minlength=interactions.n_users + 1)[1:]
    least = n_test + n_valid + 2
    short = np.flatnonzero(count < least) + 1
    if len(short):
        raise ValueError(
            f"user {short[0]} has {count[short[0] - 1]} clicks, but {n_test} for testing, "
            f"{n_valid} for validation and 2 for training are needed; raise k_core to {least}, or "
            "number the users from 1 without gaps"
        )
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    position = np.arange(len(user)) - start[user - 1]  # place of each row in its user's clicks
    from_end = count[user - 1] - 1 - position

    # Row r's history is rows r-n .. r-1, n = min(position, L); what lies past n is padding.
    n = np.minimum(position, length)
    offset = np.arange(length)
    rows = (np.arange(len(user)) - n)[:, None] + offset  # [N, L]
    history = np.where(offset < n[:, None], item[np.minimum(rows, len(item) - 1)], PAD)

    every = Sessions(torch.from_numpy(history), torch.from_numpy(item), torch.from_numpy(user))
    seen = torch.zeros(interactions.n_users + 1, interactions.n_items + 1, dtype=torch.bool)
    seen[every.user, every.target] = True
    seen[:, PAD] = True

    def part(mask: np.ndarray) -> Sessions:
        return every[torch.from_numpy(np.flatnonzero(mask & (position > 0)))]

    held = n_test + n_valid
    return Split(
        train=part(from_end >= held),
        valid=part((from_end >= n_test) & (from_end < held)),
        test=part(from_end < n_test),
        n_users=interactions.n_users,
        n_items=interactions.n_items,
        seen=seen,
        label=interactions.label,
        sha256=interactions.sha256,
    )


class Negatives:
    """Draws items that a user has never clicked.

    The unseen items of each user are packed to the left once; a draw is then one random number and
    one look-up, exactly uniform, with nothing rejected and no loop.

    Args:
        seen: `[n_users + 1, n_items + 1]` bool, as in `Split`.

    Raises:
        ValueError: if a user has every item, so that nothing is left to draw.

    Source: Section 4.1.1 (1:4 in training, 1:100 in testing).
    """

    def __init__(self, seen: Tensor):
        parts = seen.split(
            64
        )  # a sort needs eight bytes for each of its places: a few users at once
        self.count = torch.cat([(~part).sum(1) for part in parts])  # [n_users + 1]
        full = (self.count[1:] == 0).nonzero()  # row 0 is nobody
        if len(full):
            raise ValueError(f"user {int(full[0]) + 1} has every item: there are no negatives")
        width = int(self.count.max())
        self.unseen = torch.empty(len(seen), width, dtype=torch.int32, device=seen.device)
        # A stable sort of a boolean row brings the unseen items (False) to the front, in order.
        for unseen, part in zip(self.unseen.split(64), parts, strict=True):
            unseen.copy_(part.to(torch.uint8).sort(dim=1, stable=True).indices[:, :width])

    def draw(self, user: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """`n` unseen items for each user, with replacement: for training, anew each epoch.

        Args:
            user: `[B]`. generator: on the device of `user`.

        Returns:
            `[B, n]` item ids.
        """
        u = torch.rand(len(user), n, generator=generator, device=user.device)
        count = self.count[user].unsqueeze(1)  # [B, 1]
        # rand() < 1, but float rounding can reach `count` itself
        pick = (u * count).long().clamp_(max=count - 1)
        return self.unseen[user.unsqueeze(1), pick].long()

    def fixed(self, user: Tensor, n: int, seed: int) -> Tensor:
        """`n` *distinct* unseen items for each row, from a seed: for testing, drawn once and kept.

        Drawn on the CPU, so that every machine tests on the same items.

        Returns:
            `[N, n]` item ids, on the device of `user`.

        Raises:
            ValueError: if a user has fewer than `n` unseen items.
        """
        count = self.count.cpu()[user.cpu()]
        if len(count) and int(count.min()) < n:
            poorest = user[count.argmin().to(user.device)].item()
            raise ValueError(
                f"user {poorest} has only {int(count.min())} unseen items, {n} negatives are needed"
            )
        generator = torch.Generator().manual_seed(seed)
        key = torch.rand(len(user), self.unseen.shape[1], generator=generator)
        key[torch.arange(key.shape[1]) >= count.unsqueeze(1)] = -1.0  # past the end of the row
        pick = key.topk(n, dim=1).indices.to(user.device)
        return self.unseen[user.unsqueeze(1), pick].long()


def candidates(sessions: Sessions, negatives: Tensor) -> Tensor:
    """The target followed by its negatives: `[N, 1 + n]`, the right answer in column 0."""
    return torch.cat([sessions.target.unsqueeze(1), negatives], dim=1)


def labels_like(candidate_ids: Tensor) -> Tensor:
    """Labels for `candidates`: 1 in column 0, 0 elsewhere, `[N, C]` float."""
    labels = torch.zeros(candidate_ids.shape, device=candidate_ids.device)
    labels[:, 0] = 1.0
    return labels
