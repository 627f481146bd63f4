"""Self-checks for the exercises of chapter 11, beyond the paper."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

from duetbook.checks.verdict import Arguments, Verdict, draws, judge
from duetlib.beyond.compression import rounded_bytes
from duetlib.beyond.refresh import asked_at

Shapes = list[tuple[int, int]]


def counts(answer: Callable[[Tensor, int], Tensor]) -> Verdict:
    """Exercise 1: the numbers of a neuron as whole numbers of steps."""

    def one(sign: int, bits: int) -> Callable[[random.Random], Arguments]:
        """The number that is largest in size has this sign, and its steps are exact in binary."""

        def drawn(rng: random.Random) -> Arguments:
            largest = top(bits) * rng.choice((0.25, 0.5, 2.0))
            x = [rng.uniform(-0.9, 0.9) * largest for _ in range(rng.randint(4, 6))]
            return torch.tensor(rng.sample([*x, sign * largest], len(x) + 1)), bits

        return drawn

    def top(bits: int) -> int:
        return 2 ** (bits - 1) - 1

    def steps(x: Tensor, bits: int) -> Tensor:
        return x / (x.abs().max() / top(bits))

    def right(x: Tensor, bits: int) -> Tensor:
        return steps(x, bits).round() if x.any() else x

    return judge(
        answer,
        [case for bits in (2, 4, 8) for sign in (-1, 1) for case in draws(one(sign, bits), 1)],
        right,
        {
            "zeros": (
                lambda x, bits: steps(x, bits).round(),
                "right, but for a neuron of zeros: its step is zero, and 0 / 0 is not a number",
            ),
            "no_sign": (
                lambda x, bits: (x / (x.max() / top(bits))).round(),
                "you took the largest number; the one that is largest in size may be negative",
            ),
            "one_more": (
                lambda x, bits: (x / (x.abs().max() / (top(bits) + 1))).round(),
                "with 4 bits you reach 8; with its sign that needs a fifth bit",
            ),
            "unsigned": (
                lambda x, bits: steps(x, bits + 1).round(),
                "you gave all bits to the size; one of them is for the sign",
            ),
            "cut_off": (
                lambda x, bits: steps(x, bits).trunc(),
                "you cut the fraction off; round to the nearest whole number",
            ),
            "not_whole": (steps, "these are not whole numbers yet: round them"),
        },
        "right: the largest in size is met, and all others to half a step",
        "with 2 bits [0.4, -3.0, 1.1, 0.0, 2.8] should give [0, -1, 0, 0, 1]",
        edges=[(torch.zeros(3), 4)],
    )


def ages(answer: Callable[[list[bool]], list[int]]) -> Verdict:
    """Exercise 2: how old a device's layers are at each click."""

    def one(rng: random.Random) -> Arguments:
        rest = rng.sample([True, False, False] * 3, 9)  # longer and shorter gaps
        return ([True, *rest, *[True, False, False][: rng.randint(1, 3)]],)

    def made(asks: list[bool]) -> list[int]:
        return asked_at(torch.tensor(asks).unsqueeze(1))[:, 0].tolist()

    def right(asks: list[bool]) -> list[int]:
        return [click - at for click, at in enumerate(made(asks))]

    return judge(
        answer,
        draws(one),
        right,
        {
            "from_one": (
                lambda asks: [age + 1 for age in right(asks)],
                "your layers are one click old when they have just come; that is age 0",
            ),
            "made_at": (
                made,
                "this is the click at which they were made; the age is how many clicks ago that "
                "was",
            ),
            "since_the_first": (
                lambda asks: list(range(len(asks))),
                "your layers never get younger: at a request the age falls to 0",
            ),
            "late": (
                lambda asks: [0, *[age + 1 for age in right(asks)[:-1]]],
                "new layers are there at the click of the request, not one click later",
            ),
        },
        "right: a request makes them new, and each click without one makes them older",
        "[True, False, True] should give [0, 1, 0]",
        edges=[([True, True, True],), ([True, False, False, False, False],), ([True],)],
    )


