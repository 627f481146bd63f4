"""Self-checks for the exercises of chapter 8, the evidence on faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..conv import conv_loop
from ..vision import n_dense, n_two_layer
from .verdict import Verdict, judge

Counts = Sequence[int]


def balanced(answer: Callable[[Counts, Counts], float]) -> Verdict:
    """Exercise 1: the mean recall over the classes that are there."""
    right, frames = [90, 5, 0, 0], [100, 20, 10, 0]
    recalls = [0.9, 0.25, 0.0]
    usual = {
        "accuracy": (95 / 130, "this is accuracy: it lets the commonest class decide"),
        "absent": (
            sum(recalls) / 4,
            "a class without a frame has no recall; leave it out of the mean",
        ),
        "correct_only": (
            sum(recalls[:2]) / 2,
            "a class of which nothing was right counts too, with 0",
        ),
    }
    praise = "right: each class weighs the same, however rare it is"
    otherwise = "of 8 out of 10 and 1 out of 2 it is 0.65"
    return judge(lambda: answer(right, frames), sum(recalls) / 3, usual, praise, otherwise)


def grouped(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 2: a kernel for each device, in one call."""
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(3, 4, 5, 5, generator=generator)  # [B, C_in, H, W]
    kernel = torch.randn(3, 2, 4, 1, 1, generator=generator)  # [B, C_out, C_in, 1, 1]
    right = conv_loop(x.unsqueeze(1), kernel).squeeze(1)  # [B, C_out, H, W]
    first = torch.nn.functional.conv2d(x, kernel[0])
    usual = {
        "first_kernel": (first, "every device got the first one's kernel"),
        "one_picture": (right.flatten(0, 1)[None], "right, but still one picture: unflatten it"),
    }
    praise = "right: as many groups as devices, and no group sees another's channels"
    otherwise = "compare it with one `conv2d` for each device"
    return judge(lambda: answer(x, kernel), right, usual, praise, otherwise)


def numbers_of_a_generator(answer: Callable[[int, int, int, int], int]) -> Verdict:
    """Exercise 3: how many numbers one layer's two-layer generator has."""
    n_in, n_out, latent, rank = 96, 576, 64, 32
    right = n_two_layer([(n_in, n_out)], latent, rank)
    usual = {
        "no_biases": (
            n_in * rank * latent + rank * n_out,
            "the biases are missing: B_1 has N_in · d numbers, B_2 has N_out",
        ),
        "dense": (
            n_dense([(n_in, n_out)], latent, rank),
            "this is the dense reading, which writes N_in · N_out numbers at once",
        ),
        "layer": (n_in * n_out, "this is how many numbers it generates, not how many it has"),
    }
    praise = "right: W_1 and B_1 write N_in rows of d, W_2 and B_2 turn each into N_out"
    otherwise = "for N_in = 2, N_out = 3, Z = 4, d = 5 it is 68"
    return judge(lambda: answer(n_in, n_out, latent, rank), right, usual, praise, otherwise)


def jumps(answer: Callable[[Sequence[float]], float]) -> Verdict:
    """Exercise 4: the mean jump in the second half of a curve."""
    curve = [0.1, 0.4, 0.5, 0.6, 0.5, 0.8, 0.7, 0.7]
    right = (0.3 + 0.1 + 0.0) / 3
    every = sum(abs(b - a) for a, b in zip(curve, curve[1:], strict=False)) / 7
    usual = {
        "whole": (every, "this is over the whole curve: the climb at the start is no oscillation"),
        "step_into": (
            0.5 / 4,
            "you count the step into the second half as well; take the half first, then its steps",
        ),
        "signed": (0.2 / 3, "ups and downs cancel here: take absolute values"),
        "spread": (
            float(torch.tensor(curve[4:]).std()),
            "a spread is the same for a curve that climbs and one that jumps",
        ),
    }
    praise = "right: how far it goes from one epoch to the next, up or down"
    otherwise = "of [0, 1, 1, 3] it is 2"
    return judge(lambda: answer(curve), right, usual, praise, otherwise)
