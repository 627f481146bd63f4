"""Chapter 8: its exercises' checks, and what its figures show."""

from __future__ import annotations

from typing import Any

import pytest
from duetbook.checks import chapter8 as check
from exercises import checks, solution

from duetlib.evidence import vision_tables

CHAPTER = "08_evidence_faces"
CHECKS = checks(CHAPTER)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("balanced", ([8, 1], [10, 2]), 0.65),
        ("numbers", (2, 3, 4, 5), 68),
        ("jumps", ([0, 1, 1, 3],), 2),
    ],
)
def test_the_example_in_a_hint_is_right(name: str, given: Any, said: float) -> None:
    assert solution(CHAPTER, name)(*given) == pytest.approx(said)
    wrong = repr(CHECKS[name](lambda *given: -1))
    assert f"{said:g}" in wrong


def test_oscillation_is_what_exercise_4_asks_for() -> None:
    def oscillation(curve: list[float]) -> float:
        return vision_tables.oscillation([{"test_accuracy": a} for a in curve]) / 100

    assert check.jumps(oscillation).passed
