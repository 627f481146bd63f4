"""Self-checks for the exercises of chapter 2."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..hypernetwork import assemble, generate
from .verdict import Verdict, judge


def ordinary(answer: Callable[..., Any]) -> Verdict:
    """Exercise 1: bias and weight of one ordinary layer, `answer(W_1, B_1, W_2, B_2)`."""
    draw = torch.Generator().manual_seed(0)
    shapes = ((4, 2, 3), (4, 2), (2, 5), (5,))  # W_1, B_1, W_2, B_2
    W_1, B_1, W_2, B_2 = (torch.randn(shape, generator=draw) for shape in shapes)
    no_B = torch.zeros_like(B_1), torch.zeros_like(B_2)
    at_zero = generate(torch.zeros(1, 3), W_1, B_1, W_2, B_2).flatten()  # [R·N]
    by_z = generate(torch.eye(3), W_1, no_B[0], W_2, no_B[1])  # [Z, R, N]
    weight = by_z.flatten(1).T  # [R·N, Z]
    usual = {
        "weight first": (
            (weight, at_zero),
            "the two are right, and in the other order: the bias comes first",
        ),
        "no B_1": (
            (B_2.repeat(4), weight),
            "z = 0 writes more than B_2: B_1 goes through W_2 as well",
        ),
        "no B_2": (
            ((B_1 @ W_2).flatten(), weight),
            "B_2 is missing in the bias: it is added to each of the R rows",
        ),
        "by column": (
            (at_zero.view(4, 5).T.flatten(), by_z.transpose(1, 2).flatten(1).T),
            "the numbers go down each column first; put R before N and then flatten",
        ),
        "transposed": (
            (at_zero, weight.T),
            "the weight is [Z, R·N]: `nn.Linear` holds its outputs first, [R·N, Z]",
        ),
    }
    return judge(
        lambda: answer(W_1, B_1, W_2, B_2),
        (at_zero, weight),
        usual,
        "that is Eq. 3 as one layer: three inputs, 4 · 5 outputs, and of rank 2 in each row of K",
        "try z = 0 for the bias, and z = (1, 0, 0) for the first column of the weight",
    )


def lay(answer: Callable[[Tensor, int, int], Any]) -> Verdict:
    """Exercise 2: blocks to a matrix, `answer(blocks, i, j)`."""
    pieces = torch.arange(24.0).reshape(6, 2, 2)
    by_column = pieces.reshape(3, 2, 2, 2).transpose(0, 1).reshape(6, 2, 2)
    usual = {
        "reshape": (
            pieces.reshape(4, 6),
            "a reshape alone cuts the blocks up: the axis of block columns has to stand behind "
            "that of a block's rows before you reshape",
        ),
        "by column": (
            assemble(by_column, (2, 3)),
            "the blocks go down each column first; Eq. 4 fills a row from left to right",
        ),
        "other way up": (
            assemble(pieces, (3, 2)),
            "i and j are swapped: i blocks stand one below the other, j side by side",
        ),
    }
    return judge(
        lambda: answer(pieces, 2, 3),
        assemble(pieces, (2, 3)),
        usual,
        "that is Eq. 4: two blocks down, three across, each block whole",
        "draw the 2 × 3 blocks on paper and number their cells",
    )


PRICES = ((16, 16, 64, 32), (16, 144, 64, 64), (8, 8, 4, 2), (4, 2, 8, 1))  # R, N, Z, d


def pays_from(answer: Callable[[int, int, int, int], Any]) -> Verdict:
    """Exercise 3: from how many blocks on a generator pays, `answer(R, N, Z, d)`; 0 for never."""

    def solve(fixed: Callable[[int, int, int, int], int], latents: bool) -> list[int]:
        found = []
        for R, N, Z, d in PRICES:
            saved = R * N - (Z if latents else 0)  # by each block
            found.append(fixed(R, N, Z, d) // saved + 1 if saved > 0 else 0)
        return found

    right = solve(lambda R, N, Z, d: R * d * (Z + 1) + N * (d + 1), latents=True)
    usual = {
        "no biases": (
            solve(lambda R, N, Z, d: R * d * Z + N * d, latents=True),
            "B_1 (R d numbers) and B_2 (N numbers) have to be kept too",
        ),
        "no latents": (
            solve(lambda R, N, Z, d: R * d * (Z + 1) + N * (d + 1), latents=False),
            "every block keeps a latent of Z numbers",
        ),
    }
    return judge(
        lambda: None if answer(*PRICES[0]) is None else [answer(*case) for case in PRICES],
        right,
        usual,
        "right for four generators, the one that never pays among them",
        "a block saves R N - Z numbers; the generator costs R d (Z + 1) + N (d + 1), once; "
        "fewer numbers means fewer, not as many; and 0 where it never pays",
    )


STARTS = ((64, 32, 32, 1 / 32), (8, 4, 256, 1.0), (16, 16, 144, 0.02))  # Z, d, fan-in, Var(W_2)


def start(answer: Callable[[int, int, int, float], Any]) -> Verdict:
    """Exercise 4: standard deviation for W_1, `answer(Z, d, fan_in, var_W_2)`."""
    variance = [1 / (Z * d * fan_in * v) for Z, d, fan_in, v in STARTS]
    usual = {
        "variance": (variance, "that is the variance: the standard deviation is its square root"),
        "no d": (
            [math.sqrt(1 / (Z * fan_in * v)) for Z, d, fan_in, v in STARTS],
            "each generated number is a sum of d products, so d counts too",
        ),
        "no Z": (
            [math.sqrt(1 / (d * fan_in * v)) for Z, d, fan_in, v in STARTS],
            "each number of A is a sum of Z products, so Z counts too",
        ),
    }
    return judge(
        lambda: None if answer(*STARTS[0]) is None else [answer(*case) for case in STARTS],
        [math.sqrt(value) for value in variance],
        usual,
        "right: with it, the generated weights start with the variance 1 / fan-in",
        "set Z · d · Var(W_1) · Var(W_2) equal to 1 / fan-in, and solve for Var(W_1)",
    )
