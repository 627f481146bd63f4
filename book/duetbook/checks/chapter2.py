"""Self-checks for the exercises of chapter 2."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from duetbook.checks.verdict import Arguments, Verdict, draws, judge, normal
from duetlib.hypernetwork import assemble, generate


def ordinary(answer: Callable[..., Any]) -> Verdict:
    """Exercise 1: bias and weight of one ordinary layer, `answer(W_1, B_1, W_2, B_2)`."""

    def one(rng: random.Random) -> Arguments:
        R, d, Z, N = rng.sample(range(2, 7), 4)
        return normal(rng, R, d, Z), normal(rng, R, d), normal(rng, d, N), normal(rng, N)

    def written(W_1: Tensor, B_1: Tensor, W_2: Tensor, B_2: Tensor) -> tuple[Tensor, Tensor]:
        """What z = 0 writes, `[R, N]`, and what each number of z adds, `[Z, R, N]`."""
        Z = W_1.shape[-1]
        by_z = generate(torch.eye(Z), W_1, torch.zeros_like(B_1), W_2, torch.zeros_like(B_2))
        return generate(torch.zeros(1, Z), W_1, B_1, W_2, B_2)[0], by_z

    def right(*given: Tensor) -> tuple[Tensor, Tensor]:
        at_zero, by_z = written(*given)
        return at_zero.flatten(), by_z.flatten(1).T  # [R·N], [R·N, Z]

    def by_column(*given: Tensor) -> tuple[Tensor, Tensor]:
        at_zero, by_z = written(*given)
        return at_zero.T.flatten(), by_z.transpose(1, 2).flatten(1).T

    return judge(
        answer,
        draws(one),
        right,
        {
            "weight first": (
                lambda *given: right(*given)[::-1],
                "the two are right, and in the other order: the bias comes first",
            ),
            "no B_1": (
                lambda W_1, B_1, W_2, B_2: right(W_1, torch.zeros_like(B_1), W_2, B_2),
                "z = 0 writes more than B_2: B_1 goes through W_2 as well",
            ),
            "no B_2": (
                lambda W_1, B_1, W_2, B_2: right(W_1, B_1, W_2, torch.zeros_like(B_2)),
                "B_2 is missing in the bias: it is added to each of the R rows",
            ),
            "by column": (
                by_column,
                "the numbers go down each column first; put R before N and then flatten",
            ),
            "transposed": (
                lambda *given: (right(*given)[0], right(*given)[1].T),
                "the weight is [Z, R·N]: `nn.Linear` holds its outputs first, [R·N, Z]",
            ),
        },
        "that is Eq. 3 as one layer: Z inputs and R · N outputs, row after row",
        "try z = 0 for the bias, and z = (1, 0, 0) for the first column of the weight",
    )


def lay(answer: Callable[[Tensor, int, int], Any]) -> Verdict:
    """Exercise 2: blocks to a matrix, `answer(blocks, i, j)`."""

    def one(rng: random.Random) -> Arguments:
        i, j, r, c = rng.sample(range(2, 7), 4)
        return normal(rng, i * j, r, c), i, j

    def by_column(blocks: Tensor, i: int, j: int) -> Tensor:
        turned = blocks.unflatten(0, (j, i)).transpose(0, 1).flatten(0, 1)
        return assemble(turned, (i, j))

    return judge(
        answer,
        draws(one),
        lambda blocks, i, j: assemble(blocks, (i, j)),
        {
            "reshape": (
                lambda blocks, i, j: blocks.reshape(i * blocks.shape[1], -1),
                "a reshape alone cuts the blocks up: the axis of block columns has to stand behind "
                "that of a block's rows before you reshape",
            ),
            "by column": (
                by_column,
                "the blocks go down each column first; Eq. 4 fills a row from left to right",
            ),
            "other way up": (
                lambda blocks, i, j: assemble(blocks, (j, i)),
                "i and j are swapped: i blocks stand one below the other, j side by side",
            ),
        },
        "that is Eq. 4: i blocks down, j across, each block whole",
        "draw 2 × 3 blocks on paper and number their cells",
    )


PRICES = [(16, 16, 64, 32), (16, 144, 64, 64), (8, 8, 4, 2)]  # R, N, Z, d


def pays_from(answer: Callable[[int, int, int, int], Any]) -> Verdict:
    """Exercise 3: from how many blocks on a generator pays, `answer(R, N, Z, d)`; 0 for never."""

    def one(rng: random.Random) -> Arguments:
        R, N = rng.sample(range(8, 20), 2)
        return R, N, rng.randint(10, 60), rng.randint(2, 9)

    def solve(
        more: int = 1, biases: bool = True, latents: bool = True
    ) -> Callable[[int, int, int, int], int]:
        def found(R: int, N: int, Z: int, d: int) -> int:
            saved = R * N - latents * Z  # by each block
            cost = R * d * (Z + biases) + N * (d + biases)
            return (cost - 1 + more) // saved + 1 if saved > 0 else 0

        return found

    return judge(
        answer,
        [*PRICES, *draws(one)],
        solve(),
        {
            "no biases": (
                solve(biases=False),
                "B_1 (R d numbers) and B_2 (N numbers) have to be kept too",
            ),
            "no latents": (solve(latents=False), "every block keeps a latent of Z numbers"),
            "as many": (
                solve(more=0),
                "where it comes out even, generator and kernels are as many numbers; "
                "one block more makes them fewer",
            ),
        },
        "right, also where it comes out even, and where it never pays",
        "a block saves R N - Z numbers; the generator costs R d (Z + 1) + N (d + 1), once; "
        "fewer numbers means fewer, not as many; and 0 where it never pays",
        edges=[
            (3, 4, 2, 2),  # even at 3
            (2, 2, 3, 5),  # saves one number a block
            (4, 2, 8, 1),  # saves nothing
            (2, 3, 11, 4),
        ],
    )


def start(answer: Callable[[int, int, int, float], Any]) -> Verdict:
    """Exercise 4: standard deviation for W_1, `answer(Z, d, fan_in, var_W_2)`."""

    def one(rng: random.Random) -> Arguments:
        Z, d, fan_in = rng.sample(range(3, 40), 3)
        return Z, d, fan_in, rng.uniform(0.02, 0.5)

    return judge(
        answer,
        draws(one),
        lambda Z, d, fan_in, v: math.sqrt(1 / (Z * d * fan_in * v)),
        {
            "variance": (
                lambda Z, d, fan_in, v: 1 / (Z * d * fan_in * v),
                "that is the variance: the standard deviation is its square root",
            ),
            "no d": (
                lambda Z, d, fan_in, v: math.sqrt(1 / (Z * fan_in * v)),
                "each generated number is a sum of d products, so d counts too",
            ),
            "no Z": (
                lambda Z, d, fan_in, v: math.sqrt(1 / (d * fan_in * v)),
                "each number of A is a sum of Z products, so Z counts too",
            ),
        },
        "right: with it, the generated weights start with the variance 1 / fan-in",
        "set Z · d · Var(W_1) · Var(W_2) equal to 1 / fan-in, and solve for Var(W_1)",
    )
