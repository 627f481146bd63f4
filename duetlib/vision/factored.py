"""Apply a generated layer without building it.

Eq. 6 generates a layer as a product of two thin matrices, `K = A W_2 + B_2`, and only A is a
device's own. `x K` is `(x A) W_2` and a multiple of `B_2`: cheaper than building K, as long as few
rows go through it. The layers of MobileNetV3 hold a million numbers, and six frames go through
them. What is sent to a device is K. Chapter 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from duetlib.dynamic import Layer, linear_batched
from duetlib.hypernetwork import TwoLayerGenerator
from duetlib.swa import StableWeightAdapter
from duetlib.vision.fused_swa import blended


class Factored(NamedTuple):
    """A generated layer of each device, not multiplied out.

    Attributes:
        A: `[B, N_in, d]`, `W_1 e + B_1`.
        W_2: `[d, N_out]`, B_2: `[N_out]`, shared by all devices.
    """

    A: Tensor
    W_2: Tensor
    B_2: Tensor

    def built(self) -> Tensor:
        """K, `[B, N_in, N_out]`: the numbers that a device downloads."""
        return self.A @ self.W_2 + self.B_2


def factors(g: TwoLayerGenerator | StableWeightAdapter, e: Tensor, scale: float = 1.0) -> Factored:
    """What `g(e)` generates, times `scale`, in two factors; an adapter is blended first.

    Args:
        e: `[B, Z]` codes.

    Source: Chapter 8, Eq. (6); Eq. (9).
    """
    parts = blended(g) if isinstance(g, StableWeightAdapter) else (g.W_1, g.B_1, g.W_2, g.B_2)
    W_1, B_1, W_2, B_2 = parts
    A = torch.nn.functional.linear(e, W_1.flatten(0, 1), B_1.flatten())  # [B, N_in·d]
    return Factored(A.unflatten(1, B_1.shape), W_2 * scale, B_2 * scale)


def apply(x: Tensor, layer: Tensor | Layer | Factored) -> Tensor:
    """A layer of each device, or one for all, on the rows of each.

    Args:
        x: `[B, N, N_in]`.
        layer: a weight `[B, N_in, N_out]` or `[N_in, N_out]`, a `Layer`, or `Factored`.

    Returns:
        `[B, N, N_out]`.
    """
    if isinstance(layer, Factored):
        thin = x @ layer.A  # [B, N, d]
        return thin @ layer.W_2 + x.sum(-1, keepdim=True) * layer.B_2
    return linear_batched(x, layer) if isinstance(layer, Layer) else x @ layer


def built(layers: Sequence[Tensor | Layer | Factored]) -> list[Tensor | Layer]:
    """The layers as a device gets them: generated ones multiplied out."""
    return [layer.built() if isinstance(layer, Factored) else layer for layer in layers]
