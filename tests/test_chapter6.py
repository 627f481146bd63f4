"""Chapter 6: its exercises' checks, its helpers, and its figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from duetbook.checks import chapter6 as check
from duetbook.plots import chapter6 as figures
from duetbook.style import COLORS
from exercises import checks, defined, defining, sources
from matplotlib.colors import to_hex

CHAPTER = "06_fine_tuning_on_the_device"
CHECKS = checks(CHAPTER)


@torch.inference_mode(False)  # which the check switches on, so that nobody else does as we do here
def descent(w: Any, f: Any, y: Any, rate: float, reduction: str = "mean") -> Any:
    """A step by autograd, where the checks have a formula."""
    leaf = w.clone().requires_grad_()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(f @ leaf, y, reduction=reduction)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return w - rate * gradient


WRONG: list[tuple[str, str, Callable[..., Any]]] = [
    ("one_step", "uphill", lambda w, f, y, rate: descent(w, f, y, -rate)),
    ("one_step", "sum", lambda w, f, y, rate: descent(w, f, y, rate, "sum")),
    ("one_step", "no_sigmoid", lambda w, f, y, r: w - r * ((f @ w - y)[:, None] * f).mean(0)),
    ("one_step", "gradient_only", lambda w, f, y, rate: w - descent(w, f, y, 1.0)),
    ("one_step", "from_zero", lambda w, f, y, rate: descent(w, f, y, rate) - w),
    ("own_loss_of", "padding", lambda loss, there: loss.mean(1).sum()),
    ("own_loss_of", "divided_by_n", lambda loss, there: (loss * there).sum() / loss.shape[1]),
    ("own_loss_of", "mean", lambda loss, there: ((loss * there).sum(1) / there.sum(1)).mean()),
    ("own_loss_of", "pooled", lambda loss, there: (loss * there).sum() / there.sum()),
    ("own_loss_of", "not_summed", lambda loss, there: (loss * there).sum(1) / there.sum(1)),
    ("own_loss_of", "all_summed", lambda loss, there: (loss * there).sum()),
    ("training_bytes", "all_trained", lambda s, d, users: 4 * 4 * (s + d) * users),
    ("training_bytes", "a_copy_each", lambda s, d, users: 4 * (s + 4 * d) * users),
    ("training_bytes", "static_trained", lambda s, d, users: 4 * 4 * (s + d * users)),
    ("training_bytes", "static_forgotten", lambda s, d, users: 4 * 4 * d * users),
    ("training_bytes", "no_moments", lambda s, d, users: 4 * (s + 2 * d * users)),
    ("training_bytes", "one_moment", lambda s, d, users: 4 * (s + 3 * d * users)),
    ("training_bytes", "one_user", lambda s, d, users: 4 * (s + 4 * d)),
    ("honest_score", "best_test", lambda valid, test: max(test)),
    ("honest_score", "valid_score", lambda valid, test: max(valid)),
    ("honest_score", "which", lambda valid, test: valid.index(max(valid))),
    ("honest_score", "mean", lambda valid, test: sum(test) / len(test)),
]


@pytest.mark.parametrize(("name", "mistake", "answer"), WRONG)
def test_usual_mistakes_are_named(name: str, mistake: str, answer: Callable[..., Any]) -> None:
    assert CHECKS[name](answer).name == mistake


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


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


def texts(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_the_picture_of_the_whole_has_both_ways() -> None:
    figures.where_we_are()
    words = " ".join(texts(plt.gca()))
    assert "Fine-tuning (this chapter)" in words and "DUET" in words
    assert "with labels" in words and "no labels" in words


def test_live_draws_every_user_from_step_0() -> None:
    figures.live(
        {"user 1": ([0.5, 0.4, 0.3], [0.7, 0.6, 0.8]), "user 2": ([0.2, 0.1, 0], [1, 1, 0])}
    )
    loss, score = plt.gcf().axes
    assert [list(line.get_xdata()) for line in loss.lines] == [[0, 1, 2]] * 2
    assert list(loss.lines[0].get_ydata()) == [0.5, 0.4, 0.3]
    assert list(score.lines[1].get_ydata()) == [1, 1, 0]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["user 1", "user 2"]
    assert score.lines[0].get_linestyle() != score.lines[1].get_linestyle()


def test_sweep_draws_a_line_and_a_band_for_each_rate() -> None:
    rows = [
        {"rate": rate, "steps": steps, "own": 0.3 - rate * steps, "gain": -rate * steps}
        for rate in (0.001, 0.01)
        for steps in (1, 10)
    ]
    table = pd.DataFrame(rows).assign(low=lambda t: t.gain - 0.1, high=lambda t: t.gain + 0.2)
    figures.sweep(table, own_at_start=0.4)
    left, right = plt.gcf().axes
    assert list(left.lines[1].get_ydata()) == pytest.approx([0.29, 0.2])
    assert list(right.lines[1].get_ydata()) == pytest.approx([-0.01, -0.1])
    assert list(left.lines[2].get_ydata()) == [0.4, 0.4]  # the base
    band = right.collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((-0.2, 0.19))
    assert [t.get_text() for t in right.get_xticklabels()] == ["1", "10"]


def test_costs_mark_training_and_print_the_numbers() -> None:
    names = ["rank", "train"]
    table = pd.DataFrame({"million multiply-adds": [0.5, 2000], "ms": [1.5, 40]}, index=names)
    figures.costs(table.assign(training=[False, True]))
    left, right = plt.gcf().axes
    assert texts(left) == ["0.50", "2,000"] and texts(right) == ["1.5", "40"]
    assert [line.get_xdata()[0] for line in left.lines] == [0.5, 2000]
    markers = [(line.get_marker(), to_hex(line.get_color())) for line in left.lines]
    assert markers == [("D", COLORS["blue"].lower()), ("s", COLORS["green"].lower())]
    assert [t.get_text() for t in left.get_yticklabels()] == names


def test_short_numbers() -> None:
    assert [figures.short(v) for v in (0.284, 8.44, 25.2, 60_000)] == [
        "0.28",
        "8.4",
        "25",
        "60,000",
    ]


def test_figure_1d_draws_bars_dots_and_what_is_missing() -> None:
    panels = {
        "time": {"base": 0.0, "finetune": 20.0, "duet": 0.5},
        "auc": {"base": 0.89, "finetune": None, "duet": 0.90},
        "labels": {"base": 0.0, "finetune": 62.0, "duet": 0.0},
        "nothing": {"base": None, "finetune": None, "duet": None},
    }
    figures.figure_1d(panels)
    time, auc, _, nothing = plt.gcf().axes
    assert [patch.get_width() for patch in time.patches] == [0, 20, 0.5]
    assert texts(time) == ["0", "20", "0.50"]
    assert [line.get_xdata()[0] for line in auc.lines] == [0.89, 0.90] and not auc.patches
    assert texts(auc) == ["0.8900", "not measured", "0.9000"]
    assert auc.get_xlim()[0] > 0.8  # a range of its own
    assert texts(nothing) == ["not measured"] * 3
    assert [t.get_text() for t in time.get_yticklabels()] == ["base", "fine-tuning", "DUET"]
