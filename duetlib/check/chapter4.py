"""Self-checks for the exercises of chapter 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..hypernetwork import TwoLayerGenerator, generate
from .verdict import Verdict, judge


def _numbers(*shape: int, seed: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator)


def generate_one(answer: Callable[..., Any]) -> Verdict:
    """Exercise 1: Eq. 6 for one device."""
    e, W_1, B_1 = _numbers(3), _numbers(5, 2, 3), _numbers(5, 2)
    W_2, B_2 = _numbers(2, 4), _numbers(4)
    right = generate(e.unsqueeze(0), W_1, B_1, W_2, B_2)[0]
    zero_1, zero_2 = torch.zeros_like(B_1), torch.zeros_like(B_2)

    def wrong(*arguments: Tensor) -> Tensor:
        return generate(e.unsqueeze(0), *arguments)[0]

    usual = {
        "no_B_2": (wrong(W_1, B_1, W_2, zero_2), "B_2 is missing: it is added to every row."),
        "no_B_1": (wrong(W_1, zero_1, W_2, B_2), "B_1 is missing: add it before W_2."),
        "minus_B_2": (wrong(W_1, B_1, W_2, -B_2), "B_2 is taken away; Eq. 6 adds it."),
    }
    return judge(
        lambda: answer(e.clone(), W_1.clone(), B_1.clone(), W_2.clone(), B_2.clone()),
        right,
        usual,
        "right: a row of A for each input, and W_2 turns each into a row of K",
        "A has a row for each row of W_1: five rows of two numbers, then W_2 makes four of the two",
    )


def download(answer: Callable[..., Any]) -> Verdict:
    """Exercise 2: P, the numbers that a device downloads."""
    shapes = [(64, 128), (128, 64), (64, 1)]
    right = sum((n_in + 1) * n_out for n_in, n_out in shapes)
    usual = {
        "no_bias": (
            sum(n_in * n_out for n_in, n_out in shapes),
            "the biases are missing: each layer has one number more for each output",
        ),
        "bias_per_input": (
            sum(n_in * (n_out + 1) for n_in, n_out in shapes),
            "a bias goes with each output of a layer, not with each input",
        ),
    }
    return judge(
        lambda: answer(shapes),
        right,
        usual,
        "right: 16,641 numbers for DIN's head of 64-128-64-1",
        "add up (N_in + 1) · N_out over the layers",
    )


def grouped_kernels(answer: Callable[..., Any]) -> Verdict:
    """Exercise 3: the kernels of the grouped convolution."""
    weight = _numbers(3, 4, 4)  # N_in = N_out, so that a missing transpose has the right shape
    right = weight.transpose(1, 2).reshape(-1, 4, 1)
    usual = {
        "not_transposed": (
            weight.reshape(-1, 4, 1),
            "each matrix must be turned first: a kernel is a column, one output's weights",
        ),
        "devices_mixed": (
            weight.permute(2, 0, 1).reshape(-1, 4, 1),
            "the devices are mixed: all outputs of device 1 come first, then those of device 2",
        ),
    }
    return judge(
        lambda: answer(weight.clone()),
        right,
        usual,
        "right: B · N_out kernels, each over the N_in channels of its own group",
        "turn each device's matrix, then join the first two axes; one position is the last axis",
    )


def fold(answer: Callable[..., Any]) -> Verdict:
    """Exercise 4: Eq. 5 and 6, in the two-layer form, as one affine map."""
    torch.manual_seed(4)
    layer, g = torch.nn.Linear(6, 5), TwoLayerGenerator(4, 8, 5, 3, std=1.0, from_code=0.5)
    L, b = layer.weight.detach(), layer.bias.detach()
    W_1, B_1 = g.W_1.detach(), g.B_1.detach()  # [R, d, Z], [R, d]
    W_2, B_2 = g.W_2.detach(), _numbers(8)
    matrix = torch.einsum("rdz,zk,dn->rnk", W_1, L, W_2).flatten(0, 1)  # [R·N, D]
    vector = ((W_1 @ b + B_1) @ W_2 + B_2).flatten()  # [R·N]
    usual = {
        "bias_of_Eq_5_lost": (
            (matrix, (B_1 @ W_2 + B_2).flatten()),
            "the vector lacks Eq. 5's own bias, which passes through W_1 and W_2 too",
        ),
        "biases_only_added": (
            (matrix, B_2.repeat(len(B_1))),
            "the vector is more than B_2: the inner biases pass through the outer matrices",
        ),
        "turned": ((matrix.T, vector), "the matrix is transposed: it should be [R·N, D]"),
    }
    return judge(
        lambda: answer(*(t.clone() for t in (L, b, W_1, B_1, W_2, B_2))),
        (matrix, vector),
        usual,
        "right: from the neck's D numbers to all of K in one product",
        "put e = L s + b into (W_1 e + B_1) W_2 + B_2, row by row, and sort by what multiplies s",
    )
