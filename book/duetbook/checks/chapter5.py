"""Self-checks for the exercises of chapter 5, the Stable Weight Adapter."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch
from scipy import stats
from torch import Tensor

from duetbook.checks.verdict import Arguments, Verdict, draws, judge, normal


def row_sums_fast(answer: Callable[[Tensor], Tensor]) -> Verdict:
    """Exercise 1: the row sums p' without the matrix S."""

    def one(rng: random.Random) -> Arguments:
        return (normal(rng, *rng.sample(range(3, 12), 2)),)

    def right(W: Tensor) -> Tensor:
        return W @ W.sum(0)

    return judge(
        answer,
        draws(one),
        right,
        {
            "diagonal": (
                lambda W: (W * W).sum(1),
                "this is the diagonal of S alone: how long each generator is, not how far it "
                "agrees with the others",
            ),
            "sum_of_numbers": (
                lambda W: W.sum(1),
                "this adds up the numbers of each generator; p' adds up its inner products with "
                "all",
            ),
            "total": (
                lambda W: right(W).sum(),
                "this is the total of all row sums; one number a row is wanted",
            ),
            "without_itself": (
                lambda W: right(W) - (W * W).sum(1),
                "you left out each generator's product with itself; Eq. 8's row sums include it",
            ),
        },
        "right: M products with one sum, where S takes M times M",
        "compare with `swa.row_sums(swa.self_similarity(W))` on two generators",
        edges=draws(lambda rng: (normal(rng, 1, 5),), 1),
    )


def tau_for(answer: Callable[[Tensor, float], float | Tensor]) -> Verdict:
    """Exercise 2: the temperature at which the adapter leans as far as asked."""

    def one(rng: random.Random) -> Arguments:
        n = rng.randint(3, 6)
        return torch.tensor([rng.uniform(0.5, 9) for _ in range(n)]), rng.uniform(1.5, 12)

    def share(p_prime: Tensor) -> Tensor:
        return p_prime / p_prime.sum()

    def apart(p: Tensor) -> Tensor:
        return p.max() - p.min()

    return judge(
        answer,
        draws(one, 3),
        lambda p_prime, lean: apart(share(p_prime)) / math.log(lean),
        {
            "not_normalised": (
                lambda p_prime, lean: apart(p_prime) / math.log(lean),
                "the row sums are not divided by their total: the softmax sees shares",
            ),
            "no_logarithm": (
                lambda p_prime, lean: apart(share(p_prime)) / lean,
                "weights compare by exponentials of shares: a logarithm of `lean` is missing",
            ),
            "upside_down": (
                lambda p_prime, lean: math.log(lean) / apart(share(p_prime)),
                "upside down: the further the weights lean, the lower the temperature",
            ),
            "only_the_largest": (
                lambda p_prime, lean: share(p_prime).max() / math.log(lean),
                "the smallest share is missing: it leaves by the difference, not by being zero",
            ),
        },
        "right: at this temperature one generator weighs `lean` times another",
        "write the largest weight over the smallest, cancel the sum, and solve for τ",
    )


def blend_then_generate(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 3: Eq. 9 for both matrices, then Eq. 6 without its biases."""

    def one(rng: random.Random) -> Arguments:
        M, d, Z = rng.sample(range(2, 7), 3)
        return normal(rng, M).softmax(0), normal(rng, M, d, Z), normal(rng, M, d), normal(rng, Z)

    def merged(p: Tensor, q: Tensor, W_1: Tensor, W_2: Tensor, e: Tensor) -> Tensor:
        return (torch.einsum("m,mdz->dz", p, W_1) @ e) @ (q @ W_2)

    def outputs(p: Tensor, W_1: Tensor, W_2: Tensor, e: Tensor) -> Tensor:
        return torch.einsum("m,mdz,md,z->", p, W_1, W_2, e)

    return judge(
        answer,
        draws(one),
        lambda p, W_1, W_2, e: merged(p, p, W_1, W_2, e),
        {
            "outputs": (
                outputs,
                "you let each generator write, and blend what they wrote; Eq. 9 blends the "
                "generators first, and the products of different generators count too",
            ),
            "no_weights": (
                lambda p, W_1, W_2, e: merged(p**0, p**0, W_1, W_2, e),
                "the weights p are missing: this is the sum of the generators",
            ),
            "plain_average": (
                lambda p, W_1, W_2, e: (W_1.mean(0) @ e) @ W_2.mean(0),
                "this is the plain average, without p",
            ),
            "only_W_1": (
                lambda p, W_1, W_2, e: merged(p, p**0, W_1, W_2, e),
                "W_1 is blended, W_2 only summed: Eq. 9 goes for both",
            ),
        },
        "right: the M generators are one, before anything is generated",
        "blend W_1 over its first axis, blend W_2 over its first axis, then (W_1 e) · W_2",
    )


def first_n(ratio: float, needed: Callable[[int], float]) -> int:
    """The least number of seeds, from 3, at which `needed(n)` is below the ratio."""
    return next(n for n in range(3, 100_000) if needed(n) < ratio)


def factor_needed(n: int) -> float:
    """The ratio of two standard deviations, each from n normal seeds, that 95 % tells apart."""
    return math.sqrt(stats.f.ppf(0.975, n - 1, n - 1))


def seeds_needed(answer: Callable[[float], int]) -> Verdict:
    """Exercise 4: seeds for telling one standard deviation from another of twice its size."""

    def by(needed: Callable[[int], float]) -> Callable[[float], int]:
        return lambda ratio: first_n(ratio, needed)

    return judge(
        answer,
        [(2.0,), *draws(lambda rng: (rng.uniform(1.2, 1.8),), 4)],
        by(factor_needed),
        {
            "no_root": (
                by(lambda n: factor_needed(n) ** 2),
                "F is a ratio of variances: compare it with the square of the ratio",
            ),
            "one_sided": (
                by(lambda n: math.sqrt(stats.f.ppf(0.95, n - 1, n - 1))),
                "either spread may be the larger one: 2.5 % at each end, so take F at 0.975",
            ),
            "freedom": (
                by(lambda n: math.sqrt(stats.f.ppf(0.975, n, n))),
                "n seeds leave n - 1 degrees of freedom: the mean was taken from them too",
            ),
        },
        "right: more seeds than any table of the paper has",
        "raise n from 3 until sqrt(F(0.975; n - 1, n - 1)) falls below the ratio",
        edges=[(40.0,)],  # two seeds would do
    )
