"""Clicks of your own, as the arrays that everything else here takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from data_prep.movielens import Interactions, Ints, tidy
from data_prep.sources import DataError, sha256


def from_clicks(
    user: ArrayLike,
    item: ArrayLike,
    time: ArrayLike,
    *,
    k_core: int = 5,
    label: str = "own clicks",
) -> Interactions:
    """Return clicks, three columns [N] of whole numbers in any order of rows, as arrays.

    They are sorted by user and time, ties in the order given, then k-cored and renumbered as
    MovieLens is (`load_movielens`). An item may be clicked again. Ratings are 1 and titles
    "item 7"; `label` stands beside every number made from them, and `sha256` is the columns'.

    Raises DataError, which says which column, which row, and what to do.
    """
    given = {"user": np.asarray(user), "item": np.asarray(item), "time": np.asarray(time)}
    shapes = {name: list(column.shape) for name, column in given.items()}
    n = given["user"].size
    if not n or any(shape != [n] for shape in shapes.values()):
        raise DataError(f"user, item and time must be columns of one length, but are {shapes}")
    users, items, times = (_whole(name, column) for name, column in given.items())
    rows = np.stack([users, items, np.ones_like(users), times], axis=1)  # [N, 4]
    in_order = rows[np.lexsort((times, users))]  # stable: ties stay as they were given
    return tidy(in_order, k_core, label, sha256(rows.tobytes()))


def _whole(name: str, column: np.ndarray) -> Ints:
    """A column as int64: 3.0 is a whole number; 3.5, nan, 1e19 and "3" are not."""
    bad = np.ones(len(column), dtype=bool)
    if column.dtype.kind in "iuf":
        with np.errstate(invalid="ignore"):  # of nan, and of what 64 bits cannot hold
            whole = column.astype(np.int64)
        bad = whole != column
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{name}, row {row} is not a whole number of 64 bits: {column[row]}. "
            "`pandas.factorize` turns names into numbers, "
            "`.astype('datetime64[s]').astype('int64')` dates"
        )
    return whole
