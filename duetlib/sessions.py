"""Sessions as tensors: what a device has clicked, what it is asked to rank, and what came next.

A *session* is one question put to the model: a history of clicks, and the item that followed.
Chapter 1 builds one by hand (Section 4.1.1 of the paper).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data_prep import Interactions
from data_prep.arguments import refuse, whole

PAD = 0  # item ids start at 1; 0 fills histories that are shorter than L
NUMBERS_AT_ONCE = 2**22  # random ones, of fixed negatives: 16 MiB


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


def padded(clicks: Sequence[Sequence[int]], length: int = 30) -> Tensor:
    """Histories `[B, L]` of lists of clicks: of each the last `length`, filled with 0 on the right.

    Args:
        clicks: of each user the item ids, oldest first, at least one. length: L.

    Raises:
        ValueError: for an empty list, or an id that is no whole number from 1.
    """
    whole(1, length=length)
    history = torch.full((len(clicks), length), PAD)
    for row, items in enumerate(clicks):
        if not len(items):
            raise ValueError(f"row {row} has no clicks: a history needs one")
        for item in items:
            whole(1, item=item)
        recent = items[-length:]
        history[row, : len(recent)] = torch.as_tensor(recent)
    return history


@dataclass(frozen=True, eq=False)
class Seen:
    """The items that each user has: what is True in a table of users by items, and no table.

    `seen[user]` gives the table's rows of some users. Memory grows with the clicks.

    Attributes:
        item: `[P]` each user's items in order, user after user, each once.
        start: `[n_users + 2]` where in `item` each user's begin, and where the last one's end.
        n_items: items, ids from 1.
    """

    item: Tensor
    start: Tensor
    n_items: int

    @classmethod
    def of(cls, user: Tensor, item: Tensor, n_users: int, n_items: int) -> Seen:
        """From pairs `[N]`, in any order; a pair may come again, and padding is left out."""
        pair = torch.unique((user * (n_items + 1) + item)[item != PAD])  # sorted
        count = torch.bincount(pair // (n_items + 1), minlength=n_users + 1)
        return cls(pair % (n_items + 1), F.pad(count.cumsum(0), (1, 0)), n_items)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.item.device

    @property
    def shape(self) -> tuple[int, int]:
        """Of the table: `(n_users + 1, n_items + 1)`."""
        return len(self.start) - 1, self.n_items + 1

    def to(self, device: torch.device | str) -> Seen:
        """The same on another device."""
        return Seen(self.item.to(device), self.start.to(device), self.n_items)

    def __getitem__(self, user: Tensor | int) -> Tensor:
        """Rows of the table, bool: `[n_items + 1]` of one user, `[B, n_items + 1]` of `[B]` users.

        Column 0 is True, so that padding never counts as an item that the user has not.
        """
        asked = torch.as_tensor(user, device=self.device)
        users = asked.reshape(-1)
        count = self.start.diff()[users]
        row = torch.arange(len(users), device=self.device).repeat_interleave(count)
        first = self.start[:-1][users] - (count.cumsum(0) - count)
        place = first[row] + torch.arange(len(row), device=self.device)
        table = torch.zeros(len(users), self.n_items + 1, dtype=torch.bool, device=self.device)
        table[row, self.item[place]] = True
        table[:, PAD] = True
        return table.view(*asked.shape, self.n_items + 1)


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test sessions of one data set.

    Attributes:
        train, valid, test: the sessions; `valid` is empty when `n_valid=0`.
        n_users, n_items: counts; ids run from 1.
        seen: every item that a user has in *any* part.
        label: the data set's name, as it must stand beside every number made from it.
        sha256: of the ratings file.
    """

    train: Sessions
    valid: Sessions
    test: Sessions
    n_users: int
    n_items: int
    seen: Seen
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
        n_test, n_valid: targets held out for each user; at least one for testing.
        length: L, the longest history.

    Raises:
        ValueError: if one of these is out of range, if there are no clicks, if the rows are not
            sorted by user and time or an id is not from 1 to their number, or if a user has too few
            clicks to leave one for training.

    Source: Chapter 1; Section 4.1.1.
    """
    whole(1, n_test=n_test, length=length)
    whole(0, n_valid=n_valid)
    _check_clicks(interactions)
    user, item = interactions.user, interactions.item
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

    offset = np.arange(length)

    def part(mask: np.ndarray) -> Sessions:
        # Row r's history is rows r-n .. r-1, n = min(position, L); what lies past n is padding.
        r = np.flatnonzero(mask & (position > 0))  # [N]
        n = np.minimum(position[r], length)[:, None]
        rows = (r[:, None] - n) + offset  # [N, L]
        np.minimum(rows, len(item) - 1, out=rows)
        history = item[rows]
        history[offset >= n] = PAD
        return Sessions(*map(torch.from_numpy, (history, item[r], user[r])))

    held = n_test + n_valid
    return Split(
        train=part(from_end >= held),
        valid=part((from_end >= n_test) & (from_end < held)),
        test=part(from_end < n_test),
        n_users=interactions.n_users,
        n_items=interactions.n_items,
        seen=Seen.of(
            torch.from_numpy(user),
            torch.from_numpy(item),
            interactions.n_users,
            interactions.n_items,
        ),
        label=interactions.label,
        sha256=interactions.sha256,
    )


def _check_clicks(clicks: Interactions) -> None:
    if not isinstance(clicks, Interactions):
        what = "what `from_clicks` or `load_movielens` returns"
        raise refuse("interactions", type(clicks).__name__, what)
    user, item, time = clicks.user, clicks.item, clicks.time
    if not len(user) == len(item) == len(time) > 0:
        found = f"{len(user)} users, {len(item)} items and {len(time)} times"
        raise ValueError(f"there must be clicks, each with all three, but there are {found}")
    for name, ids, most in (("user", user, clicks.n_users), ("item", item, clicks.n_items)):
        if ids.min() < 1 or ids.max() > most:
            raise ValueError(f"{name} ids are {ids.min()} to {ids.max()}, but must be 1 to {most}")
    step = np.diff(user)
    if (step < 0).any() or ((step == 0) & (np.diff(time) < 0)).any():
        raise ValueError("the clicks are not sorted by user: sort them by user and time first")


class Negatives:
    """Draws items that a user has never clicked.

    A draw is one random number and one look-up, exactly uniform, with nothing rejected and no loop.
    Below a user's i-th item (from 0), s_i, there are s_i - 1 - i items that the user has not, and
    this never falls with i. So the k-th unseen item (from 0) is k + 1 + j, where j is how many i
    have s_i - 1 - i <= k: one binary search among the user's own items.

    Args:
        seen: as in `Split`.

    Raises:
        ValueError: if a user has every item, so that nothing is left to draw.

    Source: Section 4.1.1 (1:4 in training, 1:100 in testing).
    """

    def __init__(self, seen: Seen):
        self.start, self.width = seen.start, seen.shape[1]
        has = seen.start.diff()  # [n_users + 1]
        self.count = seen.n_items - has
        full = (self.count[1:] == 0).nonzero()  # row 0 is nobody
        if len(full):
            raise ValueError(f"user {int(full[0]) + 1} has every item: there are no negatives")
        user = torch.arange(len(has), device=seen.device).repeat_interleave(has)
        i = torch.arange(len(user), device=seen.device) - self.start[user]
        self.below = user * self.width + seen.item - 1 - i  # [P]: one list for all users, sorted

    def _unseen(self, user: Tensor, k: Tensor) -> Tensor:
        """The `k`-th unseen item (from 0) of each user: `[B]` and `[B, n]` to `[B, n]`."""
        user = user.unsqueeze(1)
        j = torch.searchsorted(self.below, user * self.width + k, right=True) - self.start[user]
        return k + 1 + j

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
        return self._unseen(user, pick)

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
        width = int(self.count.max())
        place, at_once = torch.arange(width), max(1, NUMBERS_AT_ONCE // width)
        pick = torch.empty(len(user), n, dtype=torch.int64)
        # A few rows at a time: the generator gives the same numbers as for all of them at once.
        for part, left in zip(pick.split(at_once), count.split(at_once), strict=True):
            key = torch.rand(len(left), width, generator=generator)
            key[place >= left.unsqueeze(1)] = -1.0  # past the end of the row
            part.copy_(key.topk(n, dim=1).indices)
        return self._unseen(user, pick.to(user.device))


def candidates(sessions: Sessions, negatives: Tensor) -> Tensor:
    """The target followed by its negatives: `[N, 1 + n]`, the right answer in column 0."""
    return torch.cat([sessions.target.unsqueeze(1), negatives], dim=1)


def labels_like(candidate_ids: Tensor) -> Tensor:
    """Labels for `candidates`: 1 in column 0, 0 elsewhere, `[N, C]` float."""
    labels = torch.zeros(candidate_ids.shape, device=candidate_ids.device)
    labels[:, 0] = 1.0
    return labels
