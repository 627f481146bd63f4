"""Self-checks for the exercises of chapter 8, the evidence on faces."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from duetbook.checks.verdict import Arguments, Verdict, draws, judge, normal
from duetlib.vision.conv import conv_loop
from duetlib.vision.network import n_dense, n_two_layer

Counts = Sequence[int]


def balanced(answer: Callable[[Counts, Counts], float]) -> Verdict:
    """Exercise 1: the mean recall over the classes that are there."""

    def one(rng: random.Random) -> Arguments:
        frames = rng.sample(range(10, 99), rng.randint(4, 6))
        right = [rng.randint(1, n - 1) for n in frames]
        empty, never = rng.sample(range(len(frames)), 2)
        frames[empty] = right[empty] = right[never] = 0
        return right, frames

    def total(right: Counts, frames: Counts) -> float:
        return sum(r / n for r, n in zip(right, frames, strict=True) if n)

    def mean(right: Counts, frames: Counts) -> float:
        return total(right, frames) / sum(n > 0 for n in frames)

    return judge(
        answer,
        draws(one),
        mean,
        {
            "accuracy": (
                lambda right, frames: sum(right) / sum(frames),
                "this is accuracy: it lets the commonest class decide",
            ),
            "absent": (
                lambda right, frames: total(right, frames) / len(frames),
                "a class without a frame has no recall; leave it out of the mean",
            ),
            "correct_only": (
                lambda right, frames: total(right, frames) / sum(r > 0 for r in right),
                "a class of which nothing was right counts too, with 0",
            ),
        },
        "right: each class weighs the same, however rare it is",
        "of 8 out of 10 and 1 out of 2 it is 0.65",
        edges=[([3, 8, 1], [4, 9, 6]), ([1, 2], [1, 5])],
    )


def grouped(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 2: a kernel for each device, in one call."""

    def one(rng: random.Random, B: int | None = None) -> Arguments:
        drawn, C_in, C_out, H, W = rng.sample(range(2, 8), 5)
        B = B or drawn
        return normal(rng, B, C_in, H, W), normal(rng, B, C_out, C_in, 1, 1)

    def right(x: Tensor, kernel: Tensor) -> Tensor:
        return conv_loop(x.unsqueeze(1), kernel).squeeze(1)  # [B, C_out, H, W]

    return judge(
        answer,
        draws(one),
        right,
        {
            "first_kernel": (
                lambda x, kernel: conv2d(x, kernel[0]),
                "every device got the first one's kernel",
            ),
            "one_picture": (
                lambda x, kernel: right(x, kernel).flatten(0, 1)[None],
                "right, but still one picture: unflatten it",
            ),
        },
        "right: as many groups as devices, and no group sees another's channels",
        "compare it with one `conv2d` for each device",
        edges=draws(lambda rng: one(rng, B=1), 1),
    )


def numbers_of_a_generator(answer: Callable[[int, int, int, int], int]) -> Verdict:
    """Exercise 3: how many numbers one layer's two-layer generator has."""

    def one(rng: random.Random) -> Arguments:
        n_in, n_out, latent, rank = rng.sample(range(8, 99), 4)
        return n_in, n_out, latent, rank

    return judge(
        answer,
        draws(one),
        lambda n_in, n_out, latent, rank: n_two_layer([(n_in, n_out)], latent, rank),
        {
            "no_biases": (
                lambda n_in, n_out, latent, rank: n_in * rank * latent + rank * n_out,
                "the biases are missing: B_1 has N_in · d numbers, B_2 has N_out",
            ),
            "dense": (
                lambda n_in, n_out, latent, rank: n_dense([(n_in, n_out)], latent, rank),
                "this is the dense reading, which writes N_in · N_out numbers at once",
            ),
            "layer": (
                lambda n_in, n_out, latent, rank: n_in * n_out,
                "this is how many numbers it generates, not how many it has",
            ),
        },
        "right: W_1 and B_1 write N_in rows of d, W_2 and B_2 turn each into N_out",
        "for N_in = 2, N_out = 3, Z = 4, d = 5 it is 68",
    )


def jumps(answer: Callable[[Sequence[float]], float]) -> Verdict:
    """Exercise 4: the mean jump in the second half of a curve."""

    def curve(n: int) -> Callable[[random.Random], Arguments]:
        return lambda rng: ([rng.uniform(0, 1) for _ in range(n)],)

    def mean(values: Sequence[float], size: Callable[[float], float] = abs) -> float:
        return sum(size(b - a) for a, b in zip(values, values[1:], strict=False)) / (
            len(values) - 1
        )

    return judge(
        answer,
        [*draws(curve(8)), *draws(curve(11))],
        lambda curve: mean(curve[len(curve) // 2 :]),
        {
            "whole": (
                mean,
                "this is over the whole curve: the climb at the start is no oscillation",
            ),
            "step_into": (
                lambda curve: mean(curve[len(curve) // 2 - 1 :]),
                "you count the step into the second half as well; take the half first, then its "
                "steps",
            ),
            "signed": (
                lambda curve: mean(curve[len(curve) // 2 :], float),
                "ups and downs cancel here: take absolute values",
            ),
            "spread": (
                lambda curve: float(torch.tensor(curve[len(curve) // 2 :]).std()),
                "a spread is the same for a curve that climbs and one that jumps",
            ),
        },
        "right: how far it goes from one epoch to the next, up or down",
        "of [0, 1, 1, 3] it is 2",
    )
