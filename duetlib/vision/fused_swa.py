"""The Stable Weight Adapter's blend, with its gradient by hand: fewer passes over the generators.

The generators of MobileNetV3 hold ten million numbers each. What an adapter costs there is memory
traffic, and PyTorch's own gradient of Eq. 8 and 9 makes five copies of all M generators. By hand it
is one. Row sums of `S = W' W'^T` need no S: `p'_i = <W'_i, ΣW'>`. Chapter 8.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from duetlib.swa import StableWeightAdapter, Temperature, adapter_weights, blend

COLUMNS = 2**16  # of M rows at a time: what is read twice is still in the cache the second time


class _Blend(torch.autograd.Function):
    """`[M, n]` matrices to p `[M]` and `Σ p_i W'_i` `[n]`."""

    @staticmethod
    def forward(ctx: Any, W: Tensor, tau: float, temperature: Temperature) -> tuple[Tensor, Tensor]:
        parts = [part @ part.sum(0) for part in W.split(COLUMNS, dim=1)]
        p_prime = torch.stack(parts).sum(0)  # [M]
        p = adapter_weights(p_prime, tau, temperature)
        ctx.of_p = tau, temperature
        ctx.save_for_backward(W, p_prime, p)
        return p, _sum(p, W)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dp: Tensor, dblend: Tensor) -> tuple[Tensor, None, None]:
        W, p_prime, p = ctx.saved_tensors
        with torch.enable_grad():  # Eq. 8 alone, M numbers
            p_prime = p_prime.detach().requires_grad_()
            again = adapter_weights(p_prime, *ctx.of_p)
        (d,) = torch.autograd.grad(again, p_prime, dp + W @ dblend)
        # p'_i = <W_i, ΣW>, so W_i meets ΣW in its own row sum, and W_j in that of every j.
        rows = torch.stack([p, d, torch.ones_like(p)], dim=1)  # [M, 3]
        dW = torch.empty_like(W)
        parts = zip(W.split(COLUMNS, 1), dblend.split(COLUMNS), dW.split(COLUMNS, 1), strict=True)
        for part, dpart, out in parts:
            torch.mm(rows, torch.stack([dpart, part.sum(0), _sum(d, part)]), out=out)
        return dW, None, None


def _sum(p: Tensor, W: Tensor) -> Tensor:
    """`Σ p_i W_i`; as a product of matrices it is twice as fast as of a vector and a matrix."""
    return (p.unsqueeze(0) @ W).squeeze(0)


def blended(adapter: StableWeightAdapter) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`W_1, B_1, W_2, B_2` as `adapter.blended()` has them, for large generators.

    Source: Chapter 8, Eq. (8) and (9).
    """
    p, W_1 = _Blend.apply(adapter.W_1.flatten(1), adapter.tau, adapter.temperature)
    rest = (blend(p, W) for W in (adapter.B_1, adapter.W_2, adapter.B_2))
    return (W_1.view(adapter.W_1.shape[1:]), *rest)
