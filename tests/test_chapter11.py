"""Chapter 11: its exercises' checks, its records, and its figures."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import measure_beyond
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from duetlib.evidence import tables
from duetlib.methods import build

BACKBONES = ("sasrec", "din", "gru4rec")


# --- records -----------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["bytes", "ages", "asks"])
def test_every_backbone_and_seed_has_a_record(part: str) -> None:
    rows = tables.variants("beyond", part)
    seeds = rows.groupby("backbone").seed.unique()
    assert {name: sorted(of) for name, of in seeds.items()} == {b: [*range(5)] for b in BACKBONES}


@pytest.mark.parametrize(("part", "split"), [("bytes", "leave-one-out"), ("asks", "last-10")])
def test_the_models_are_those_of_chapter_7(part: str, split: str) -> None:
    runs = tables.standard(tables.recorded("ml-100k"), split)
    rows = tables.variants("beyond", part)
    ours = rows[(rows.kind == "base") | (rows.kind == "whole")]
    if part == "asks":
        each = rows[(rows.kind == "usual") & (rows.rule == "every") & (rows.setting == 1)]
        ours = pd.concat([ours, each[each.bits == 32]])
    names = {"base": "base", "whole": "duet_no_swa", "usual": "duet_no_swa"}
    for row in ours.itertuples():
        same = (runs.backbone == row.backbone) & (runs.seed == row.seed)
        recorded = runs[same & (runs.method == names[row.kind])].auc.item()
        assert row.auc == pytest.approx(recorded, abs=1e-4)


def test_a_variant_is_held_against_its_own_backbone_and_seed() -> None:
    rows = tables.variants("beyond", "ages")
    usual, base = rows[(rows.kind == "usual") & (rows.whose == "own")], rows[rows.kind == "base"]
    found = tables.against(usual.sample(frac=1, random_state=0), base, ["age"])
    assert len(found) == 3 * 6
    of_base = base.set_index(["backbone", "seed"]).auc
    for row in found.itertuples():
        of = usual[(usual.backbone == row.backbone) & (usual.age == row.age)]
        apart = [r.auc - of_base[r.backbone, r.seed] for r in of.itertuples()]
        assert row.mean == pytest.approx(np.mean(apart)) and row.seeds == len(apart) == 5
        signs = {"ahead": row.low > 0, "behind": row.high < 0}
        assert signs.get(row.verdict, not any(signs.values()))


def test_what_is_recorded_is_the_auc_and_shares_whose_mean_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, user = torch.randn(12, 6, generator=generator), torch.tensor([3, 1, 2, 4] * 3)
    row = {**measure_beyond.measured(scores, user), "method": "x", "seed": 0}
    labels = np.tile([1, 0, 0, 0, 0, 0], 12)
    assert row["auc"] == pytest.approx(roc_auc_score(labels, scores.flatten()), abs=1e-6)
    assert tables.shares(row, "auc").mean() == pytest.approx(row["auc"], abs=1e-4)


def test_four_bits_are_rounded_as_a_download_is() -> None:
    model = build("gru4rec", "duet_no_swa", 30).eval()
    with torch.no_grad():
        layers = model.layers(torch.randint(1, 31, (3, 8)))
    for before, after in zip(layers, measure_beyond.rounded(layers, model), strict=True):
        step = torch.cat([before.weight, before.bias.unsqueeze(1)], 1).abs().amax(1) / 7  # [B, N]
        off = (before.weight - after.weight).abs()
        assert after.weight.shape == before.weight.shape and off.max() > 0
        assert (off <= 0.51 * step.unsqueeze(1)).all()
