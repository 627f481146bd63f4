"""Random interactions, small enough that a model trains on them in a second."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from data_prep import Interactions
from duetlib.sessions import Seen, Split, leave_last_out


def interactions(
    n_users: int = 30, n_items: int = 140, clicks: tuple[int, int] = (5, 12), seed: int = 0
) -> Interactions:
    """Every user clicks `clicks[0]` to `clicks[1]` different items, in an order without a sense."""
    rng = np.random.default_rng(seed)
    count = rng.integers(clicks[0], clicks[1] + 1, n_users)
    item = [1 + rng.permutation(n_items)[:n] for n in count]
    return of_clicks(item, n_items)


def of_clicks(clicks: list[np.ndarray], n_items: int) -> Interactions:
    """The interactions of users 1, 2, ... whose clicks, in order, are given."""
    user = np.repeat(np.arange(1, len(clicks) + 1), [len(c) for c in clicks])
    rows = len(user)
    return Interactions(
        user=user.astype(np.int64),
        item=np.concatenate(clicks).astype(np.int64),
        rating=np.ones(rows, np.float32),
        time=np.arange(rows, dtype=np.int64),
        n_users=len(clicks),
        n_items=n_items,
        titles=("",) * (n_items + 1),
        genre_names=(),
        genres=np.zeros((n_items + 1, 0), bool),
        raw_user=np.arange(len(clicks) + 1),
        raw_item=np.arange(n_items + 1),
        label="random",
        sha256="0" * 64,
    )


def split(seed: int = 0, **sizes: int) -> Split:
    """The usual split of `interactions`, with histories of ten."""
    return leave_last_out(interactions(seed=seed, **sizes), length=10)


def seen_of(table: Tensor) -> Seen:
    """The items that are True in a table `[n_users + 1, n_items + 1]`; its column 0 is padding."""
    user, item = table.nonzero().T
    return Seen.of(user, item, len(table) - 1, table.shape[1] - 1)
