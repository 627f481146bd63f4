"""Chapter 6: its exercises' checks, its helpers, and its figures."""

from __future__ import annotations

import re
from typing import Any

import matplotlib

matplotlib.use("Agg")

import torch
from duetbook.checks import chapter6 as check
from duetbook.plots import chapter6 as figures
from exercises import defined, defining, sources

CHAPTER = "06_fine_tuning_on_the_device"


@torch.inference_mode(False)  # which the check switches on, so that nobody else does as we do here
def descent(w: Any, f: Any, y: Any, rate: float, reduction: str = "mean") -> Any:
    """A step by autograd, where the checks have a formula."""
    leaf = w.clone().requires_grad_()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(f @ leaf, y, reduction=reduction)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return w - rate * gradient


def test_the_right_step_is_autograds() -> None:
    assert check.one_step(descent).passed


def test_what_adam_keeps_is_what_the_exercise_counts() -> None:
    weight = torch.nn.Parameter(torch.ones(50))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    moments = [t for t in optimizer.state[weight].values() if t.shape == weight.shape]
    assert weight.grad is not None
    kept = sum(t.numel() * t.element_size() for t in [weight.data, weight.grad, *moments])
    each = kept // 50
    assert check.training_bytes(lambda s, d, users: weight.itemsize * s + each * d * users).passed


# --- helpers of the notebook -------------------------------------------------------------------


def helper(name: str, **space: Any) -> Any:
    """A function of the notebook, without the lines of its cell that use it."""
    (cell,) = defining(sources(CHAPTER, "code"), name)
    (code,) = re.findall(rf"^def {name}\(.*?(?=^\S|\Z)", cell, re.DOTALL | re.MULTILINE)
    return defined(code, name, **space)


def test_multiply_adds_are_half_the_operations() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    multiply_adds = helper("multiply_adds", FlopCounterMode=FlopCounterMode)
    x, w = torch.randn(5, 4), torch.randn(4, 3, requires_grad=True)
    assert multiply_adds(lambda: x @ w) == 5 * 4 * 3
    assert multiply_adds(lambda: (x @ w).sum().backward()) == 2 * 5 * 4 * 3  # x needs no gradient


def test_kept_bytes_counts_what_backward_needs_and_no_parameter() -> None:
    kept_bytes = helper("kept_bytes", torch=torch)
    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    # x for the gradient of w, w itself for that of x, and tanh's own output
    assert kept_bytes(lambda: torch.tanh(x @ w), [w]) == 4 * (3 * 4 + 3 * 2)
    assert kept_bytes(lambda: torch.tanh(x @ w), []) == 4 * (3 * 4 + 3 * 2 + 4 * 2)
    with torch.no_grad():
        assert kept_bytes(lambda: torch.tanh(x @ w), []) == 0


# --- figures -----------------------------------------------------------------------------------


def test_short_numbers() -> None:
    assert [figures.short(v) for v in (0.284, 8.44, 25.2, 60_000)] == [
        "0.28",
        "8.4",
        "25",
        "60,000",
    ]
