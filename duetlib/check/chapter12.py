"""Self-checks for the exercises of chapter 12, what holds up."""

from __future__ import annotations

import math
from collections.abc import Callable

from .verdict import Verdict, judge

Pair = tuple[str, str]


def counterexamples(answer: Callable[[dict[Pair, float]], list[Pair]]) -> Verdict:
    """Exercise 1: the cells that contradict a sentence about all of them."""
    means = {
        ("din", "base"): 0.83,
        ("din", "fine-tuning"): 0.82,
        ("din", "DUET"): 0.85,
        ("sasrec", "base"): 0.87,
        ("sasrec", "fine-tuning"): 0.88,
        ("sasrec", "DUET"): 0.87,
    }
    behind, equal = ("din", "fine-tuning"), ("sasrec", "DUET")
    bases = [("din", "base"), ("sasrec", "base")]
    usual = {
        "equal_passes": ([behind], "a method that equals its base is not above it"),
        "bases_too": (
            [bases[0], behind, bases[1], equal],
            "a base is no counterexample to a sentence about methods",
        ),
        "supporters": (
            [("din", "DUET"), ("sasrec", "fine-tuning")],
            "these agree with the sentence; wanted are those that contradict it",
        ),
        "count": (2, "wanted are the pairs, not how many there are"),
    }
    praise = "right: one of them is enough against the word 'every'"
    otherwise = "of (a, base) 0.5 and (a, DUET) 0.5 the second contradicts it"
    return judge(lambda: answer(dict(means)), [behind, equal], usual, praise, otherwise)


def may_agree(answer: Callable[[float, int, float, float], bool]) -> Verdict:
    """Exercise 2: whether a printed number can lie in an interval."""
    asked = [
        (0.88, 2, 0.870, 0.890),  # inside
        (0.88, 2, 0.878, 0.881),  # inside, but not all that it stands for
        (0.88, 2, 0.884, 0.890),  # within the rounding, from below
        (0.88, 2, 0.860, 0.876),  # within the rounding, from above
        (0.88, 2, 0.890, 0.900),  # off
        (0.880, 3, 0.884, 0.890),  # off, for it has a digit more
        (0.88, 2, 0.860, 0.870),  # off
    ]
    right = [True, True, True, True, False, False, False]
    usual = {
        "as_it_stands": (
            [low <= printed <= high for printed, _, low, high in asked],
            "a printed number stands for all that is rounded to it",
        ),
        "whole_digit": (
            [p - 10**-d <= high and low <= p + 10**-d for p, d, low, high in asked],
            "that is a whole last digit to each side; rounding hides a half",
        ),
        "all_inside": (
            [low <= p - 0.5 * 10**-d and p + 0.5 * 10**-d <= high for p, d, low, high in asked],
            "you ask whether all such numbers lie inside; one is enough",
        ),
        "turned": ([not r for r in right], "this says when they cannot agree"),
    }
    praise = "right: rounding is an interval too, and two intervals may meet"
    otherwise = "0.88 with two digits and an interval from 0.884 to 0.890 should give True"

    def given() -> list[bool] | None:
        found = [answer(*each) for each in asked]
        return None if found[0] is None else [bool(f) for f in found]

    return judge(given, right, usual, praise, otherwise)


def users_needed(answer: Callable[[float, float], int]) -> Verdict:
    """Exercise 3: how many users tell a gain from zero."""
    asked = [(0.0121, 0.2), (0.021, 0.2), (0.003, 0.1)]

    def by(z: float, power: float = 2) -> list[int]:
        return [math.floor((z * std / gain) ** power) + 1 for gain, std in asked]

    right = by(1.96)
    usual = {
        "not_squared": (by(1.96, 1), "the standard error falls with the root of n: square it"),
        "no_interval": (by(1), "this is one standard error; the interval reaches 1.96 of them"),
        "one_sided": (by(1.645), "1.645 belongs to a test of one side; the interval has two"),
        "down": ([n - 1 for n in right], "round up: with one user less zero is inside"),
        "nearest": (
            [round((1.96 * std / gain) ** 2) for gain, std in asked],
            "rounding to the nearest leaves zero inside where it rounds down: round up",
        ),
        "turned": (
            [math.floor((1.96 * gain / std) ** 2) + 1 for gain, std in asked],
            "you divided the gain by the scatter; a small gain needs more users, not fewer",
        ),
    }
    praise = "right: half the gain needs four times the users"
    otherwise = "a gain of 0.1 with a scatter of 0.5 should give 97"

    def given() -> list[int] | None:
        found = [answer(gain, std) for gain, std in asked]
        return None if found[0] is None else [int(f) for f in found]

    return judge(given, right, usual, praise, otherwise)


def hold_together(answer: Callable[[list[float]], list[bool]]) -> Verdict:
    """Exercise 4: which of several verdicts hold together."""
    p_values = [0.03, 0.004, 0.2, 0.009, 0.011]
    right = [p < 0.05 / 5 for p in p_values]
    usual = {
        "alone": (
            [p < 0.05 for p in p_values],
            "each of these holds alone; together each gets a fifth of the 5 %",
        ),
        "multiplied": (
            [p < 0.05 * 5 for p in p_values],
            "with more comparisons it becomes harder to pass, not easier",
        ),
        "turned": ([not r for r in right], "this says which do not hold"),
        "p_values": (
            [p for p, holds in zip(p_values, right, strict=True) if holds],
            "wanted is True or False for each p-value",
        ),
        "places": ([1, 3], "wanted is True or False for each p-value, not their places"),
    }
    praise = "right: who asks five questions must ask each more strictly"
    otherwise = "[0.03, 0.01] should give [False, True]"

    return judge(lambda: answer(list(p_values)), right, usual, praise, otherwise)
