"""Chapter 5: its exercises' checks, the printed tables, and the sums behind its figures."""

from __future__ import annotations

import itertools

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from duetbook.checks import chapter5 as check
from exercises import solution

from duetlib.evidence import paper
from duetlib.swa import adapter_weights

CHAPTER = "05_stable_weight_adapter"


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
