"""Clicks of your own, as the arrays that everything else here takes."""

from __future__ import annotations

import operator
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from data_prep.arguments import one_of, refuse, whole
from data_prep.movielens import Bools, Film, Interactions, Ints, RawIds, tidy
from data_prep.sources import DataError, sha256

# What a missing date becomes as a number: of nanoseconds, and of what people divide these into.
_NO_DATE = tuple(-(2**63) // unit for unit in (1, 10**3, 10**6, 10**9))
_NO_ID = -1  # what pandas.factorize makes of a missing one
# What a missing value becomes as a string.
_NO_STRING = ("", "nan", "NaN", "None", "<NA>", "NaT", str(_NO_ID))
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def from_clicks(
    user: ArrayLike,
    item: ArrayLike,
    time: ArrayLike,
    *,
    k_core: int = 5,
    missing: Literal["refuse", "drop"] = "refuse",
    label: str = "own clicks",
) -> Interactions:
    """Return clicks, three columns [N] in any order of rows, as arrays.

    Ids are whole numbers or strings, and are kept as `raw_user` and `raw_item`. Times are whole
    numbers, in one unit, or dates (datetime64, Timestamps; with time zones or without), which are
    kept as seconds since 1970. Missing are: None, NaN, NaT, pandas.NA, an empty string, what these
    become as strings ("nan"), -1 as an id (`pandas.factorize` makes it of a missing one) and -2**63
    (a missing date as a number). `missing` says what becomes of their rows; with "drop" the label
    says how many there were.

    The rows are sorted by user and time, ties in the order given, then k-cored and renumbered as
    MovieLens is (`load_movielens`). An item may be clicked again, and a row that is there twice is
    two clicks. Ratings are 1 and titles "item 7"; `label` stands beside every number made from
    them, and `sha256` is the columns'.

    Raises DataError, which says which column, which row, and what to do; ValueError for `k_core`,
    `missing` or `label`.
    """
    whole(1, k_core=k_core)
    one_of(("refuse", "drop"), missing=missing)
    if not isinstance(label, str):
        raise refuse("label", label, "a string")
    given = {"user": user, "item": item, "time": time}
    columns = {name: _column(name, column) for name, column in given.items()}
    shapes = {name: list(column.shape) for name, column in columns.items()}
    n = columns["user"].size
    if not n or any(shape != [n] for shape in shapes.values()):
        raise DataError(f"user, item and time must be columns of one length, but are {shapes}")
    gone = {name: _missing(name, column) for name, column in columns.items()}
    if missing == "refuse":
        for name, is_missing in gone.items():
            _refuse_missing(name, columns[name], is_missing)
    at = np.flatnonzero(~np.any([*gone.values()], axis=0))  # [n], rows as they were given
    if not len(at):
        raise DataError(f"a user, an item or a time is missing in each of the {n} rows")
    if len(at) < n:
        label += f" ({n - len(at):,} of {n:,} rows left out: a user, item or time is missing)"
    users, user_names = _ids("user", columns["user"][at], at)
    items, item_names = _ids("item", columns["item"][at], at)
    times, per_second = _times(columns["time"][at], at)
    rows = np.stack([users, items, np.ones_like(users), times], axis=1)  # [n, 4]
    digest = sha256(rows.tobytes() + _as_bytes(user_names) + _as_bytes(item_names))
    rows[:, 3] //= per_second
    in_order = rows[np.lexsort((times, users))]  # stable: ties stay as they were given
    films = {number: Film(f"item {name}", []) for number, name in enumerate(item_names or ())}
    data = tidy(in_order, k_core, label, digest, films=films)
    return replace(
        data,
        raw_user=_named(data.raw_user, user_names),
        raw_item=_named(data.raw_item, item_names),
    )


def _column(name: str, given: Any) -> np.ndarray:
    """A column as an array in which every value is what it was, of objects where need be."""
    try:
        if isinstance(given, np.ma.MaskedArray):
            column = given.data.astype(object)
            column[np.ma.getmaskarray(given)] = None
            return column
        if isinstance(given, list | tuple):  # numpy would make "1" of a 1 beside a string
            return np.array(given, dtype=object)
        dtype: Any = getattr(given, "dtype", None)
        if isinstance(dtype, pd.CategoricalDtype) and dtype.categories.dtype.kind == "f":
            return _column(name, given.astype(dtype.categories.dtype))  # of a width of its own
        if pd.api.types.is_extension_array_dtype(dtype) and not isinstance(dtype, pd.SparseDtype):
            if dtype.kind == "f":  # its width says what it can hold
                given = given.to_numpy(dtype.numpy_dtype, na_value=np.nan)
            else:
                given = given.astype(object)  # numpy would make floats of an Int64 that misses one
        column = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{name} cannot be read as a column: {error}") from error
    return column.astype(object) if column.dtype.kind in "UT" else column


def _missing(name: str, column: np.ndarray) -> Bools:
    """Which rows are missing, as `from_clicks` counts them."""
    gone = np.asarray(pd.isna(column))
    marks = _NO_DATE if name == "time" else (*_NO_DATE, _NO_ID)
    if column.dtype.kind in "if":
        gone |= np.isin(column, marks)
    elif column.dtype == object:
        gone |= [
            value.strip() in _NO_STRING
            if isinstance(value, str)
            else isinstance(value, int | float | Decimal | np.number) and value in marks
            for value in column
        ]
    return gone


def _refuse_missing(name: str, column: np.ndarray, gone: Bools) -> None:
    rows = np.flatnonzero(gone)
    if len(rows):
        first = ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
        raise DataError(
            f"{name} is missing in {len(rows):,} of {len(gone):,} rows ({first}): "
            f"row {rows[0]} is {_shown(column[rows[0]])}. missing='drop' leaves such rows out. "
            "None, NaN, NaT, '', 'nan', -1 as an id (of pandas.factorize) and -2**63 are missing"
        )


def _ids(name: str, column: np.ndarray, at: Ints) -> tuple[Ints, list[str] | None]:
    """Ids as numbers [n] that sort as the ids do, and the names that these number, if strings."""
    if column.dtype != object:
        return _whole(name, column, at), None
    strings = np.array([isinstance(value, str) for value in column])
    if strings.all():
        numbers, names = pd.factorize(column, sort=True)
        return numbers.astype(np.int64), [str(each) for each in names]
    if strings.any():
        row = int((strings != strings[0]).argmax())
        raise DataError(
            f"{name}, row {at[row]} is {column[row]!r}, but row {at[0]} is {column[0]!r}: ids are "
            "all numbers or all strings; where 1 and '1' are the same, `.astype(str)` makes them so"
        )
    return _whole(name, column, at), None


def _named(raw: RawIds, names: list[str] | None) -> RawIds:
    """Raw ids [n + 1] of the numbers that stood for names; those that were numbers stay."""
    return raw if names is None else np.array(["", *(names[i] for i in raw[1:])], dtype=object)


def _as_bytes(names: list[str] | None) -> bytes:
    """Names as bytes, for the sum; a number in front of each, so that none runs into the next."""
    whole = "".join(f"{len(name)}:{name}" for name in names or ())
    return whole.encode("utf-8", "surrogatepass")


def _times(column: np.ndarray, at: Ints) -> tuple[Ints, int]:
    """Times [n], exact, and how many of them make one of those that are kept."""
    kind = pd.api.types.infer_dtype(column, skipna=False)
    if kind == "string":
        raise DataError(
            f"time, row {at[0]} is a string, {column[0]!r}: `pandas.to_datetime` makes dates of a "
            "column of strings, `.astype('int64')` whole numbers"
        )
    if kind not in ("datetime64", "datetime", "date"):
        return _whole("time", column, at), 1
    if column.dtype == object:
        zoned = np.array([getattr(value, "tzinfo", None) is not None for value in column])
        if zoned.any() and not zoned.all():
            row = int((zoned != zoned[0]).argmax())
            raise DataError(
                f"time, row {at[row]} is {column[row]}, but row {at[0]} is {column[0]}: all dates "
                "have a time zone, or none has; `.dt.tz_localize` gives one to a column"
            )
    try:
        if column.dtype == object:
            stamps = [pd.Timestamp(value) for value in column]
            unit = max((stamp.unit for stamp in stamps), key=list(_PER_SECOND).index)
            column = np.array([stamp.as_unit(unit) for stamp in stamps], dtype=object)
        dates = pd.DatetimeIndex(pd.to_datetime(column, utc=True))
    except (ValueError, OverflowError) as error:
        raise DataError(f"time cannot be read as dates: {error}") from error
    return dates.asi8.copy(), _PER_SECOND[dates.unit]


def _whole(name: str, column: np.ndarray, at: Ints) -> Ints:
    """A column as int64: 3.0 is a whole number; 3.5, inf, 1e19, True and a rounded one not."""
    kind = column.dtype.kind
    if kind == "O":
        numbers = np.zeros(len(column), dtype=np.int64)
        for row, value in enumerate(column):
            try:
                numbers[row] = _exact(value)
            except (ValueError, TypeError, OverflowError, ArithmeticError):
                raise _not_whole(name, value, at[row]) from None
        return numbers
    if kind == "f":
        bad = ~(np.abs(column) < _limit(column.dtype)) | (column != np.floor(column))
    else:
        bad = np.full(len(column), kind not in "iu") if kind != "u" else column >= 2**63
    if bad.any():
        row = int(bad.argmax())
        raise _not_whole(name, column[row], at[row])
    return column.astype(np.int64)


def _limit(dtype: Any) -> float:
    """Below it a float holds each whole number; from it on, it may be another one rounded."""
    return min(2.0 ** (np.finfo(dtype).nmant + 1), 2.0**63)


def _exact(value: Any) -> int:
    """One value as a whole number, or an error."""
    if isinstance(value, float | np.floating) and not abs(float(value)) < _limit(type(value)):
        raise ValueError("rounded")
    if isinstance(value, float | np.floating | Decimal) and value == (number := int(value)):
        return number
    if isinstance(value, bool | np.bool_):
        raise ValueError("no number")
    return operator.index(value)


def _not_whole(name: str, value: Any, row: int) -> DataError:
    said = f"{name}, row {row} is {_shown(value)}"
    if isinstance(value, float | np.floating) and _limit(type(value)) <= abs(float(value)) < 2**63:
        return DataError(
            f"{said}, a {np.dtype(type(value)).name}, which holds whole numbers exactly below "
            f"{_limit(type(value)):,.0f} alone: it may have been another. Read the column as whole "
            f"numbers where it comes from: `pandas.read_csv(..., dtype={{{name!r}: 'Int64'}})`"
        )
    if name == "time":
        allowed = "times are all whole numbers of 64 bits, in one unit, or all dates"
        if isinstance(value, float | np.floating):
            allowed += "; `(1000 * time).round().astype('int64')` makes milliseconds of seconds"
    else:
        how = ".str.decode('utf-8')" if isinstance(value, bytes) else ".astype(str)"
        allowed = f"ids are whole numbers of 64 bits, or strings; `{how}` makes strings of others"
    return DataError(f"{said}: {allowed}")


def _shown(value: Any) -> str:
    """A value as its user wrote it: 2.5, not np.float64(2.5)."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        return str(value)
    return repr(value.item() if isinstance(value, np.generic) else value)[:60]
