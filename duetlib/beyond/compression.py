"""Smaller downloads: generated layers rounded to few bits, or told as a few coordinates.

A device downloads P numbers of 32 bits for each session. Here they are rounded to steps of their
neuron's own size, or placed on the axes along which everybody's layers differ, which the device
has had from the start. Chapter 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_prep.arguments import whole
from duetlib.beyond.spectrum import spectrum
from duetlib.dynamic import Layer
from duetlib.latency import n_generated
from duetlib.ppg import split_bias

Shapes = Sequence[tuple[int, int]]
SCALE_BYTES = 2  # a step's size travels as fp16


def joined(layers: Sequence[Layer]) -> Tensor:
    """`[B, P]` all numbers of each device's layers: a layer's rows, then its bias as one more."""
    parts = [torch.cat([layer.weight, layer.bias.unsqueeze(1)], 1) for layer in layers]
    return torch.cat([part.flatten(1) for part in parts], 1)


def divided(X: Tensor, shapes: Shapes) -> list[Layer]:
    """The layers that `joined` has put into `[B, P]` numbers."""
    sizes = [(n_in + 1) * n_out for n_in, n_out in shapes]
    parts = zip(X.split(sizes, 1), shapes, strict=True)
    return [split_bias(part.reshape(-1, n_in + 1, n_out)) for part, (n_in, n_out) in parts]


class Rounded(NamedTuple):
    """The generated numbers of B devices, each as a whole number of steps.

    Attributes:
        counts: `[B, P]` int8, how many steps. step: `[B, N]` the size of a step in each of the
            N = Σ N_out neurons, as fp16 can tell it.
    """

    counts: Tensor
    step: Tensor


def rounded(X: Tensor, shapes: Shapes, bits: int) -> Rounded:
    """Round `[B, P]` generated numbers to `bits` bits; a neuron's largest takes the last step.

    A number that is not finite makes its whole neuron NaN, for whoever unrounds it.

    Args:
        shapes: `(N_in, N_out)` of each layer. bits: 2 to 8; with 4 there are 15 counts, -7 to 7.

    Raises:
        ValueError: for another number of bits, or if P is not what the shapes say.

    Source: Chapter 11.
    """
    whole(2, 8, bits=bits)
    if X.shape[1] != n_generated(shapes):
        raise ValueError(f"{X.shape[1]} numbers are not the {n_generated(shapes)} of {shapes}")
    neuron, top = neurons(shapes).to(X.device), 2 ** (bits - 1) - 1
    largest = X.new_zeros(len(X), sum(n_out for _, n_out in shapes))
    largest.scatter_reduce_(1, neuron.expand_as(X), X.abs(), "amax")  # [B, N]
    step = (largest / top).half().to(X.dtype)
    step = step.where(step != 0, 1)  # a neuron of zeros: any step will do
    counts = (X / step[:, neuron]).round().clamp(-top, top)
    return Rounded(counts.to(torch.int8), step)


def unrounded(message: Rounded, shapes: Shapes) -> Tensor:
    """`[B, P]` the numbers that a device works with: steps times their size."""
    return message.counts * message.step[:, neurons(shapes).to(message.counts.device)]


def neurons(shapes: Shapes) -> Tensor:
    """`[P]` which neuron each generated number belongs to; a bias is one more row of its layer."""
    offset, parts = 0, []
    for n_in, n_out in shapes:
        parts.append(torch.arange(offset, offset + n_out).repeat(n_in + 1))
        offset += n_out
    return torch.cat(parts)


def rounded_bytes(shapes: Shapes, bits: int) -> int:
    """What a rounded download takes: P counts, packed without gaps, and the size of each step."""
    whole(2, 8, bits=bits)
    n_neurons = sum(n_out for _, n_out in shapes)
    return -(-n_generated(shapes) * bits // 8) + SCALE_BYTES * n_neurons


def pack_counts(counts: Tensor, bits: int) -> bytes:
    """`[P]` counts of one device as bytes, `bits` bits each, the lowest first.

    Raises:
        ValueError: if a code takes more bits, or `bits` is not 2 to 8.
    """
    whole(2, 8, bits=bits)
    top = 2 ** (bits - 1) - 1
    steps = counts.cpu().numpy().astype(np.int16) + top  # from 0
    if ((steps < 0) | (steps > 2 * top)).any():
        raise ValueError(f"with {bits} bits, counts go from {-top} to {top}, and one is beyond")
    return np.packbits(steps[:, None] >> np.arange(bits) & 1, bitorder="little").tobytes()


def unpack_counts(packed: bytes, n: int, bits: int) -> Tensor:
    """The `[n]` counts, int8, that `pack_counts` has packed.

    Raises:
        ValueError: if there are not exactly as many bytes as n counts take, or `bits` is not from 2
            to 8.
    """
    whole(0, n=n)
    whole(2, 8, bits=bits)
    if len(packed) != -(-n * bits // 8):
        raise ValueError(f"{len(packed)} bytes are not the {-(-n * bits // 8)} of {n} counts")
    found = np.unpackbits(np.frombuffer(packed, np.uint8), count=n * bits, bitorder="little")
    steps = found.reshape(n, bits) @ (1 << np.arange(bits))  # [n]
    return torch.from_numpy((steps - 2 ** (bits - 1) + 1).astype(np.int8))


class Axes(NamedTuple):
    """What cloud and device agree on once, so that layers can be told by k numbers.

    Attributes:
        mean: `[P]`. axes: `[k, P]` of length 1, at right angles. step: `[k]`, of a coordinate that
            is rounded to 8 bits. share: `[k]` of the variance.
    """

    mean: Tensor
    axes: Tensor
    step: Tensor
    share: Tensor

    def first(self, k: int) -> Axes:
        """The k of them along which layers differ most."""
        whole(1, len(self.axes), k=k)
        return Axes(self.mean, self.axes[:k], self.step[:k], self.share[:k])

    def coordinates(self, X: Tensor) -> Tensor:
        """`[B, k]` int8 coordinates of `[B, P]` layers: k bytes for each device."""
        return ((X - self.mean) @ self.axes.T / self.step).round().clamp(-127, 127).to(torch.int8)

    def numbers(self, counts: Tensor) -> Tensor:
        """`[B, P]` the layers that a device rebuilds."""
        return self.mean + (counts * self.step) @ self.axes


def axes_of(X: Tensor, k: int) -> Axes:
    """The k axes along which `[N, P]` layers differ most, and steps that reach the farthest.

    Args:
        X: generated for the training histories, not for those that will be told.

    Raises:
        ValueError: if the layers are all the same, or k is not from 1 to min(N, P).

    Source: Chapter 11.
    """
    found = spectrum(X)
    whole(1, len(found.share), k=k)
    axes = found.axes[:k]
    reach = ((X - found.mean) @ axes.T).abs().amax(0)  # [k]
    step = reach.clamp(min=torch.finfo(X.dtype).tiny) / 127
    return Axes(found.mean, axes, step, found.share[:k])
