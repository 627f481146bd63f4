"""Chapter 4: its checks know right from wrong, its statistics are right, its figures draw."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from duetbook.plots import chapter4 as figures
from exercises import checks
from scipy import stats

CHAPTER = "04_personalized_parameters_generator"
CHECKS = checks(CHAPTER)


def no_B_2(e, W_1, B_1, W_2, B_2):
    return (W_1 @ e + B_1) @ W_2


def no_B_1(e, W_1, B_1, W_2, B_2):
    return W_1 @ e @ W_2 + B_2


def minus_B_2(e, W_1, B_1, W_2, B_2):
    return (W_1 @ e + B_1) @ W_2 - B_2


def no_bias(shapes):
    return sum(n_in * n_out for n_in, n_out in shapes)


def bias_per_input(shapes):
    return sum(n_in * n_out + n_in for n_in, n_out in shapes)


def not_transposed(weight):
    return weight.reshape(-1, weight.shape[1], 1)


def devices_mixed(weight):
    return torch.stack([w.T for w in weight], dim=1).reshape(-1, weight.shape[1], 1)


def folded_matrix(L, W_1, W_2):
    rows = [W_2.T @ row @ L for row in W_1]  # [N, D] for each of the R rows
    return torch.cat(rows)


def bias_of_Eq_5_lost(L, b, W_1, B_1, W_2, B_2):
    return folded_matrix(L, W_1, W_2), (B_1 @ W_2 + B_2).flatten()


def biases_only_added(L, b, W_1, B_1, W_2, B_2):
    return folded_matrix(L, W_1, W_2), B_2.repeat(len(B_1))


def turned(L, b, W_1, B_1, W_2, B_2):
    return folded_matrix(L, W_1, W_2).T, ((W_1 @ b + B_1) @ W_2 + B_2).flatten()


WRONG = {
    "generate_one": [no_B_2, no_B_1, minus_B_2],
    "download": [no_bias, bias_per_input],
    "grouped_kernels": [not_transposed, devices_mixed],
    "fold": [bias_of_Eq_5_lost, biases_only_added, turned],
}


@pytest.mark.parametrize("exercise, wrong", [(e, w) for e, ws in WRONG.items() for w in ws])
def test_check_names_the_usual_wrong_answers(exercise, wrong):
    verdict = CHECKS[exercise](wrong)
    assert verdict.name == wrong.__name__ and not verdict.passed


# --- statistics -----------------------------------------------------------------------------------


def records(seeds: int = 3) -> pd.DataFrame:
    """Made-up records: DUET ahead of the base by 1, 2, 3, ... hundredths."""
    rows = [
        {"backbone": backbone, "method": method, "seed": s, "auc": 0.8 + 0.1 * s + gain * (s + 1)}
        for backbone in ("sasrec", "din")
        for method, gain in (("base", 0.0), ("duet_no_swa", 0.01))
        for s in range(seeds)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_paired_interval_is_that_of_scipys_paired_test():
    table = figures.paired(records(), "duet_no_swa")
    row = table.loc["din"]
    assert row["seeds"] == 3 and row["differences"] == pytest.approx((0.01, 0.02, 0.03))
    d = stats.ttest_1samp([0.01, 0.02, 0.03], 0.0).confidence_interval(0.95)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.02, d.low, d.high))


def test_paired_leaves_out_seeds_without_a_partner():
    half = records().query("not (method == 'base' and seed == 1) and backbone == 'sasrec'")
    row = figures.paired(half, "duet_no_swa").loc["sasrec"]
    assert row["differences"] == pytest.approx((0.01, 0.03))


def test_paired_with_one_seed_has_no_interval_and_with_none_no_row():
    one = figures.paired(records(1), "duet_no_swa").loc["din"]
    assert one["mean"] == pytest.approx(0.01) and np.isnan(one["low"])
    assert figures.paired(records(), "duet").empty


def test_unpaired_records_are_refused():
    """Two records of one seed and method cannot be paired."""
    with pytest.raises(ValueError, match="duplicate"):
        figures.paired(pd.concat([records(), records()]), "duet_no_swa")


# --- figures --------------------------------------------------------------------------------------

K = torch.randn(3, 3, 2)
TIMES = pd.DataFrame(
    [
        {"way": way, "pass": what, "B": B, "ms": float(B)}
        for way in ("loop", "batched", "grouped")
        for what in ("forward", "forward and backward")
        for B in (1, 8)
    ]
)
DRAWN = {
    "where_it_sits": (),
    "layers_of": (K, ["a", "b", "c"]),
    "block_diagonal": (torch.randn(4, 4, 4),),
    "timing": (TIMES,),
    "variance_left": ({"layer 1": np.array([0.7, 0.2, 0.1, 1e-12])}, 3),
    "map_of_layers": (
        {"layer 1": torch.randn(60, 6), "layer 2": torch.randn(60, 4)},
        [torch.zeros(6), torch.zeros(4)],
        np.arange(60),
        "year",
    ),
    "seeds_and_intervals": (records(), "duet_no_swa"),
}


@pytest.mark.parametrize("figure", DRAWN)
def test_figure_draws_with_legible_letters(figure):
    plt.close("all")
    getattr(figures, figure)(*DRAWN[figure])
    drawn = plt.gcf()
    drawn.canvas.draw()
    assert drawn.get_figwidth() <= 7
    sizes = [t.get_fontsize() for t in drawn.findobj(matplotlib.text.Text) if t.get_text()]
    assert sizes == [] or min(sizes) >= 9
    plt.close("all")


def test_variance_left_ends_at_the_limit():
    plt.close("all")
    figures.variance_left({"layer": np.array([0.7, 0.2, 0.1, 1e-12])}, 3)
    left = plt.gcf().axes[0].lines[0].get_ydata()
    assert left == pytest.approx([1.0, 0.3, 0.1, 1e-12])
    plt.close("all")
