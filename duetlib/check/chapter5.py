"""Self-checks for the exercises of chapter 5, the Stable Weight Adapter."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy import stats
from torch import Tensor

from .. import swa
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


def tempered(answer: Callable[[Tensor, float], Tensor]) -> Verdict:
    """Exercise 2: a temperature that works, and agrees with Eq. 8 at τ = 1."""
    p_prime, tau = torch.tensor([6.0, 5.0, 2.0]), 0.25
    share = p_prime / p_prime.sum()
    usual = {
        "cancels": (
            swa.adapter_weights(p_prime, tau, "as_printed"),
            "τ is above and below the line, and cancels: this is Eq. 8 as printed",
        ),
        "not_normalised": (
            torch.softmax(p_prime / tau, 0),
            "the row sums are not divided by their total: at τ = 1 this is not Eq. 8",
        ),
        "upside_down": (
            torch.softmax(share * tau, 0),
            "you multiply by τ: a low temperature should sharpen, not flatten",
        ),
        "no_softmax": (share / tau, "the softmax is missing: these numbers do not sum to one"),
    }
    praise = "right: sharper below τ = 1, flatter above, and Eq. 8 at τ = 1"
    otherwise = "divide the row sums by their total, then by τ, then take the softmax"
    right = torch.softmax(share / tau, 0)
    return judge(lambda: answer(p_prime.clone(), tau), right, usual, praise, otherwise)


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
