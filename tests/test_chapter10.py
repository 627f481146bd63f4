"""Chapter 10: its exercises' checks, its prediction, and its figures."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import measure_link
import pandas as pd
import pytest
from duetbook.checks import chapter10 as check
from exercises import defining, sources
from safetensors.numpy import load

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = "10_device_and_cloud_for_real"
RECORDS = [json.loads(row) for row in (ROOT / "results" / "link.jsonl").read_text().splitlines()]


def read(data: bytes, name: str, kind: str = "<f", skip: int = 80) -> list[Any]:
    """The numbers of a tensor; `skip` bytes and the header stand before them."""
    (n,) = struct.unpack_from("<Q", data, 72)
    first, last = json.loads(data[80 : 80 + n])[name]["data_offsets"]
    return [x for (x,) in struct.iter_unpack(kind, data[skip + n + first : skip + n + last])]


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
