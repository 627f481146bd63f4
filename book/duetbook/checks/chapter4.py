"""Self-checks for the exercises of chapter 4."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from duetbook.checks.verdict import Arguments, Verdict, draws, judge, normal
from duetlib.hypernetwork import generate

Shapes = list[tuple[int, int]]


def generate_one(answer: Callable[..., Any]) -> Verdict:
    """Exercise 1: Eq. 6 for one device."""

    def one(rng: random.Random) -> Arguments:
        R, d, Z, N = rng.sample(range(2, 7), 4)
        W_1, B_1 = normal(rng, R, d, Z), normal(rng, R, d)
        return normal(rng, Z), W_1, B_1, normal(rng, d, N), normal(rng, N)

    def right(e: Tensor, *arguments: Tensor) -> Tensor:
        return generate(e.unsqueeze(0), *arguments)[0]

    return judge(
        answer,
        draws(one),
        right,
        {
            "no_B_2": (
                lambda e, W_1, B_1, W_2, B_2: right(e, W_1, B_1, W_2, 0 * B_2),
                "B_2 is missing: it is added to every row.",
            ),
            "no_B_1": (
                lambda e, W_1, B_1, W_2, B_2: right(e, W_1, 0 * B_1, W_2, B_2),
                "B_1 is missing: add it before W_2.",
            ),
            "minus_B_2": (
                lambda e, W_1, B_1, W_2, B_2: right(e, W_1, B_1, W_2, -B_2),
                "B_2 is taken away; Eq. 6 adds it.",
            ),
        },
        "right: a row of A for each input, and W_2 turns each into a row of K",
        "A has a row of d numbers for each of the R rows of W_1; W_2 then makes N numbers of the d",
    )


def download(answer: Callable[..., Any]) -> Verdict:
    """Exercise 2: P, the numbers that a device downloads."""

    def one(rng: random.Random) -> Arguments:
        n = rng.sample(range(2, 60), rng.randint(4, 6))
        return (list(zip(n, n[1:] + [1], strict=True)),)

    def numbers(of_layer: Callable[[int, int], int]) -> Callable[[Shapes], int]:
        return lambda shapes: sum(of_layer(n_in, n_out) for n_in, n_out in shapes)

    return judge(
        answer,
        [([(64, 128), (128, 64), (64, 1)],), *draws(one)],
        numbers(lambda n_in, n_out: (n_in + 1) * n_out),
        {
            "no_bias": (
                numbers(lambda n_in, n_out: n_in * n_out),
                "the biases are missing: each layer has one number more for each output",
            ),
            "bias_per_input": (
                numbers(lambda n_in, n_out: n_in * (n_out + 1)),
                "a bias goes with each output of a layer, not with each input",
            ),
        },
        "right: 16,641 numbers for DIN's head of 64-128-64-1",
        "add up (N_in + 1) · N_out over the layers",
        edges=[([(7, 3)],)],
    )


def grouped_kernels(answer: Callable[..., Any]) -> Verdict:
    """Exercise 3: the kernels of the grouped convolution."""

    def one(rng: random.Random) -> Arguments:
        return (normal(rng, *rng.sample(range(2, 7), 3)),)

    def square(rng: random.Random) -> Arguments:  # a missing transpose has the right shape
        return (normal(rng, 3, 4, 4),)

    return judge(
        answer,
        [*draws(square, 1), *draws(one)],
        lambda weight: weight.mT.reshape(-1, weight.shape[1], 1),
        {
            "not_transposed": (
                lambda weight: weight.reshape(-1, weight.shape[1], 1),
                "each matrix must be turned first: a kernel is a column, one output's weights",
            ),
            "devices_mixed": (
                lambda weight: weight.permute(2, 0, 1).reshape(-1, weight.shape[1], 1),
                "the devices are mixed: all outputs of device 1 come first, then those of device 2",
            ),
            "square_only": (
                lambda weight: weight.mT.reshape(-1, weight.shape[2], 1),
                "right for square layers only: a kernel has N_in channels, not N_out",
            ),
        },
        "right: B · N_out kernels, each over the N_in channels of its own group",
        "turn each device's matrix, then join the first two axes; one position is the last axis",
    )


def fold(answer: Callable[..., Any]) -> Verdict:
    """Exercise 4: Eq. 5 and 6, in the two-layer form, as one affine map."""

    def one(rng: random.Random) -> Arguments:
        R, d, Z, N, D = rng.sample(range(2, 9), 5)
        L, b, W_1, B_1 = normal(rng, Z, D), normal(rng, Z), normal(rng, R, d, Z), normal(rng, R, d)
        return L, b, W_1, B_1, normal(rng, d, N), normal(rng, N)

    def right(
        L: Tensor, b: Tensor, W_1: Tensor, B_1: Tensor, W_2: Tensor, B_2: Tensor
    ) -> tuple[Tensor, Tensor]:
        matrix = torch.einsum("rdz,zk,dn->rnk", W_1, L, W_2).flatten(0, 1)  # [R·N, D]
        return matrix, ((W_1 @ b + B_1) @ W_2 + B_2).flatten()  # [R·N]

    return judge(
        answer,
        draws(one),
        right,
        {
            "bias_of_Eq_5_lost": (
                lambda L, b, *others: right(L, 0 * b, *others),
                "the vector lacks Eq. 5's own bias, which passes through W_1 and W_2 too",
            ),
            "biases_only_added": (
                lambda *given: (right(*given)[0], given[5].repeat(len(given[3]))),
                "the vector is more than B_2: the inner biases pass through the outer matrices",
            ),
            "turned": (
                lambda *given: (right(*given)[0].T, right(*given)[1]),
                "the matrix is transposed: it should be [R·N, D]",
            ),
        },
        "right: from the neck's D numbers to all of K in one product",
        "put e = L s + b into (W_1 e + B_1) W_2 + B_2, row by row, and sort by what multiplies s",
    )