def hide(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 3: the mask without each row's last clicks."""

    def one(rng: random.Random) -> Arguments:
        L = rng.randint(7, 9)
        n = torch.tensor([L, *rng.sample(range(1, L), 4)])
        age = [0, 2, rng.randint(1, 3), L, rng.randint(1, L)]  # nothing, some, all
        return torch.arange(L) < n.unsqueeze(1), torch.tensor(rng.sample(age, 5))

    def n(mask: Tensor) -> Tensor:
        return mask.sum(1)

    def first(mask: Tensor, keep: Tensor) -> Tensor:
        """The clicks among the first `keep` places of each row."""
        return mask & (torch.arange(mask.shape[1]) < keep.unsqueeze(1))

    def right(mask: Tensor, age: Tensor) -> Tensor:
        return first(mask, (n(mask) - age).clamp(min=1))

    return judge(
        answer,
        draws(one),
        right,
        {
            "all_gone": (
                lambda mask, age: first(mask, n(mask) - age),
                "a row may lose all its clicks: one has to stay, or the neck reads nothing",
            ),
            "first": (
                lambda mask, age: mask & ~first(mask, age.minimum(n(mask) - 1)),
                "you hid the first clicks; the last ones are those at the right",
            ),
            "padding": (
                lambda mask, age: first(mask, (mask.shape[1] - age).clamp(min=1)),
                "you counted from the end of the row, where the padding is",
            ),
            "one_row": (
                lambda mask, age: first(mask, (n(mask) - age).min().clamp(min=1).expand(len(mask))),
                "all rows lost as much as the one that lost most; each has an age of its own",
            ),
            "hidden": (
                lambda mask, age: mask & ~right(mask, age),
                "this says what is hidden; the generator's mask says what it sees",
            ),
        },
        "right: each row keeps its earlier clicks, and one at least",
        "five clicks of which two are to be hidden should keep the first three",
        edges=[(torch.tensor([[True, True, True, False]]), torch.tensor([1]))],
    )


def message_bytes(answer: Callable[[Shapes, int], int]) -> Verdict:
    """Exercise 4: how many bytes a rounded download takes."""

    def one(rng: random.Random) -> Arguments:
        n = rng.sample(range(3, 30, 2), 4)
        return list(zip(n, n[1:] + [1], strict=True)), rng.choice((3, 5, 7))

    def numbers(shapes: Shapes, bias: int = 1) -> int:
        return sum((n_in + bias) * n_out for n_in, n_out in shapes)

    def packed(n: int, bits: int) -> int:
        return -(-n * bits // 8)  # rounded up

    def steps(shapes: Shapes) -> int:
        return 2 * sum(n_out for _, n_out in shapes)

    return judge(
        answer,
        [*(([(3, 5), (5, 1)], bits) for bits in (3, 4, 8)), *draws(one)],
        rounded_bytes,
        {
            "no_bias": (
                lambda shapes, bits: packed(numbers(shapes, 0), bits) + steps(shapes),
                "you forgot the biases: a layer has (N_in + 1) · N_out numbers",
            ),
            "inputs": (
                lambda shapes, bits: packed(numbers(shapes), bits) + 2 * sum(i for i, _ in shapes),
                "a step for each neuron, and a layer has N_out of them, not N_in",
            ),
            "no_steps": (
                lambda shapes, bits: packed(numbers(shapes), bits),
                "these are the counts; each neuron's step takes two bytes more",
            ),
            "bits": (
                lambda shapes, bits: numbers(shapes) * bits + 8 * steps(shapes),
                "these are bits: a byte has eight",
            ),
            "down": (
                lambda shapes, bits: numbers(shapes) * bits // 8 + steps(shapes),
                "what does not fill a byte takes a whole one: round up",
            ),
            "by_layer": (
                lambda shapes, bits: (
                    sum(packed(numbers([shape]), bits) for shape in shapes) + steps(shapes)
                ),
                "you rounded up for each layer; the counts of all layers are packed as one",
            ),
        },
        "right: at 4 bits the two layers of SASRec are a seventh of their floats",
        "one layer of 3 × 5 at 8 bits should give 30",
    )
