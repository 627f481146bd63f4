"""Clicks of one's own: as MovieLens where the two compare, and the example of the page as it is."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from data_prep import DataError, from_clicks, load_movielens


def table(n_users: int = 60, n_items: int = 154, clicks: int = 20) -> pd.DataFrame:
    """Clicks in no order, and with ties; a user likes every n-th item."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(n_users), clicks) + 700
    item = 1 + (user % 7 + 7 * rng.integers(0, n_items // 7, len(user))) * 11
    rows = {"user": user, "item": item, "time": rng.integers(0, 40, len(user))}
    return pd.DataFrame(rows).sample(frac=1, random_state=0, ignore_index=True)


def test_the_arrays_are_those_of_movielens(tmp_path: Path) -> None:
    clicks = table().drop_duplicates(["user", "item"])
    rated = clicks.assign(rating=3)[["user", "item", "rating", "time"]]
    rated.to_csv(tmp_path / "u.data", sep="\t", header=False, index=False)
    theirs = load_movielens(path=tmp_path / "u.data", allow_unverified=True, k_core=4)
    ours = from_clicks(clicks.user, clicks.item, clicks.time, k_core=4)
    assert 100 < len(ours) < len(clicks)
    for name in ("user", "item", "time", "raw_user", "raw_item"):
        assert (getattr(ours, name) == getattr(theirs, name)).all(), name
    assert ours.titles == theirs.titles and ours.titles[1].startswith("item ")
    assert (ours.n_users, ours.n_items) == (theirs.n_users, theirs.n_items)
    assert ours.genres.shape == (ours.n_items + 1, 0) and ours.label == "own clicks"


def test_an_item_may_come_again_and_ties_stay_as_given() -> None:
    ours = from_clicks([5, 5, 5, 2], [9, 4, 9, 4], [1.0, 1.0, 0.0, 8.0], k_core=1, label="mine")
    assert ours.raw_user[ours.user].tolist() == [2, 5, 5, 5]
    assert ours.raw_item[ours.item].tolist() == [4, 9, 9, 4]
    assert repr(ours).startswith("mine: 2 users, 2 items, 4 rows")


def test_the_sum_is_of_what_was_given() -> None:
    sums = {from_clicks([1, 1], [1, 2], times, k_core=1).sha256 for times in ([1, 2], [1, 3])}
    assert len(sums) == 2


def test_strings_are_ids_as_they_are() -> None:
    """As the same clicks with numbers in the order of the names; the names are kept."""
    user, item = ["eve", "bob", "eve", "bob"], ["tea", "pear", "ale", "tea"]
    times = pd.to_datetime(["2024-03-02", "2024-03-04", "2024-03-01", "2024-03-03"])
    ours = from_clicks(user, item, times, k_core=1)
    numbered = from_clicks([2, 1, 2, 1], [3, 2, 1, 3], [2, 4, 1, 3], k_core=1)
    assert (ours.user == numbered.user).all() and (ours.item == numbered.item).all()
    assert ours.raw_user.tolist() == ["", "bob", "eve"]
    assert ours.raw_item.tolist() == ["", "ale", "pear", "tea"]
    assert ours.titles == ("", "item ale", "item pear", "item tea")
    assert ours.raw_user[ours.user].tolist() == ["bob", "bob", "eve", "eve"]
    for same in (
        pd.Categorical(user),
        pd.Series(user, dtype="string"),
        np.array(user),
        tuple(user),
    ):
        assert from_clicks(same, item, times, k_core=1).raw_user.tolist() == ["", "bob", "eve"]
    others = [from_clicks(names, item, times, k_core=1) for names in (["eve", "bo"] * 2, user)]
    assert others[0].sha256 != others[1].sha256 == ours.sha256


def test_a_core_of_strings_keeps_the_right_names() -> None:
    kept = from_clicks(list("aabbccc"), list("zxxyxyz"), range(7), k_core=2)
    assert kept.raw_user.tolist() == ["", "a", "b", "c"]
    assert kept.raw_item[kept.item].tolist() == list("zxxyxyz")
    kept = from_clicks(list("abbcc"), list("xyzyz"), range(5), k_core=2)
    assert kept.raw_user.tolist() == ["", "b", "c"] and kept.raw_item.tolist() == ["", "y", "z"]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_dates_are_seconds_and_their_parts_decide_the_order(zone: str | None) -> None:
    dates = pd.to_datetime(
        ["2024-03-01 10:00:00.7", "2024-03-01 10:00:00.2", "2024-02-29 23:59:59.0"]
    )
    dates = dates.tz_localize(zone)
    seconds = [1709251199, 1709287200, 1709287200]  # of `date -u -d ... +%s`
    if zone:
        seconds = [second - 3600 for second in seconds]
    for given in (dates, pd.Series(dates), list(dates), [d.to_pydatetime() for d in dates]):
        ours = from_clicks([1, 1, 1], [1, 2, 3], given, k_core=1)
        assert ours.raw_item[ours.item].tolist() == [3, 2, 1] and ours.time.tolist() == seconds


def test_dates_keep_a_nanosecond_and_a_far_year() -> None:
    near = [pd.Timestamp("2024-03-01 00:00:00.000000001"), pd.Timestamp("2024-03-01")]
    ours = from_clicks([1, 1], [1, 2], near, k_core=1)
    assert ours.raw_item[ours.item].tolist() == [2, 1] and ours.time[0] == ours.time[1]
    far = np.array(["3000-01-01", "0001-01-01"], "datetime64[D]")
    assert from_clicks([1, 1], [1, 2], far, k_core=1).time.tolist() == [-62135596800, 32503680000]


@pytest.mark.parametrize(
    "ids",
    [
        [3, 1, 2],
        np.array([3, 1, 2], np.float32),
        np.array([3, 1, 2], np.uint8),
        [3, 1.0, np.int8(2)],
        [Decimal(3), Decimal("1.0"), 2],
        pd.array([3, 1, 2], "Int64"),
        pd.Series([3, 1, 2], index=[9, 8, 7], dtype="Float32"),
        pd.Categorical([3, 1, 2]),
        torch.tensor([3, 1, 2]),
    ],
    ids=lambda ids: type(ids).__name__,
)
def test_whole_numbers_come_in_many_forms(ids: Any) -> None:
    assert from_clicks([1, 1, 1], ids, [0, 1, 2], k_core=1).raw_item.tolist() == [0, 1, 2, 3]
    assert from_clicks([1, 1, 1], [1, 2, 3], ids, k_core=1).time.tolist() == [1, 2, 3]


def test_large_ids_stay_what_they_are() -> None:
    large = [2**60 + 1, 2**60, -(2**61)]
    for ids in (large, np.array(large), pd.array(large, "Int64")):
        ours = from_clicks([1, 1, 1], ids, [-0.0, 1, 2], k_core=1)
        assert ours.raw_item[ours.item].tolist() == large
    ids = pd.array([*large, None], "Int64")  # numpy would make floats of it
    ours = from_clicks([1] * 4, ids, range(4), k_core=1, missing="drop")
    assert ours.raw_item[ours.item].tolist() == large


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("user", [7, None]),
        ("user", ["ann", None]),
        ("user", ["ann", float("nan")]),
        ("user", ["ann", ""]),
        ("item", ["tea", " "]),
        ("item", pd.Series(["tea", None]).astype("string")),
        ("item", np.array(["tea", None]).astype(str)),  # "None", as a string
        ("item", pd.Categorical(["tea", None])),
        ("item", pd.array([7, None], "Int64")),
        ("item", [7.0, float("nan")]),
        ("item", np.ma.array([7, 8], mask=[False, True])),
        ("user", pd.factorize(pd.Series(["ann", None]))[0]),
        ("user", pd.factorize(pd.Series(["ann", None]))[0].astype(str)),
        ("user", [7, Decimal("nan")]),
        ("time", pd.to_datetime(["2024-03-01", None])),
        ("time", pd.to_datetime(["2024-03-01", None]).tz_localize("UTC")),
        ("time", [pd.Timestamp("2024-03-01"), pd.NaT]),
        ("time", np.array(["2024-03-01", "NaT"], "datetime64[s]").astype("int64")),
        ("time", np.array(["2024-03-01", "NaT"], "datetime64[ns]").astype("int64") // 10**9),
        ("time", [0, None]),
        ("time", pd.array([0, None], "Int64")),
    ],
)
def test_what_is_missing_is_refused_or_dropped_and_counted(name: str, column: Any) -> None:
    columns = {"user": [1, 1], "item": [1, 2], "time": [0, 1], name: column}
    with pytest.raises(DataError, match=rf"{name} is missing in 1 of 2 rows \(1\): .*'drop'"):
        from_clicks(**columns, k_core=1)
    left = from_clicks(**columns, k_core=1, missing="drop")
    assert len(left) == 1
    assert left.label == "own clicks (1 of 2 rows left out: a user, item or time is missing)"


def test_missing_rows_are_counted_together() -> None:
    user, time = [1, None, 3, 4] * 3, [0, None, None, 5] * 3
    with pytest.raises(
        DataError, match=r"user is missing in 3 of 12 rows \(1, 5, 9\): row 1 is None"
    ):
        from_clicks(user, [1] * 12, time)
    assert "(6 of 12 rows" in from_clicks(user, [1] * 12, time, k_core=1, missing="drop").label
    with pytest.raises(DataError, match="in each of the 2 rows"):
        from_clicks([None, 1], [1, None], [0, 0], missing="drop")
    assert from_clicks([1, 1], [1, 2], [-1, -2], k_core=1).time.tolist() == [
        -2,
        -1,
    ]  # a time, not an id


def test_a_row_that_is_there_twice_is_two_clicks() -> None:
    assert len(from_clicks([1, 1], [2, 2], [3, 3], k_core=1)) == 2


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (([1, 2], [1, 2.5], [0, 0]), r"item, row 1 is 2.5: ids are whole.*astype\(str\)"),
        (([1, 2], [1, 2], [0, 2.5]), r"time, row 1 is 2.5: .*milliseconds"),
        (([1, 2], [1, 2], [0, float("inf")]), r"time, row 1 is inf: times are all whole"),
        (([1e19, 2e19], [1, 2], [0, 0]), r"user, row 0 is 1e\+19: ids are whole"),
        (
            (np.array([7, 2**63], np.uint64), [1, 2], [0, 0]),
            r"user, row 1 is 9223372036854775808: ",
        ),
        (([7, 2**63], [1, 2], [0, 0]), r"user, row 1 is 9223372036854775808: "),
        (([1, 1], [1, 2], np.array([881250951, 881250940], np.float32)), "time, row 0 .* float32"),
        (([1, 1], np.array([7, 2**24], np.float32), [0, 0]), r"item, row 1 .* below 16,777,216 al"),
        (([1, 1], [7, np.float32(2**24 + 2)], [0, 0]), r"item, row 1 is 16777218.0, a float32"),
        (([1, 1], pd.Series([7, 2**24], dtype="Float32"), [0, 0]), r"item, row 1 .* a float32"),
        (
            ([1, 1], pd.Series([7, 2**24], dtype="float32").astype("category"), [0, 0]),
            r"item, row 1 .* a float32",
        ),
        ((["a", "NaN"], [1, 2], [0, 0]), r"user is missing in 1 of 2 rows"),
        (
            ([1, 1], [1, 2], np.array([7, 2048], np.float16)),
            r"time, row 1 .* below 2,048 al.*Int64",
        ),
        (([2.0**53, 2], [1, 2], [0, 0]), r"user, row 0 .* a float64, .*dtype=\{'user': 'Int64'\}"),
        (([True, False], [1, 2], [0, 0]), r"user, row 0 is True: ids are whole"),
        (([1, True], [1, 2], [0, 0]), r"user, row 1 is True: ids are whole"),
        (([1, "1"], [1, 2], [0, 0]), r"user, row 1 is '1', but row 0 is 1: ids are all numbers or"),
        (([b"a", b"b"], [1, 2], [0, 0]), r"user, row 0 is b'a': .*decode"),
        ((pd.to_datetime(["2024", "2025"]), [1, 2], [0, 0]), r"user, row 0 is 2024-01-01.*ids are"),
        (([1, 2], [1, 2], ["2024-03-01", "x"]), r"time, row 0 is a string.*pandas.to_datetime"),
        (([1, 2], [1, 2], [pd.Timestamp("2024"), 7]), r"row 0 is Timestamp.*: times are all whole"),
        (([1, 2], [1, 2], [pd.Timestamp("2024"), pd.Timestamp("2024", tz="UTC")]), r"row 1 .*zone"),
        (
            ([1, 2], [1, 2], pd.to_timedelta([1, 2], unit="s")),
            r"row 0 is 1\d* \w*seconds: times",
        ),
        (([1, 2], [1], [0, 0]), r"one length, but are .*'item': \[1\]"),
        (([[1], [2]], [1, 2], [0, 0]), r"one length, but are .*'user': \[2, 1\]"),
        (([], [], []), r"one length"),
        ((3, 4, 5), r"one length"),
        (([1, 2], [1, 2], [0, 0]), r"k_core=5 leaves no row of own clicks"),
    ],
)
def test_bad_columns_are_named(columns: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        from_clicks(*columns)


@pytest.mark.parametrize(
    "wrong",
    [{"k_core": 0}, {"k_core": True}, {"k_core": 2.0}, {"missing": "skip"}, {"label": None}],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"^{name} is {value!r}: it must be "):
        from_clicks([1], [1], [0], **wrong)
