"""Self-checks for the exercises of chapter 11, beyond the paper."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..seldom import asked_at
from ..smaller import rounded_bytes
from .verdict import Verdict, judge


def counts(answer: Callable[[Tensor, int], Tensor]) -> Verdict:
    """Exercise 1: the numbers of a neuron as whole numbers of steps."""
    x, every = torch.tensor([0.4, -3.0, 1.1, 0.0, 2.8]), (2, 4, 8)

    def by(whole: Callable[[Tensor], Tensor], largest: Tensor, top: Callable[[int], int]) -> Tensor:
        return torch.stack([whole(x / (largest / top(bits))) for bits in every])

    top, size = lambda bits: 2 ** (bits - 1) - 1, x.abs().max()  # noqa: E731
    right = by(torch.round, size, top)
    usual = {
        "zeros": (
            right * float("nan"),
            "right, but for a neuron of zeros: its step is zero, and 0 / 0 is not a number",
        ),
        "no_sign": (
            by(torch.round, x.max(), top),
            "you took the largest number; here it is the smallest that is largest in size",
        ),
        "one_more": (
            by(torch.round, size, lambda bits: 2 ** (bits - 1)),
            "with 4 bits you reach 8; with its sign that needs a fifth bit",
        ),
        "unsigned": (
            by(torch.round, size, lambda bits: 2**bits - 1),
            "you gave all bits to the size; one of them is for the sign",
        ),
        "cut_off": (
            by(torch.trunc, size, top),
            "you cut the fraction off; round to the nearest whole number",
        ),
        "not_whole": (by(lambda y: y, size, top), "these are not whole numbers yet: round them"),
    }
    praise = "right: the largest in size is met, and all others to half a step"
    otherwise = "with 2 bits [0.4, -3.0, 1.1, 0.0, 2.8] should give [0, -1, 0, 0, 1]"

    def given() -> Tensor | None:
        found = [answer(x, bits) for bits in every]
        if found[0] is None:
            return None
        counts = torch.stack([torch.as_tensor(f).float() for f in found])
        of_zeros = torch.as_tensor(answer(torch.zeros(3), 4)).float()
        return of_zeros.mean() + counts if torch.equal(counts, right) else counts

    return judge(given, right, usual, praise, otherwise)


def ages(answer: Callable[[list[bool]], list[int]]) -> Verdict:
    """Exercise 2: how old a device's layers are at each click."""
    t = True
    every = [[t, t, t], [t, False, False, False, False], [t, False, t, t, False, False, t, False]]

    def right(asks: list[bool]) -> list[int]:
        made = asked_at(torch.tensor(asks).unsqueeze(1))[:, 0]
        return (torch.arange(len(asks)) - made).tolist()

    found = [right(asks) for asks in every]
    usual = {
        "from_one": (
            [[age + 1 for age in row] for row in found],
            "your layers are one click old when they have just come; that is age 0",
        ),
        "made_at": (
            [asked_at(torch.tensor(asks).unsqueeze(1))[:, 0].tolist() for asks in every],
            "this is the click at which they were made; the age is how many clicks ago that was",
        ),
        "since_the_first": (
            [list(range(len(row))) for row in every],
            "your layers never get younger: at a request the age falls to 0",
        ),
        "late": (
            [[0, *[age + 1 for age in row[:-1]]] for row in found],
            "new layers are there at the click of the request, not one click later",
        ),
    }
    praise = "right: a request makes them new, and each click without one makes them older"
    otherwise = "[True, False, True] should give [0, 1, 0]"

    def given() -> list[list[int]] | None:
        rows = [answer(list(asks)) for asks in every]
        return None if rows[0] is None else [torch.as_tensor(row).tolist() for row in rows]

    return judge(given, found, usual, praise, otherwise)


def hide(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 3: the mask without each row's last clicks."""
    n, age = torch.tensor([5, 5, 2, 1, 4]), torch.tensor([0, 2, 4, 1, 4])
    place = torch.arange(6)
    mask = place < n.unsqueeze(1)  # [B, L]
    keep = (n - age).clamp(min=1)
    usual = {
        "all_gone": (
            place < (n - age).unsqueeze(1),
            "a row may lose all its clicks: one has to stay, or the neck reads nothing",
        ),
        "first": (
            mask & (place >= age.minimum(n - 1).unsqueeze(1)),
            "you hid the first clicks; the last ones are those at the right",
        ),
        "padding": (
            mask & (place < (6 - age).clamp(min=1).unsqueeze(1)),
            "you counted from the end of the row, where the padding is",
        ),
        "one_row": (
            mask & (place < keep.min()),
            "all rows lost as much as the one that lost most; each has an age of its own",
        ),
        "hidden": (
            mask & ~(place < keep.unsqueeze(1)),
            "this says what is hidden; the generator's mask says what it sees",
        ),
    }
    praise = "right: each row keeps its earlier clicks, and one at least"
    otherwise = "five clicks of which two are to be hidden should keep the first three"
    right = place < keep.unsqueeze(1)
    return judge(lambda: answer(mask.clone(), age.clone()), right, usual, praise, otherwise)


def message_bytes(answer: Callable[[list[tuple[int, int]], int], int]) -> Verdict:
    """Exercise 4: how many bytes a rounded download takes."""
    shapes, every = [(3, 5), (5, 1)], (3, 4, 8)
    numbers, neurons = 26, 6
    usual = {
        "no_bias": (
            [-(-20 * bits // 8) + 2 * neurons for bits in every],
            "you forgot the biases: a layer has (N_in + 1) · N_out numbers",
        ),
        "inputs": (
            [-(-numbers * bits // 8) + 2 * 8 for bits in every],
            "a step for each neuron, and a layer has N_out of them, not N_in",
        ),
        "no_steps": (
            [-(-numbers * bits // 8) for bits in every],
            "these are the counts; each neuron's step takes two bytes more",
        ),
        "bits": (
            [numbers * bits + 16 * neurons for bits in every],
            "these are bits: a byte has eight",
        ),
        "down": (
            [numbers * bits // 8 + 2 * neurons for bits in every],
            "what does not fill a byte takes a whole one: round up",
        ),
        "by_layer": (
            [-(-20 * bits // 8) - (-6 * bits // 8) + 2 * neurons for bits in every],
            "you rounded up for each layer; the counts of all layers are packed as one",
        ),
    }
    praise = "right: at 4 bits the two layers of SASRec are a seventh of their floats"
    otherwise = "one layer of 3 × 5 at 8 bits should give 30"
    right = [rounded_bytes(shapes, bits) for bits in every]

    def given() -> list[int] | None:
        found = [answer(list(shapes), bits) for bits in every]
        return None if found[0] is None else found

    return judge(given, right, usual, praise, otherwise)
