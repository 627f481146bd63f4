"""Chapter 10: its exercises' checks, its prediction, and its figures."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import measure_link
import pandas as pd
import pytest
from duetbook.checks import chapter10 as check
from duetbook.plots import chapter10 as figures
from exercises import checks, defining, sources
from safetensors.numpy import load

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = "10_device_and_cloud_for_real"
RECORDS = [json.loads(row) for row in (ROOT / "results" / "link.jsonl").read_text().splitlines()]
CHECKS = checks(CHAPTER)


def read(data: bytes, name: str, kind: str = "<f", skip: int = 80) -> list[Any]:
    """The numbers of a tensor; `skip` bytes and the header stand before them."""
    (n,) = struct.unpack_from("<Q", data, 72)
    first, last = json.loads(data[80 : 80 + n])[name]["data_offsets"]
    return [x for (x,) in struct.iter_unpack(kind, data[skip + n + first : skip + n + last])]


def last_good_first(fresh: bool, expires: float | None, now: float, skew: float) -> str:
    if expires is not None and expires >= now - skew:
        return "last good"
    return "fresh" if fresh else "shipped"


def never_old(fresh: bool, expires: float | None, now: float, skew: float) -> str:
    return "fresh" if fresh else "shipped" if expires is None else "last good"


def strict(fresh: bool, expires: float | None, now: float, skew: float) -> str:
    return never_old(fresh, expires if expires is None or expires >= now else None, now, skew)


WRONG: list[tuple[str, str, Callable[..., Any]]] = [
    ("numbers", "big_endian", lambda data, name: read(data, name, ">f")),
    ("numbers", "integers", lambda data, name: read(data, name, "<i")),
    ("numbers", "no_length", lambda data, name: read(data, name, skip=72)),
    (
        "numbers",
        "from_the_first",
        lambda data, name: (read(data, "0.bias") + read(data, name))[: len(read(data, name))],
    ),
    ("numbers", "all", lambda data, name: read(data, "0.bias") + read(data, name)),
    ("is_mine", "all", lambda about, request: True),
    ("is_mine", "never", lambda about, request: about["request"] == request),
    (
        "is_mine",
        "inverted",
        lambda about, request: about["request"] != hashlib.sha256(request).hexdigest(),
    ),
    ("source", "no_skew", strict),
    ("source", "never_expires", never_old),
    ("source", "good_before_fresh", last_good_first),
    ("source", "no_last_good", lambda f, e, n, s: "fresh" if f else "shipped"),
    ("under_way", "no_thousand", lambda b, t: b * t),
    ("under_way", "bits", lambda b, t: 8000 * b * t),
    ("under_way", "one_way", lambda b, t: 500 * b * t),
    ("under_way", "mebibytes", lambda b, t: b * 2**20 * t / 1000),
    ("under_way", "megabytes", lambda b, t: b * t / 1000),
]


@pytest.mark.parametrize(("name", "mistake", "answer"), WRONG)
def test_usual_mistakes_are_named(name: str, mistake: str, answer: Callable[..., Any]) -> None:
    assert CHECKS[name](answer).name == mistake


def test_the_message_of_exercise_1_holds_what_safetensors_reads() -> None:
    data = check.message(random.Random(1))
    for name, values in load(data[72:]).items():
        assert read(data, name) == values.flatten().tolist()


# --- the prediction --------------------------------------------------------------------------


def links() -> pd.DataFrame:
    """The table as the chapter's own cells make it."""
    space: dict[str, Any] = {"json": json, "pd": pd, "records": RECORDS}
    for name in ("predicted", "compare"):
        (code,) = defining(sources(CHAPTER, "code"), name)
        exec(code, space)
    return space["links"]


def test_the_chapter_predicts_what_the_tool_does() -> None:
    ours, tool = links(), measure_link.table(RECORDS)
    key = ["profile", "payload", "connection"]
    both = ours.merge(tool, on=key, suffixes=("", "_tool"), validate="one_to_one")
    assert len(both) == len(ours) == len(tool)
    assert both.predicted.tolist() == pytest.approx(both.predicted_ms.tolist())
    assert both.off.tolist() == pytest.approx(both.off_tool.tolist())


# --- figures ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_figures_left() -> Any:
    yield
    plt.close("all")


def words() -> list[str]:
    return [text.get_text() for ax in plt.gcf().axes for text in ax.texts]


def test_the_first_picture_names_every_step() -> None:
    figures.where_we_are()
    shown = " ".join(words())
    for step in ("cloud", "device", "generators", "sign", "verify", "rank", "nonce", "shipped"):
        assert step in shown, step


def test_message_draws_each_part_as_long_as_it_is() -> None:
    parts = {"prefix": 8, "signature": 64, "header": 300, "numbers": 600}
    figures.message({"one": parts})
    (ax,) = plt.gcf().axes
    assert [bar.get_width() for bar in ax.patches] == list(parts.values())
    assert [bar.get_x() for bar in ax.patches] == [0, 8, 72, 372]


def test_exchange_is_in_order_of_time_with_an_arrow_for_each_crossing() -> None:
    steps = [("back", "device", 5.004), ("asked", "device", 5.0), ("made", "cloud", 5.0015)]
    figures.exchange([figures.Event(*step) for step in steps])
    shown = [text for text in words() if "ms" in text]
    assert shown == ["asked  0.00 ms", "1.50 ms  made", "back  4.00 ms"]
    assert sum(text == "" for text in words()) == 2  # arrows are annotations without words


def test_by_link_puts_dots_and_predictions_where_the_table_says() -> None:
    table = links()
    table = table[table.profile == "15 MB/s, 50 ms"]
    table = table[table.payload == measure_link.SMALL]
    figures.by_link(table)
    (ax,) = plt.gcf().axes
    drawn = [float(x) for line in ax.lines for x in line.get_xdata()]
    kinds = table.set_index("connection")
    expected = [kinds.measured["device"], kinds.measured["kept"], table.bytes_alone.iloc[0]]
    assert drawn == pytest.approx(expected)


def test_all_downloads_names_each_miss() -> None:
    table = links()
    figures.all_downloads(table)
    missed = table[((table.measured / table.predicted - 1).abs() > 0.15) & (table.loss == 0)]
    named = {text for text in words() if "warm" in text}
    assert named == {f"{profile}, warm" for profile in missed.profile} and len(named) == 3
