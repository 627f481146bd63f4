"""Chapter 4: its checks know right from wrong, its statistics are right, its figures draw."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from duetbook.plots import chapter4 as figures
from scipy import stats

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


def test_variance_left_ends_at_the_limit():
    plt.close("all")
    figures.variance_left({"layer": np.array([0.7, 0.2, 0.1, 1e-12])}, 3)
    left = plt.gcf().axes[0].lines[0].get_ydata()
    assert left == pytest.approx([1.0, 0.3, 0.1, 1e-12])
    plt.close("all")
