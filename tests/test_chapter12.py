"""Chapter 12: its exercises' checks, and its figure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
from duetbook.plots import chapter12 as figures
from duetbook.verdicts import VERDICTS, counts
from exercises import checks
from matplotlib.colors import to_hex

CHAPTER = "12_what_holds_up"
CHECKS = checks(CHAPTER)
Means = dict[tuple[str, str], float]


def behind(means: Means, bases: bool = False, equal: bool = True) -> list[tuple[str, str]]:
    found = []
    for (backbone, method), mean in means.items():
        base = means[backbone, "base"]
        if mean < base or (equal and mean == base and (bases or method != "base")):
            found.append((backbone, method))
    return found


def needed(z: float, gain: float, std: float) -> float:
    return (z * std / gain) ** 2


WRONG: list[tuple[str, str, Callable[..., Any]]] = [
    ("counterexamples", "equal_passes", lambda m: behind(m, equal=False)),
    ("counterexamples", "bases_too", lambda m: behind(m, bases=True)),
    ("counterexamples", "supporters", lambda m: [k for k in m if m[k] > m[k[0], "base"]]),
    ("counterexamples", "count", lambda m: len(behind(m))),
    ("may_agree", "as_it_stands", lambda p, d, low, high: low <= p <= high),
    ("may_agree", "whole_digit", lambda p, d, lo, hi: lo <= p + 10**-d and p - 10**-d <= hi),
    ("may_agree", "all_inside", lambda p, d, lo, hi: lo <= p - 10**-d / 2 and p + 10**-d / 2 <= hi),
    ("may_agree", "turned", lambda p, d, lo, hi: lo > p + 10**-d / 2 or p - 10**-d / 2 > hi),
    ("users_needed", "not_squared", lambda gain, std: math.ceil(1.96 * std / gain)),
    ("users_needed", "no_interval", lambda gain, std: math.ceil(needed(1, gain, std))),
    ("users_needed", "one_sided", lambda gain, std: math.ceil(needed(1.645, gain, std))),
    ("users_needed", "nearest", lambda gain, std: round(needed(1.96, gain, std))),
    ("users_needed", "down", lambda gain, std: math.floor(needed(1.96, gain, std))),
    ("users_needed", "turned", lambda gain, std: math.ceil(needed(1.96, std, gain))),
    ("hold_together", "alone", lambda ps: [p < 0.05 for p in ps]),
    ("hold_together", "multiplied", lambda ps: [p < 0.05 * len(ps) for p in ps]),
    ("hold_together", "turned", lambda ps: [p >= 0.05 / len(ps) for p in ps]),
    ("hold_together", "p_values", lambda ps: [p for p in ps if p < 0.05 / len(ps)]),
    ("hold_together", "places", lambda ps: [i for i, p in enumerate(ps) if p < 0.05 / len(ps)]),
]


@pytest.mark.parametrize(("name", "mistake", "answer"), WRONG)
def test_usual_mistakes_are_named(name: str, mistake: str, answer: Callable[..., Any]) -> None:
    assert CHECKS[name](answer).name == mistake


def test_the_board_has_a_square_for_each_claim_in_the_colour_of_its_verdict() -> None:
    figures.board(VERDICTS)
    ax = plt.gca()
    assert [text.get_text() for text in ax.texts] == [str(n) for n in range(1, 74)]
    colors = [to_hex(square.get_facecolor()).lower() for square in ax.patches]
    for verdict, color in figures.FILLED.items():
        assert colors.count(color.lower()) == counts()[verdict]
    plt.close("all")
