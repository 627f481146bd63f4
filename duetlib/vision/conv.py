"""A different convolution for every device of a batch, three ways that agree.

What `dynamic.py` does for linear layers. A device has several pictures (the frames of its video)
and one kernel for all of them. Chapter 8; the grouped convolution is Section 3.3.2's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from data_prep.arguments import whole


def conv_loop(x: Tensor, kernel: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """One ordinary convolution per device, in a Python loop: slow, and plainly right.

    Args:
        x: `[B, T, C_in, H, W]` T pictures of each device.
        kernel: `[B, C_out, C_in, f_h, f_w]`, laid out as `nn.Conv2d` lays it out.
        stride, padding: as in `nn.Conv2d`, in pixels, the same down and across.

    Returns:
        `[B, T, C_out, H', W']`.

    Raises:
        ValueError: if there is not one kernel for each device.
    """
    _one_kernel_each(x, kernel)
    rows = zip(x, kernel, strict=True)
    return torch.stack([F.conv2d(x_b, k_b, stride=stride, padding=padding) for x_b, k_b in rows])


def conv_grouped(x: Tensor, kernel: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """The paper's way: one convolution with a group per device. As `conv_loop`.

    The channels of all B devices stand side by side, as B groups that don't see each other.

    Source: Section 3.3.2, last paragraph.
    """
    _one_kernel_each(x, kernel)
    channels = x.transpose(0, 1).flatten(1, 2)  # [T, B·C_in, H, W]
    kernels = kernel.flatten(0, 1)  # [B·C_out, C_in, f_h, f_w]
    y = F.conv2d(channels, kernels, stride=stride, padding=padding, groups=len(kernel))
    return y.unflatten(1, kernel.shape[:2]).transpose(0, 1)  # [B, T, C_out, H', W']


def conv_1x1(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """A 1×1 convolution is a linear layer on every pixel: one batched product for all devices.

    Args:
        x, kernel: as in `conv_loop`, the filter 1×1. stride: skips pixels.

    Raises:
        ValueError: if the filter is not 1×1, or there is not one kernel for each device.
    """
    _one_kernel_each(x, kernel)
    whole(1, stride=stride)
    if kernel.shape[3:] != (1, 1):
        raise ValueError(f"the filter is {tuple(kernel.shape[3:])}: only (1, 1) is a linear layer")
    x = x[..., ::stride, ::stride]
    y = pixels(x) @ kernel.flatten(2).mT  # [B, T·H'·W', C_in] @ [B, C_in, C_out]
    return pictures(y, (x.shape[1], *x.shape[3:]))


def pixels(x: Tensor) -> Tensor:
    """All pixels of a device's pictures as rows: `[B, T, C, H, W]` to `[B, T·H·W, C]`."""
    return x.movedim(2, -1).flatten(1, 3)


def pictures(y: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """The inverse of `pixels`: `[B, T·H·W, C]` and `(T, H, W)` to `[B, T, C, H, W]`."""
    return y.unflatten(1, sizes).movedim(-1, 2)


def _one_kernel_each(x: Tensor, kernel: Tensor) -> None:
    if len(x) != len(kernel):
        raise ValueError(f"kernels of {len(kernel)} devices, but pictures of {len(x)}")
