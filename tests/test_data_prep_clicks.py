"""Clicks of one's own: as MovieLens where the two compare, and the example of the page as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_prep import DataError, from_clicks, load_movielens

PAGE = Path(__file__).resolve().parent.parent / "book" / "api.md"


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


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (([1, 2], [1, 2.5], [0, 0]), r"item, row 1 is not a whole number of 64 bits: 2.5"),
        (([1, 2], [1, 2], [0, float("nan")]), r"time, row 1 .* nan"),
        (([1, 2], [1, 2], [0, float("inf")]), r"time, row 1 .* inf"),
        (([1e19, 2e19], [1, 2], [0, 0]), r"user, row 0 .* 1e\+19"),
        ((np.array([7, 2**63], np.uint64), [1, 2], [0, 0]), r"user, row 1 .*: 9223372036854775808"),
        (([1, 1], [1, 2], pd.to_datetime(["2020-01-01"] * 2)), r"time, row 0 .*: 2020.* dates"),
        ((["ann", "bob"], [1, 2], [0, 0]), r"user, row 0 .*: ann. `pandas.factorize`"),
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


def test_the_example_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUET_CACHE", str(tmp_path / "cache"))
    table().to_csv("clicks.csv", index=False)
    space: dict[str, Any] = {}
    exec(code, space)
    assert re.fullmatch(r"AUC of DUET 0\.\d{4}, of the base 0\.\d{4}\n", capsys.readouterr().out)
    assert space["scores"].shape == (1, space["split"].n_items)
    best = space["model"](space["history"], space["every"])
    assert (space["scores"] - best).abs().max() < 1e-5
