"""Self-checks for the exercises of chapter 12, what holds up."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from duetbook.checks.verdict import Arguments, Verdict, draws, judge

Pair = tuple[str, str]
Means = dict[Pair, float]


def counterexamples(answer: Callable[[Means], list[Pair]]) -> Verdict:
    """Exercise 1: the cells that contradict a sentence about all of them."""

    def one(rng: random.Random) -> Arguments:
        cells: list[tuple[Pair, float]] = []
        for backbone in rng.sample(["din", "sasrec", "gru4rec"], 3):
            base = rng.uniform(0.6, 0.75)
            gains = [0.0, -rng.uniform(0.01, 0.2), rng.uniform(0.01, 0.1), rng.uniform(0.01, 0.2)]
            cells.append(((backbone, "base"), base))
            for method, gain in zip(
                ("fine-tuning", "DUET", "DUET without SWA", "random"),
                rng.sample(gains, 4),
                strict=True,
            ):
                cells.append(((backbone, method), base + gain))
        return (dict(rng.sample(cells, len(cells))),)

    def where(wanted: Callable[[str, float], bool]) -> Callable[[Means], list[Pair]]:
        """The pairs whose method and gain over their own base are wanted."""
        return lambda means: [
            pair for pair in means if wanted(pair[1], means[pair] - means[pair[0], "base"])
        ]

    right = where(lambda method, gain: method != "base" and gain <= 0)
    return judge(
        answer,
        draws(one),
        right,
        {
            "equal_passes": (
                where(lambda method, gain: gain < 0),
                "a method that equals its base is not above it",
            ),
            "bases_too": (
                where(lambda method, gain: gain <= 0),
                "a base is no counterexample to a sentence about methods",
            ),
            "supporters": (
                where(lambda method, gain: gain > 0),
                "these agree with the sentence; wanted are those that contradict it",
            ),
            "count": (
                lambda means: len(right(means)),
                "wanted are the pairs, not how many there are",
            ),
        },
        "right: one of them is enough against the word 'every'",
        "of (a, base) 0.5 and (a, DUET) 0.5 the second contradicts it",
        edges=[({("din", "DUET"): 0.9, ("din", "base"): 0.8},)],  # none
    )


def may_agree(answer: Callable[[float, int, float, float], bool]) -> Verdict:
    """Exercise 2: whether a printed number can lie in an interval."""
    ends = [  # of the interval, in units of the last digit from the printed number
        (-1.2, 1.3),  # all that is rounded to it
        (-0.2, 0.1),  # some of it, and the number itself
        (0.495, 1.0),  # within the rounding, from below
        (-2.1, -0.495),  # within the rounding, from above
        (0.505, 2.0),  # off, though by less than a whole digit
        (-1.4, -0.505),
        (1.1, 1.5),  # far off
        (-3.0, -1.1),
    ]

    def one(rng: random.Random) -> list[Arguments]:
        found = []
        for digits in (1, 2, 3):
            printed, unit = round(rng.uniform(0.3, 0.9), digits), 10**-digits
            found += [(printed, digits, printed + a * unit, printed + b * unit) for a, b in ends]
        return rng.sample(found, len(found))

    def within(units: float) -> Callable[[float, int, float, float], bool]:
        """Whether the interval meets so many units of the last digit to each side."""
        return lambda p, d, low, high: low <= p + units * 10**-d and p - units * 10**-d <= high

    return judge(
        answer,
        one(random.Random(1)),
        within(0.5),
        {
            "as_it_stands": (within(0), "a printed number stands for all that is rounded to it"),
            "whole_digit": (
                within(1),
                "that is a whole last digit to each side; rounding hides a half",
            ),
            "all_inside": (
                lambda p, d, low, high: low <= p - 0.5 * 10**-d and p + 0.5 * 10**-d <= high,
                "you ask whether all such numbers lie inside; one is enough",
            ),
            "turned": (lambda *given: not within(0.5)(*given), "this says when they cannot agree"),
        },
        "right: rounding is an interval too, and two intervals may meet",
        "0.88 with two digits and an interval from 0.884 to 0.890 should give True",
        edges=one(random.Random(2)),
    )


def users_needed(answer: Callable[[float, float], int]) -> Verdict:
    """Exercise 3: how many users tell a gain from zero."""

    def one(rng: random.Random) -> Arguments:
        return rng.uniform(0.003, 0.02), rng.uniform(0.1, 0.3)

    def squared(z: float, gain: float, std: float) -> float:
        return (z * std / gain) ** 2

    def by(z: float) -> Callable[[float, float], int]:
        return lambda gain, std: math.floor(squared(z, gain, std)) + 1

    return judge(
        answer,
        [(0.0121, 0.2), (0.021, 0.2), *draws(one, 3)],
        by(1.96),
        {
            "not_squared": (
                lambda gain, std: math.ceil(1.96 * std / gain),
                "the standard error falls with the root of n: square it",
            ),
            "no_interval": (by(1), "this is one standard error; the interval reaches 1.96 of them"),
            "one_sided": (by(1.645), "1.645 belongs to a test of one side; the interval has two"),
            "down": (
                lambda gain, std: math.floor(squared(1.96, gain, std)),
                "round up: with one user less zero is inside",
            ),
            "nearest": (
                lambda gain, std: round(squared(1.96, gain, std)),
                "rounding to the nearest leaves zero inside where it rounds down: round up",
            ),
            "touches": (
                lambda gain, std: math.ceil(squared(1.96, gain, std)),
                "where it comes out even, the interval ends at zero; one user more leaves it out",
            ),
            "turned": (
                lambda gain, std: by(1.96)(std, gain),
                "you divided the gain by the scatter; a small gain needs more users, not fewer",
            ),
        },
        "right: half the gain needs four times the users",
        "a gain of 0.1 with a scatter of 0.5 should give 97",
        edges=[(0.98, 2.0)],  # even at 16, in whatever order it is multiplied
    )


def hold_together(answer: Callable[[list[float]], list[bool]]) -> Verdict:
    """Exercise 4: which of several verdicts hold together."""

    def one(rng: random.Random) -> Arguments:
        k = rng.randint(5, 8)
        limits = [0, 0.05 / k, 0.05 / (k - 1), 0.05, 0.3]  # each step of Holm's rule is laxer
        p_values = [
            rng.uniform(low, high)
            for low, high in zip(limits, limits[1:], strict=False)
            for _ in range(2)
        ]
        return (rng.sample(p_values, k),)

    def below(limit: Callable[[int], float]) -> Callable[[Sequence[float]], list[bool]]:
        return lambda p_values: [p < limit(len(p_values)) for p in p_values]

    right = below(lambda k: 0.05 / k)
    return judge(
        answer,
        draws(one, 3),
        right,
        {
            "alone": (
                below(lambda k: 0.05),
                "each of these holds alone; together each gets a k-th of the 5 %",
            ),
            "multiplied": (
                below(lambda k: 0.05 * k),
                "with more comparisons it becomes harder to pass, not easier",
            ),
            "turned": (
                lambda p_values: [not holds for holds in right(p_values)],
                "this says which do not hold",
            ),
            "p_values": (
                lambda p_values: [p for p in p_values if p < 0.05 / len(p_values)],
                "wanted is True or False for each p-value",
            ),
            "places": (
                lambda p_values: [n for n, holds in enumerate(right(p_values)) if holds],
                "wanted is True or False for each p-value, not their places",
            ),
        },
        "right: who asks several questions must ask each more strictly",
        "[0.03, 0.01] should give [False, True]",
        edges=[([0.025, 0.0249],), ([0.04],)],  # 5 % itself is not below it; one question alone
    )
