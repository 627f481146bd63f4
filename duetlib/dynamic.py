"""A different linear layer for every row of a batch, three ways that agree.

An ordinary layer multiplies every row of a batch by one matrix. A dynamic layer has one matrix for
each device. Chapter 4 goes from the loop to the batched product (Section 3.3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Layer(NamedTuple):
    """The numbers of one dynamic layer: `y = x @ weight + bias`.

    Attributes:
        weight: `[B, N_in, N_out]`, or `[N_in, N_out]` when all devices share it.
        bias: `[B, N_out]`, or `[N_out]`. Devices may share the weight alone.
    """

    weight: Tensor
    bias: Tensor


Linear = Callable[[Tensor, Layer], Tensor]


def per_device(layer: Layer, n_devices: int) -> Layer:
    """What is shared is seen once by each device: `weight [B, N_in, N_out]`, `bias [B, N_out]`."""
    shape = layer.weight.shape[-2:]
    return Layer(layer.weight.expand(n_devices, *shape), layer.bias.expand(n_devices, shape[1]))


def linear_loop(x: Tensor, layer: Layer) -> Tensor:
    """One ordinary linear layer per device, in a Python loop: slow, and plainly right.

    Args:
        x: `[B, C, N_in]`. layer: of each device, or what they share.

    Returns:
        `[B, C, N_out]`.
    """
    rows = zip(x, *per_device(layer, len(x)), strict=True)
    return torch.stack([F.linear(x_b, w_b.T, b_b) for x_b, w_b, b_b in rows])


def linear_batched(x: Tensor, layer: Layer) -> Tensor:
    """All devices in one batched product: the default everywhere. Shapes as in `linear_loop`."""
    if layer.weight.dim() == 2:  # shared by all: the ordinary layer of the base model
        if layer.bias.dim() == 2:
            return F.linear(x, layer.weight.T) + layer.bias.unsqueeze(1)
        return F.linear(x, layer.weight.T, layer.bias)
    return torch.baddbmm(layer.bias.unsqueeze(-2), x, layer.weight)  # a bias of each, or of all


def linear_grouped(x: Tensor, layer: Layer) -> Tensor:
    """The paper's way: one convolution with a group per device. Shapes as in `linear_loop`.

    The B devices become B groups of channels and the C candidates become positions, so that a 1×1
    convolution with `groups=B` gives each device its own matrix.

    Source: Section 3.3.2, last paragraph.
    """
    n_devices, n_candidates, n_in = x.shape
    weight, bias = per_device(layer, n_devices)
    n_out = weight.shape[-1]
    channels = x.transpose(1, 2).reshape(1, n_devices * n_in, n_candidates)  # [1, B·N_in, C]
    kernels = weight.transpose(1, 2).reshape(-1, n_in, 1)  # [B·N_out, N_in, 1]
    y = F.conv1d(channels, kernels, bias.reshape(-1), groups=n_devices)  # [1, B·N_out, C]
    return y.view(n_devices, n_out, n_candidates).transpose(1, 2)  # [B, C, N_out]


def apply_layers(x: Tensor, layers: Sequence[Layer], linear: Linear = linear_batched) -> Tensor:
    """The dynamic layers one after the other, with tanh between them and nothing after the last.

    Args:
        x: `[B, C, N_in]` features. layers: as generated. linear: which of the three ways.

    Returns:
        `[B, C, N_out]` of the last layer.

    Raises:
        ValueError: if a layer does not fit what comes into it, or is of other devices.
    """
    for n, layer in enumerate(layers):
        own = {len(part) for part, dims in zip(layer, (3, 2), strict=True) if part.dim() == dims}
        if own - {len(x)}:
            raise ValueError(f"dynamic layer {n} is of {max(own)} devices, its input of {len(x)}")
        if layer.weight.shape[-2] != x.shape[-1]:
            raise ValueError(
                f"dynamic layer {n} takes {layer.weight.shape[-2]} numbers, but gets {x.shape[-1]}"
            )
        x = linear(torch.tanh(x) if n else x, layer)
    return x
