"""Chapter 7: its exercises' checks, its figures whatever is recorded, and sums behind its prose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from duetbook.plots import chapter7 as figures
from duetbook.style import METHOD_STYLE
from exercises import checks, solution
from scipy.stats import norm, t
from torch import nn

from duetlib.evidence import tables
from duetlib.evidence.records import STARTS_FROM, text_of_shares
from duetlib.methods import METHODS, build

CHAPTER = "07_evidence_recommendation"
CHECKS = checks(CHAPTER)


WRONG: list[tuple[str, str, Callable[..., Any]]] = [
    ("share_kept", "ratio_of_levels", lambda base, control, whole: control / whole),
    ("share_kept", "lost", lambda base, control, whole: 1 - (control - base) / (whole - base)),
    ("share_kept", "upside_down", lambda base, control, whole: (whole - base) / (control - base)),
    ("share_kept", "not_divided", lambda base, control, whole: control - base),
    ("redraw", "pairs", lambda d, seeds, users: d[seeds, users].mean().item()),
    (
        "redraw",
        "no_repeats",
        lambda d, s, u: d[sorted({*s.tolist()})][:, sorted({*u.tolist()})].mean(),
    ),
    ("redraw", "users_only", lambda d, seeds, users: d.mean(0)[users].mean().item()),
    ("redraw", "seeds_only", lambda d, seeds, users: d.mean(1)[seeds].mean().item()),
    ("film_before", "behind", lambda W, b, gamma, beta: (gamma * W, gamma * b + beta)),
    ("film_before", "columns", lambda W, b, g, beta: (W @ torch.diag(g), beta @ W + b)),
    ("film_before", "beta_outside", lambda W, b, g, beta: (torch.diag(g) @ W, b + beta)),
    ("film_before", "transposed", lambda W, b, g, beta: (torch.diag(g) @ W, W @ beta + b)),
    ("film_before", "no_shift", lambda W, b, g, beta: (torch.diag(g) @ W, b)),
    ("wider", "normal", lambda k, n: norm.isf(0.025 / k) / norm.isf(0.025)),
    ("wider", "degrees", lambda k, n: t.isf(0.025 / k, n) / t.isf(0.025, n)),
    ("wider", "one_sided", lambda k, n: t.isf(0.05 / k, n - 1) / t.isf(0.05, n - 1)),
    ("wider", "not_divided", lambda k, n: t.isf(0.025 / k, n - 1)),
    (
        "wider",
        "independent",
        lambda k, n: t.isf((1 - 0.95 ** (1 / k)) / 2, n - 1) / t.isf(0.025, n - 1),
    ),
]


@pytest.mark.parametrize(("name", "mistake", "answer"), WRONG)
def test_usual_mistakes_are_named(name: str, mistake: str, answer: Callable[..., Any]) -> None:
    assert CHECKS[name](answer).name == mistake


def test_film_before_is_what_the_solution_says() -> None:
    W, b, gamma, beta, x = (torch.randn(s) for s in ((4, 3), (3,), (4,), (4,), (5, 4)))
    weight, bias = solution(CHAPTER, "film_before")(W, b, gamma, beta)
    assert torch.allclose((gamma * x + beta) @ W + b, x @ weight + bias, atol=1e-5)


def test_one_more_input_is_a_generated_bias() -> None:
    """`NeckAsInput` against an ordinary `nn.Linear` over features and neck, joined."""
    torch.manual_seed(0)
    source = build("sasrec", "neck_as_input", 20).source
    clicks, mask, x = torch.randn(4, 6, 32), torch.ones(4, 6, dtype=torch.bool), torch.randn(4, 32)
    first = source(clicks, mask)[0]
    joined = nn.Linear(64, first.weight.shape[1])
    with torch.no_grad():
        joined.weight[:, :32], joined.bias[:] = source.of_features.T, source.of_neck.bias
        joined.weight[:, 32:] = source.of_neck.weight
    s = source.neck(clicks, mask)
    assert torch.allclose(joined(torch.cat([x, s], 1)), x @ first.weight + first.bias, atol=1e-5)


# --- figures -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


def words() -> str:
    """All that is written in the figure."""
    texts = plt.gcf().findobj(matplotlib.text.Text)
    return "\n".join(text.get_text() for text in texts)


def a_run(backbone: str, method: str, seed: int, auc: float) -> dict[str, Any]:
    spread = np.linspace(-0.05, 0.05, 20)
    users = text_of_shares({k: (auc + spread).tolist() for k in ("auc", "auc_of_wrong")})
    row = {"backbone": backbone, "method": method, "seed": seed, "auc": auc, "users": users}
    return row | {"split": "leave-one-out", "scheme": "joint", "n_p": 1, **tables.SETTINGS}


RUNS = pd.DataFrame(
    a_run("sasrec", method, seed, auc + 0.001 * seed)
    for method, auc in (("base", 0.8), ("duet_no_swa", 0.85), ("bias_only", 0.84))
    for seed in range(3)
)


def test_every_method_has_a_look_of_its_own() -> None:
    assert set(METHODS) | set(STARTS_FROM) <= set(METHOD_STYLE)
    looks = [(s["color"], s["marker"]) for s in METHOD_STYLE.values()]
    assert len(set(looks)) == len(looks)


def test_the_forest_shows_what_is_there_and_says_what_is_not() -> None:
    methods = ("finetune", "duet_no_swa", "bias_only")
    table = tables.differences(RUNS, methods=methods)
    figures.ahead_of_base(table, methods, "difference")
    din, sasrec, gru4rec = plt.gcf().axes
    assert [ax.get_title() for ax in (din, sasrec, gru4rec)] == ["DIN", "SASRec", "GRU4Rec"]
    assert [t.get_text() for t in din.texts] == ["not measured"] * 3
    assert [t.get_text() for t in sasrec.texts] == ["not measured"]  # fine-tuning
    points = [line for line in sasrec.lines if len(line.get_xdata()) == 1]
    assert [float(p.get_xdata()[0]) for p in points] == pytest.approx([0.05, 0.04])
    bars = [line for line in sasrec.lines if line.get_linewidth() == 3.5]
    assert list(bars[0].get_xdata()) == pytest.approx(table[["low", "high"]].iloc[0].tolist())


def test_a_printed_gain_is_a_star_and_in_the_panel() -> None:
    table = tables.differences(RUNS, methods=["duet_no_swa"]).assign(printed=0.3)
    figures.ahead_of_base(table, ["duet_no_swa"], "difference")
    ax = plt.gcf().axes[1]
    (star,) = [line for line in ax.lines if line.get_marker() == "*"]
    assert star.get_xdata()[0] == 0.3 < ax.get_xlim()[1]


def test_shares_say_why_there_is_none() -> None:
    shares = tables.kept(RUNS, ["bias_only", "neck_as_input"])
    figures.share_kept(shares, ["bias_only", "neck_as_input"])
    ax = plt.gcf().axes[1]
    (point,) = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert float(point.get_xdata()[0]) == pytest.approx(0.8, abs=1e-3)
    assert [t.get_text() for t in ax.texts] == ["not measured"]
    no_gain = shares.assign(share=np.nan, gain=-0.01)
    figures.share_kept(no_gain, ["bias_only"])
    assert "no gain to share" in words()


def test_figure_7_says_where_nothing_is_recorded() -> None:
    figures.figure_7({"ml-1m": RUNS.iloc[:0], "ml-100k": RUNS}, ("base", "duet_no_swa"))
    million, hundred = plt.gcf().axes
    assert [t.get_text() for t in million.texts] == ["not measured"] * 3 and not million.lines
    assert [t.get_text() for t in hundred.texts] == ["not measured"] * 2  # DIN, GRU4Rec
    assert sorted(hundred.lines[1].get_ydata()) == pytest.approx([0.8, 0.801, 0.802])


def test_figures_without_any_record() -> None:
    none = RUNS.iloc[:0]
    gains = tables.differences(none)
    figures.ahead_of_base(gains, ["duet"], "difference")
    figures.share_kept(tables.kept(none, ["bias_only"]), ["bias_only"])
    figures.whose_layers(none, ["base", "stale"])
    figures.gain_by_metric(gains.rename(columns={"method": "metric"}))
    for number in plt.get_fignums():
        plt.figure(number)
        assert "not measured" in words()


def test_whose_layers_shows_means() -> None:
    figures.whose_layers(RUNS, ["base", "stale", "duet_no_swa"])
    ax = plt.gcf().axes[1]
    points = [float(line.get_xdata()[0]) for line in ax.lines if len(line.get_xdata()) == 1]
    assert points == pytest.approx([0.801, 0.851])


def test_gains_in_per_cent_are_sorted_by_metric() -> None:
    rows = [
        {"backbone": "din", "metric": m, "mean": i, "low": i - 1, "high": i + 1}
        for i, m in enumerate(figures.METRICS)
    ]
    figures.gain_by_metric(pd.DataFrame(rows))
    ax = plt.gcf().axes[0]
    points = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert [float(p.get_xdata()[0]) for p in points] == [0, 1, 2, 3, 4, 5]
    assert [t.get_text() for t in ax.get_yticklabels()][0] == "AUC"


def test_draws_show_the_middle_95_per_cent() -> None:
    figures.draws({"a": np.arange(1001.0), "b": np.arange(11.0)}, 4.0)
    bar, observed = plt.gcf().axes[0].lines
    assert list(bar.get_xdata()) == [25, 975] and list(observed.get_xdata()) == [4, 4]


def test_the_picture_of_the_whole_names_protocol_interval_and_controls() -> None:
    figures.where_we_are()
    assert all(word in words() for word in ("protocol", "interval", "controls", "verdict"))
