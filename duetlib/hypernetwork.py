"""The original HyperNetwork: a small network that writes the weights of another (Eq. 3 and 4).

Chapter 2. The two-layer generator is that of Ha et al. (2017); DUET takes it over in Eq. 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data_prep.arguments import number, whole
from duetlib.dynamic import Layer


def generate(e: Tensor, W_1: Tensor, B_1: Tensor, W_2: Tensor, B_2: Tensor) -> Tensor:
    """The first line of Eq. 6, and g of Eq. 3: `K = (W_1 e + B_1) W_2 + B_2`.

    Args:
        e: `[B, Z]` one code per device (or per block of a kernel).
        W_1: `[R, d, Z]`, B_1: `[R, d]` one small map for each of the R rows.
        W_2: `[d, N]`, B_2: `[N]` shared by all rows.

    Returns:
        `[B, R, N]` generated matrices. Less `B_2` they are products through d numbers: of rank d at
        most.

    Source: Chapter 2, Eq. (3); Chapter 4, Eq. (6).
    """
    A = nn.functional.linear(e, W_1.flatten(0, 1), B_1.flatten())  # [B, R·d]
    return A.unflatten(1, B_1.shape) @ W_2 + B_2  # [B, R, d] @ [d, N]


class TwoLayerGenerator(nn.Module):
    """The parameters of `generate`, started so that what it generates is an ordinary layer.

    Args:
        rows, cols: R and N, the shape of what is generated.
        latent: Z. rank: d.
        std: standard deviation that generated numbers should have at the start.
        from_code: share of that variance which comes from the code `e` (for codes of unit
            variance); the rest comes from `B_1`, equal for all codes. 1 is the HyperNetwork's
            start, a small share the PPG's.

    Each generated number is a sum of d products of independent numbers, so its variance is
    `d · Var(A) · Var(W_2)`: with `Var(W_2) = 1/d` it is that of A (Chang et al., 2020).

    Source: Chapter 2.
    """

    def __init__(
        self, rows: int, cols: int, latent: int, rank: int, std: float, from_code: float = 1.0
    ):
        super().__init__()
        whole(1, rows=rows, cols=cols, latent=latent, rank=rank)
        number(0, std=std)
        number(0, 1, from_code=from_code)
        self.W_1 = nn.Parameter(torch.randn(rows, rank, latent))
        self.B_1 = nn.Parameter(torch.randn(rows, rank))
        self.W_2 = nn.Parameter(torch.randn(rank, cols) / math.sqrt(rank))
        self.B_2 = nn.Parameter(torch.zeros(cols))
        with torch.no_grad():
            self.W_1.mul_(std * math.sqrt(from_code / latent))
            self.B_1.mul_(std * math.sqrt(1 - from_code))

    def forward(self, e: Tensor) -> Tensor:
        """`[B, Z]` codes to `[B, R, N]` matrices."""
        return generate(e, self.W_1, self.B_1, self.W_2, self.B_2)


def block_grid(target: Sequence[int], base: Sequence[int]) -> tuple[int, int]:
    """How many base kernels a target needs, down and across: i and j of Eq. 4.

    Args:
        target, base: `(C_in, C_out)` of a linear layer or `(C_in, C_out, f_w, f_h)` of a
            convolution.

    Raises:
        ValueError: if the filters differ, or a count of channels is no multiple of the base's.

    Source: Chapter 2, the two conditions under Eq. (3).
    """
    if len(target) != len(base) or tuple(target[2:]) != tuple(base[2:]):
        raise ValueError(
            f"target {tuple(target)} and base {tuple(base)} need the same filter size "
            f"(the numbers after C_in and C_out)"
        )
    for name, t, b in zip(("C_in", "C_out"), target, base, strict=False):
        if b < 1 or t < 1 or t % b:
            raise ValueError(f"{name} = {t} of the target is no multiple of the base's {b}")
    return target[0] // base[0], target[1] // base[1]


def assemble(blocks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Lay i × j base kernels out as one kernel, row by row, as Eq. 4 draws it.

    Args:
        blocks: `[i·j, c_in, c_out, ...]` base kernels. grid: `(i, j)`.

    Returns:
        `[i·c_in, j·c_out, ...]`.
    """
    i, j = grid
    c_in, c_out = blocks.shape[1:3]
    tiles = blocks.unflatten(0, (i, j)).transpose(1, 2)  # [i, c_in, j, c_out, ...]
    return tiles.reshape(i * c_in, j * c_out, *blocks.shape[3:])


class HyperNetwork(nn.Module):
    """One generator g and a learned latent `z` for every block of every target kernel (Eq. 3, 4).

    Nothing of the input reaches `z`: all devices get the same weights.

    Args:
        targets: shapes of the kernels, `(C_in, C_out)` or `(C_in, C_out, f_w, f_h)`.
        base: shape of the base kernel that they are put together from.
        latent: C_z, the length of `z`. rank: d of the generator.

    Raises:
        ValueError: if a target cannot be put together from the base kernel (`block_grid`).

    Source: Chapter 2, Eq. (3) and (4).
    """

    def __init__(
        self,
        targets: Sequence[Sequence[int]],
        base: Sequence[int],
        latent: int = 64,
        rank: int = 32,
    ):
        super().__init__()
        whole(1, latent=latent, rank=rank)
        self.grids = [block_grid(target, base) for target in targets]
        self.base = tuple(base)
        self.z = nn.ParameterList(torch.randn(i * j, latent) for i, j in self.grids)
        self.bias = nn.ParameterList(torch.zeros(target[1]) for target in targets)
        filter_size = math.prod(base[2:])
        self.fan_in = [target[0] * filter_size for target in targets]
        # Each of the c_in rows holds all c_out · f_w · f_h numbers, as in Ha et al. One generator
        # serves targets of any size, so it writes blocks of variance 1, and `kernel` rescales them.
        self.g = TwoLayerGenerator(base[0], base[1] * filter_size, latent, rank, std=1.0)

    def kernel(self, n: int) -> Tensor:
        """The n-th kernel, in its target's shape, with the variance 1/fan-in at the start."""
        blocks = self.g(self.z[n]).view(-1, *self.base)  # [i·j, c_in, c_out, ...]
        return assemble(blocks, self.grids[n]) / math.sqrt(self.fan_in[n])

    def forward(self, clicks: Tensor, mask: Tensor) -> list[Layer]:
        """The layers of every device: the same for all, whatever they have clicked."""
        return [Layer(self.kernel(n), bias) for n, bias in enumerate(self.bias)]
