"""Self-checks for the exercises of chapter 5, the Stable Weight Adapter."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy import stats
from torch import Tensor

from .verdict import Verdict, judge


def row_sums_fast(answer: Callable[[Tensor], Tensor]) -> Verdict:
    """Exercise 1: the row sums p' without the matrix S."""
    W = torch.tensor([[2.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 3.0, -1.0], [1.0, 0.0, 2.0]])
    right = W @ W.sum(0)
    usual = {
        "diagonal": (
            (W * W).sum(1),
            "this is the diagonal of S alone: how long each generator is, not how far it agrees "
            "with the others",
        ),
        "sum_of_numbers": (
            W.sum(1),
            "this adds up the numbers of each generator; p' adds up its inner products with all",
        ),
        "total": (right.sum(), "this is the total of all row sums; one number a row is wanted"),
        "without_itself": (
            right - (W * W).sum(1),
            "you left out each generator's product with itself; Eq. 8's row sums include it",
        ),
    }
    praise = "right: M products with one sum, where S takes M times M"
    otherwise = "compare with `swa.row_sums(swa.self_similarity(W))` on two generators"
    return judge(lambda: answer(W.clone()), right, usual, praise, otherwise)


def tau_for(answer: Callable[[Tensor, float], float | Tensor]) -> Verdict:
    """Exercise 2: the temperature at which the adapter leans as far as asked."""
    p_prime, lean = torch.tensor([6.0, 5.0, 2.0]), 8.0
    share = p_prime / p_prime.sum()
    apart = float(share.max() - share.min())
    usual = {
        "not_normalised": (
            float(p_prime.max() - p_prime.min()) / math.log(lean),
            "the row sums are not divided by their total: the softmax sees shares",
        ),
        "no_logarithm": (
            apart / lean,
            "weights compare by exponentials of shares: a logarithm of `lean` is missing",
        ),
        "upside_down": (
            math.log(lean) / apart,
            "upside down: the further the weights lean, the lower the temperature",
        ),
        "only_the_largest": (
            float(share.max()) / math.log(lean),
            "the smallest share is missing: it leaves by the difference, not by being zero",
        ),
    }
    return judge(
        lambda: answer(p_prime.clone(), lean),
        apart / math.log(lean),
        usual,
        "right: at this temperature one generator weighs eight times another",
        "write the largest weight over the smallest, cancel the sum, and solve for τ",
    )


def blend_then_generate(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 3: Eq. 9 for both matrices, then Eq. 6 without its biases."""
    p = torch.tensor([0.5, 0.3, 0.2])
    W_1 = torch.arange(12.0).view(3, 2, 2) / 4  # [M, d, Z]
    W_2 = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, -1.0]])  # [M, d]
    e = torch.tensor([1.0, -0.5])

    def one(a: Tensor, b: Tensor) -> Tensor:
        return (a @ e) @ b

    def blended(q: Tensor) -> Tensor:
        return one(torch.einsum("m,mdz->dz", q, W_1), q @ W_2)

    each = torch.stack([one(a, b) for a, b in zip(W_1, W_2, strict=True)])
    usual = {
        "outputs": (
            p @ each,
            "you let each generator write, and blend what they wrote; Eq. 9 blends the generators "
            "first, and the products of different generators count too",
        ),
        "no_weights": (
            blended(torch.ones(3)),
            "the weights p are missing: this is the sum of the generators",
        ),
        "plain_average": (blended(torch.full((3,), 1 / 3)), "this is the plain average, without p"),
        "only_W_1": (
            one(torch.einsum("m,mdz->dz", p, W_1), W_2.sum(0)),
            "W_1 is blended, W_2 only summed: Eq. 9 goes for both",
        ),
    }
    praise = "right: the M generators are one, before anything is generated"
    otherwise = "blend W_1 over its first axis, blend W_2 over its first axis, then (W_1 e) · W_2"
    arguments = (p, W_1, W_2, e)
    return judge(
        lambda: answer(*(x.clone() for x in arguments)), blended(p), usual, praise, otherwise
    )


def first_n(ratio: float, needed: Callable[[int], float]) -> int:
    """The least number of seeds, from 3, at which `needed(n)` is below the ratio."""
    return next(n for n in range(3, 100_000) if needed(n) < ratio)


def factor_needed(n: int) -> float:
    """The ratio of two standard deviations, each from n normal seeds, that 95 % tells apart."""
    return math.sqrt(stats.f.ppf(0.975, n - 1, n - 1))


def seeds_needed(answer: Callable[[float], int]) -> Verdict:
    """Exercise 4: seeds for telling one standard deviation from another of twice its size."""
    ratio = 2.0
    usual = {
        "no_root": (
            first_n(ratio, lambda n: factor_needed(n) ** 2),
            "F is a ratio of variances: compare it with the square of the ratio",
        ),
        "one_sided": (
            first_n(ratio, lambda n: math.sqrt(stats.f.ppf(0.95, n - 1, n - 1))),
            "either spread may be the larger one: 2.5 % at each end, so take F at 0.975",
        ),
        "freedom": (
            first_n(ratio, lambda n: math.sqrt(stats.f.ppf(0.975, n, n))),
            "n seeds leave n - 1 degrees of freedom: the mean was taken from them too",
        ),
    }
    right = first_n(ratio, factor_needed)
    praise = "right: more seeds than any table of the paper has"
    otherwise = "raise n from 3 until sqrt(F(0.975; n - 1, n - 1)) falls below the ratio"
    return judge(lambda: answer(ratio), right, usual, praise, otherwise)
