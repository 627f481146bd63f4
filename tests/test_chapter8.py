"""Chapter 8: its exercises' checks, and what its figures show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from duetbook.checks import chapter8 as check
from duetbook.plots import chapter8 as figures
from exercises import checks, solution
from torch.nn.functional import conv2d

from duetlib.evidence import statistics, vision_tables
from duetlib.vision.network import n_dense

CHAPTER = "08_evidence_faces"
CHECKS = checks(CHAPTER)


def recalls(right: list[int], frames: list[int], empty: float | None) -> list[float]:
    return [r / n if n else empty for r, n in zip(right, frames, strict=True)]  # type: ignore[misc]


def nonzero_mean(right: list[int], frames: list[int]) -> float:
    some = [r for r in recalls(right, frames, 0.0) if r]
    return sum(some) / len(some)


def one_picture(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return conv2d(x.flatten(0, 1)[None], kernel.flatten(0, 1), groups=len(x))


def mean_jump(curve: list[float], absolute: bool = True) -> float:
    steps = np.diff(curve)
    return float((np.abs(steps) if absolute else steps).mean())


WRONG: list[tuple[str, str, Callable[..., Any]]] = [
    ("balanced", "accuracy", lambda right, frames: sum(right) / sum(frames)),
    ("balanced", "absent", lambda right, frames: sum(recalls(right, frames, 0.0)) / len(frames)),
    ("balanced", "correct_only", nonzero_mean),
    ("grouped", "first_kernel", lambda x, kernel: conv2d(x, kernel[0])),
    ("grouped", "one_picture", one_picture),
    ("numbers", "no_biases", lambda i, o, z, d: i * d * z + d * o),
    ("numbers", "dense", lambda i, o, z, d: n_dense([(i, o)], z, d)),
    ("numbers", "layer", lambda i, o, z, d: i * o),
    ("jumps", "whole", mean_jump),
    ("jumps", "step_into", lambda curve: mean_jump(curve[len(curve) // 2 - 1 :])),
    ("jumps", "signed", lambda curve: mean_jump(curve[len(curve) // 2 :], False)),
    ("jumps", "spread", lambda curve: float(np.std(curve[len(curve) // 2 :], ddof=1))),
]


@pytest.mark.parametrize(("name", "mistake", "answer"), WRONG)
def test_usual_mistakes_are_named(name: str, mistake: str, answer: Callable[..., Any]) -> None:
    assert CHECKS[name](answer).name == mistake


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("balanced", ([8, 1], [10, 2]), 0.65),
        ("numbers", (2, 3, 4, 5), 68),
        ("jumps", ([0, 1, 1, 3],), 2),
    ],
)
def test_the_example_in_a_hint_is_right(name: str, given: Any, said: float) -> None:
    assert solution(CHAPTER, name)(*given) == pytest.approx(said)
    wrong = repr(CHECKS[name](lambda *given: -1))
    assert f"{said:g}" in wrong


def test_oscillation_is_what_exercise_4_asks_for() -> None:
    def oscillation(curve: list[float]) -> float:
        return vision_tables.oscillation([{"test_accuracy": a} for a in curve]) / 100

    assert check.jumps(oscillation).passed


# --- figures -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_figures_left() -> Any:
    yield
    plt.close("all")


def records() -> pd.DataFrame:
    rows = []
    for method, n_p in (("base", 0), ("duet_no_swa", 1), ("duet", 5), ("duet", 2)):
        for seed in range(3):
            curve = [
                {"epoch": e, "loss": 2.0 / e + n_p / 10, "test_accuracy": 0.1 * e + seed / 100}
                for e in range(1, 6)
            ]
            shifts = [
                {"light_x": s, "accuracy": 0.9 - s / 10 + seed / 100, "apex_accuracy": 0.5 - s / 10}
                for s in (0.0, 1.0)
            ]
            row = {"backbone": "mobilenet_v3_small", "method": method, "n_p": n_p, "seed": seed}
            rows.append({**row, "curve": curve, "sessions": shifts, "accuracy": 0.5 + seed / 100})
    return pd.DataFrame(rows)


def test_faces_are_shown_pixel_for_pixel() -> None:
    portraits = torch.randint(0, 256, (2, 8, 3, 16, 16), dtype=torch.uint8)
    figures.people(portraits)
    shown = [image.get_array() for ax in plt.gcf().axes for image in ax.images]
    assert len(shown) == 16
    assert np.array_equal(shown[9], portraits[1, 1].movedim(0, -1))
    assert [ax.get_title() for ax in plt.gcf().axes[:8]] == list(figures.CLASSES)
    grey = torch.randint(0, 256, (6, 1, 16, 16), dtype=torch.uint8)
    figures.video(grey, ["a"] * 6)
    (image,) = plt.gcf().axes[5].images
    assert np.array_equal(np.asarray(image.get_array())[..., 2], grey[5, 0])
    figures.strengths({"none": portraits, "some": portraits}, ("neutral", "fear"))
    titles = [ax.get_title() for ax in plt.gcf().axes[:4]]
    assert titles == ["none\nneutral", "none\nfear", "some\nneutral", "some\nfear"]
    (image,) = plt.gcf().axes[3].images
    assert np.array_equal(image.get_array(), portraits[0, 4].movedim(0, -1))


def test_frames_say_what_was_said_and_mark_what_is_right() -> None:
    frames = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    said = torch.eye(8)[[0, 3]]  # sure of neutral, sure of disgust
    figures.frame_by_frame(frames, {"base": said}, [0, 7])
    assert [ax.get_xlabel() for ax in plt.gcf().axes[2:]] == ["right", "disgust"]
    rings = [float(ax.lines[0].get_ydata()[0]) for ax in plt.gcf().axes[2:]]  # type: ignore[index]
    assert rings == [0, 7]


def test_curves_are_means_over_seeds() -> None:
    table = records()
    figures.learning(table, ("base", "duet_no_swa", "duet"))
    loss, test = plt.gcf().axes
    named = {str(line.get_label()): line for line in loss.lines}
    assert list(named["DUET"].get_ydata()) == pytest.approx([2 / e + 0.5 for e in range(1, 6)])
    base = next(line for line in test.lines if line.get_label() == "base")
    assert list(base.get_ydata()) == pytest.approx([10 * e + 1 for e in range(1, 6)])
    figures.by_generators(table)
    columns = {ax.get_title(): ax for ax in plt.gcf().axes[:5]}
    assert list(columns) == ["base", "$N_p$ = 1", "$N_p$ = 2", "$N_p$ = 3", "$N_p$ = 5"]
    assert columns["$N_p$ = 3"].texts[0].get_text() == "not\nmeasured"
    mean = columns["base"].lines[-1]
    assert list(mean.get_ydata()) == pytest.approx([10 * e + 1 for e in range(1, 6)])
    below = plt.gcf().axes[9].lines[-1]  # N_p = 5
    assert list(below.get_ydata()) == pytest.approx([2 / e + 0.5 for e in range(1, 6)])


def test_figure_6_has_mean_median_quartiles_and_extremes() -> None:
    table = records()
    for seed, curve in zip(table["seed"], table["curve"], strict=True):
        long = [{"epoch": e, "test_accuracy": seed**2 / 10} for e in range(1, 51)]
        curve[:] = [{**row, "test_loss": 1.0} for row in long]
    figures.figure_6(table, ("base", "hypernetwork", "duet"))
    top, bottom = plt.gcf().axes[:3], plt.gcf().axes[3:]
    assert [len(ax.texts) for ax in (*top, *bottom)] == [0, 1, 0] * 2
    mean, median = top[2].lines
    assert list(mean.get_xdata()) == [25, 50]
    assert list(mean.get_ydata()) == pytest.approx([50 / 3] * 2)  # of 0, 10 and 40
    assert list(median.get_ydata()) == pytest.approx([10] * 2)
    extremes, quartiles = (c.get_segments()[0][:, 1] for c in top[2].collections)  # type: ignore[attr-defined]
    assert list(extremes) == pytest.approx([0, 40])
    assert list(quartiles) == pytest.approx([5, 25])


def test_figure_7_shows_every_seed_and_what_is_missing() -> None:
    figures.figure_7(records(), ("base", "hypernetwork", "duet"))
    small, large = plt.gcf().axes
    assert [text.get_text() for text in small.texts] == ["not measured"]
    assert len(large.texts) == 3
    dots = [line for line in small.lines if line.get_marker() not in ("None", None)]
    assert [list(line.get_ydata()) for line in dots] == [pytest.approx([50, 51, 52])] * 2
    ends = [float(y) for y in small.lines[2].get_ydata()]
    assert ends == pytest.approx(statistics.interval_over_seeds(np.array([50.0, 51.0, 52.0])))


def test_recalls_are_means_over_seeds_in_per_cent() -> None:
    table = records()
    for k, name in enumerate(figures.CLASSES):
        table[f"recall_{name}"] = k / 10 + table["seed"] / 100
    figures.recalls(table, ("base", "hypernetwork"))
    (line,) = plt.gca().lines
    assert list(line.get_ydata()) == pytest.approx([10 * k + 1 for k in range(8)])
    assert [tick.get_text() for tick in plt.gca().get_xticklabels()] == list(figures.CLASSES)


def test_what_was_not_measured_says_so() -> None:
    figures.oscillations(records())
    assert [text.get_text() for text in plt.gca().texts] == ["not measured"]
    dots = plt.gca().lines[0]
    assert list(dots.get_xdata()) == pytest.approx([10, 10, 10])


def test_sessions_and_generators_show_the_table() -> None:
    figures.sessions(vision_tables.by_session(records().iloc[:6]), "light")
    every, apex = (ax.lines[0] for ax in plt.gcf().axes)
    assert list(every.get_xdata()) == [0, 1]
    assert list(every.get_ydata()) == pytest.approx([91, 81])
    assert list(apex.get_ydata()) == pytest.approx([50, 40])
    figures.numbers_of_generators(vision_tables.table_4(records()))
    stars = [ln for ln in plt.gcf().axes[0].lines if ln.get_marker() == "*"]
    assert [float(ln.get_ydata()[0]) for ln in stars] == [67.88, 71.82, 73.11, 73.74, 75.15]  # type: ignore[index]


def test_differences_are_drawn_in_percentage_points() -> None:
    table = vision_tables.differences(records().assign(strength=1.0), ("duet_no_swa", "duet"))
    figures.ahead(table.assign(mean=[0.1, -0.2]), "points")
    marks = [ln for ln in plt.gca().lines if ln.get_marker() in ("^", "D")]
    assert [float(ln.get_xdata()[0]) for ln in marks] == pytest.approx([10, -20])  # type: ignore[index]


def test_a_map_has_a_star_for_the_base() -> None:
    label = torch.tensor([1, 2, 2])
    at = {"conv": torch.randn(3, 3), "linear": torch.randn(3, 3)}
    figures.map_of_layers(at, label, {name: torch.zeros(3) for name in at})
    legend = [text.get_text() for text in plt.gcf().legends[0].get_texts()]
    assert legend == [
        "anger",
        "contempt",
        "disgust",
        "fear",
        "happiness",
        "sadness",
        "surprise",
        "base",
    ]
