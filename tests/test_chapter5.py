"""Chapter 5: its exercises' checks, the printed tables, and the sums behind its figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from duetbook.checks import chapter5 as check
from duetbook.plots import chapter5 as figures
from exercises import checks, solution
from scipy import stats

from duetlib.evidence import paper
from duetlib.swa import adapter_weights

CHAPTER = "05_stable_weight_adapter"
CHECKS = checks(CHAPTER)


def write_then_blend(p: Any, W_1: Any, W_2: Any, e: Any) -> Any:
    return sum(p[i] * ((W_1[i] @ e) @ W_2[i]) for i in range(len(p)))


def merged(weigh_1: Any, weigh_2: Any, W_1: Any, W_2: Any, e: Any) -> Any:
    return (torch.tensordot(weigh_1, W_1, dims=1) @ e) @ torch.tensordot(weigh_2, W_2, dims=1)


def counted(quantile: float, freedom: int, root: bool = True) -> Callable[[float], int]:
    def answer(ratio: float) -> int:
        for n in itertools.count(3):
            f = stats.f.ppf(quantile, n - freedom, n - freedom)
            if (math.sqrt(f) if root else f) < ratio:
                return n
        raise AssertionError

    return answer


WRONG: list[tuple[str, str, Callable[..., Any]]] = [
    ("row_sums_fast", "diagonal", lambda W: W.pow(2).sum(1)),
    ("row_sums_fast", "sum_of_numbers", lambda W: W.sum(1)),
    ("row_sums_fast", "total", lambda W: (W @ W.T).sum()),
    ("row_sums_fast", "without_itself", lambda W: (W @ W.T).fill_diagonal_(0).sum(1)),
    ("tau_for", "not_normalised", lambda p, lean: (p.max() - p.min()) / math.log(lean)),
    ("tau_for", "no_logarithm", lambda p, lean: (p.max() - p.min()) / p.sum() / lean),
    ("tau_for", "upside_down", lambda p, lean: math.log(lean) * p.sum() / (p.max() - p.min())),
    ("tau_for", "only_the_largest", lambda p, lean: p.max() / p.sum() / math.log(lean)),
    ("blend_then_generate", "outputs", write_then_blend),
    (
        "blend_then_generate",
        "no_weights",
        lambda p, W_1, W_2, e: merged(torch.ones(len(p)), torch.ones(len(p)), W_1, W_2, e),
    ),
    (
        "blend_then_generate",
        "plain_average",
        lambda p, W_1, W_2, e: (W_1.mean(0) @ e) @ W_2.mean(0),
    ),
    (
        "blend_then_generate",
        "only_W_1",
        lambda p, W_1, W_2, e: merged(p, torch.ones(len(p)), W_1, W_2, e),
    ),
    ("seeds_needed", "no_root", counted(0.975, 1, root=False)),
    ("seeds_needed", "one_sided", counted(0.95, 1)),
    ("seeds_needed", "freedom", counted(0.975, 0)),
]


@pytest.mark.parametrize(("name", "mistake", "answer"), WRONG)
def test_usual_mistakes_are_named(name: str, mistake: str, answer: Callable[..., Any]) -> None:
    assert CHECKS[name](answer).name == mistake


def test_the_adapter_leans_as_far_as_the_solved_temperature_says() -> None:
    p_prime = torch.tensor([3.0, 0.5, 1.0, 2.0])
    for lean in (1.5, 8.0):
        tau = float(solution(CHAPTER, "tau_for")(p_prime, lean))
        p = adapter_weights(p_prime, tau, "tempered")
        assert float(p.max() / p.min()) == pytest.approx(lean, rel=1e-5)


def test_chance_alone_rarely_passes_the_ratio_that_is_needed() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 5):
        a, b = (rng.normal(size=(40_000, n)).std(axis=1, ddof=1) for _ in range(2))
        beyond = np.maximum(a / b, b / a) > check.factor_needed(n)
        assert beyond.mean() == pytest.approx(0.05, abs=0.004)


# --- what the paper prints ---------------------------------------------------------------------


def test_tables_are_whole() -> None:
    datasets, backbones = ("ml-1m", "ml-100k"), ("din", "sasrec", "gru4rec")
    methods = ("base", "finetune", "duet_no_swa", "duet")
    assert set(paper.TABLE_1) == set(itertools.product(datasets, backbones, methods))
    models = ("mobilenet_v3_large", "mobilenet_v3_small")
    assert set(paper.TABLE_4) == set(itertools.product(models, (0, 1, 2, 3, 5)))
    assert all(0.8 < p.mean < 0.95 and 0 < p.std < 0.01 for p in paper.TABLE_1.values())
    assert all(60 < p.mean < 90 and 1 < p.std < 5 for p in paper.TABLE_4.values())


def test_gains_that_the_text_prints_follow_from_table_1() -> None:
    # Section 4.2: 0.0153 and 0.0150 above DIN with fine-tuning (rows 3 and 4 against row 2)
    row = {m: paper.TABLE_1["ml-1m", "din", m].mean for m in ("finetune", "duet_no_swa", "duet")}
    assert row["duet_no_swa"] - row["finetune"] == pytest.approx(0.0153)
    assert row["duet"] - row["finetune"] == pytest.approx(0.0150)


def test_spreads_of_table_1() -> None:
    ratios = paper.swa_spread_ratios()
    assert list(ratios)[:2] == [("ml-1m", "din"), ("ml-1m", "sasrec")] and len(ratios) == 6
    assert ratios["ml-100k", "din"] == pytest.approx(30 / 55)
    assert ratios["ml-100k", "gru4rec"] == pytest.approx(55 / 17)
    assert [pair for pair, ratio in ratios.items() if ratio <= 1] == [("ml-100k", "din")]


def test_spreads_of_table_4() -> None:
    assert paper.table_4_spreads("mobilenet_v3_large") == {
        0: 2.76,
        1: 2.84,
        2: 4.26,
        3: 2.81,
        5: 2.67,
    }
    assert paper.table_4_spreads("mobilenet_v3_small") == {
        0: 2.15,
        1: 2.91,
        2: 3.80,
        3: 2.19,
        5: 1.41,
    }


# --- figures -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_figures_left() -> Any:
    yield
    plt.close("all")


def runs(lengths: dict[tuple[int, int], int]) -> pd.DataFrame:
    """Records of (N_p, seed) with curves of given lengths; the AUC of an epoch is easy to guess."""
    rows = [
        {
            "n_p": n_p,
            "seed": seed,
            "curve": [
                {"epoch": k, "loss": 1 / k, "valid_auc": 0.5 + 0.01 * k + 0.1 * seed}
                for k in range(1, length + 1)
            ],
        }
        for (n_p, seed), length in lengths.items()
    ]
    return pd.DataFrame(rows)


def test_curve_table_has_a_row_for_each_epoch() -> None:
    table = figures.curve_table(runs({(1, 0): 3, (5, 0): 4}))
    assert table.groupby("n_p").size().to_dict() == {1: 3, 5: 4}
    assert table[table.n_p == 5].valid_auc.tolist() == pytest.approx([0.51, 0.52, 0.53, 0.54])


def test_every_run_has_a_line_of_its_own_as_far_as_it_went() -> None:
    table = runs({(0, 0): 5, (1, 0): 6, (1, 1): 4})
    figures.run_curves(table, first=2)
    base, one = plt.gcf().axes
    assert (base.get_title(), one.get_title()) == ("base", "$N_p$ = 1")
    assert [list(line.get_xdata()) for line in base.lines] == [[2, 3, 4, 5]]
    assert [list(line.get_xdata()) for line in one.lines] == [[2, 3, 4, 5, 6], [2, 3, 4]]
    of_seed_1 = table[(table.n_p == 1) & (table.seed == 1)].curve.iloc[0]
    drawn = list(one.lines[1].get_ydata())
    assert drawn == pytest.approx([epoch["valid_auc"] for epoch in of_seed_1[1:]])


def test_tau_curves_are_flat_as_printed_and_meet_at_one() -> None:
    p_prime = torch.tensor([6.0, 5.0, 2.0])
    figures.tau_curves(p_prime)
    printed, tempered = plt.gcf().axes
    for flat, moving in zip(printed.lines[:3], tempered.lines[:3], strict=True):
        assert np.ptp(flat.get_ydata()) < 1e-6 < 0.01 < np.ptp(moving.get_ydata())
        at_one = np.abs(np.asarray(moving.get_xdata()) - 1).argmin()
        assert moving.get_ydata()[at_one] == pytest.approx(flat.get_ydata()[at_one], abs=1e-4)


def test_trained_weights_show_each_generator_of_each_layer() -> None:
    figures.trained_weights(
        [torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.4, 0.4, 0.2])], (0.2, 0.5)
    )
    first, second = plt.gcf().axes
    assert list(first.lines[1].get_ydata()) == pytest.approx([0.2, 0.3, 0.5])
    assert list(second.lines[0].get_ydata()) == pytest.approx([1 / 3, 1 / 3])


def test_std_factors_draws_the_interval_it_is_given() -> None:
    figures.std_factors(lambda s, n: (s / n, s * n), most=6)
    low, high = plt.gca().lines[:2]
    assert list(low.get_ydata()) == pytest.approx([1 / 3, 1 / 4, 1 / 5, 1 / 6])
    assert list(high.get_ydata()) == [3, 4, 5, 6]


def test_paper_spreads_shows_the_printed_numbers() -> None:
    models = ("mobilenet_v3_large", "mobilenet_v3_small")
    by_model = {m: paper.table_4_spreads(m) for m in models}
    figures.paper_spreads(paper.swa_spread_ratios(), by_model, 3.1)
    left, right = plt.gcf().axes
    assert [t.get_text() for t in left.get_yticklabels()][-1] == "GRU4Rec, 100k"
    assert [list(line.get_ydata()) for line in right.lines] == [
        list(s.values()) for s in by_model.values()
    ]


def test_the_picture_of_the_whole_names_the_adapter() -> None:
    figures.where_we_are()
    words = " ".join(text.get_text() for text in plt.gca().texts)
    assert "Eq. 8" in words and "Eq. 9" in words and "$M$ generators" in words


def shares(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.double)


def test_spectra_show_what_is_left_over_and_end_above_zero() -> None:
    layers = [shares(0.7, 0.2, 0.1), shares(0.5, 0.5, 0.0)]
    figures.spectra({"layers, $N_p$ = 1": layers, "codes, $N_p$ = 1": layers[::-1]})
    first, second = plt.gcf().axes
    assert list(first.lines[0].get_ydata()) == pytest.approx([1, 0.3, 0.1])
    assert list(second.lines[0].get_ydata()) == pytest.approx([1, 0.5, 0])
    assert list(first.lines[1].get_ydata()) == pytest.approx([1, 0.5, 0])
    assert first.get_ylim()[0] > 0


def test_directions_kept_draws_one_line_for_each_number_of_generators() -> None:
    figures.directions_kept({1: {0: 0.6, 1: 0.8, 32: 0.9}, 5: {0: 0.5, 1: 0.7, 32: 0.9}})
    one, five = plt.gca().lines
    assert list(one.get_ydata()) == [0.6, 0.8, 0.9] and list(five.get_ydata()) == [0.5, 0.7, 0.9]
    assert [tick.get_text() for tick in plt.gca().get_xticklabels()] == ["0", "1", "32"]
    assert ["1" in one.get_label(), "5" in five.get_label()] == [True, True]


def test_spread_ratios_set_both_sources_beside_each_other() -> None:
    columns = ["backbone", "source", "ratio", "low", "high"]
    rows = [("din", "printed", 0.5, 0.2, 1.5), ("din", "ours", 2.0, 1.1, 4.0)]
    figures.spread_ratios(
        pd.DataFrame([*rows, ("sasrec", "printed", 3.0, 1.0, 9.0)], columns=columns)
    )
    printed, ours, one = plt.gca().lines
    assert list(printed.get_xdata()) == [0.5, 3.0] and list(ours.get_xdata()) == [2.0]
    assert list(printed.get_ydata())[0] > list(ours.get_ydata())[0] > list(printed.get_ydata())[1]
    assert list(one.get_xdata()) == [1, 1]
    spans = [line.tolist() for c in plt.gca().collections for line in c.get_segments()]
    assert [[a[0], b[0]] for a, b in spans] == [[0.2, 1.5], [1.0, 9.0], [1.1, 4.0]]
