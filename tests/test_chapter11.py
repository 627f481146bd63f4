"""Chapter 11: its exercises' checks, its records, and its figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import measure_beyond
import numpy as np
import pandas as pd
import pytest
import torch
from duetbook.plots import chapter11 as figures
from exercises import checks
from sklearn.metrics import roc_auc_score
from torch import Tensor

from duetlib.evidence import tables
from duetlib.methods import build

CHAPTER = "11_beyond_the_paper"
CHECKS = checks(CHAPTER)
BACKBONES = ("sasrec", "din", "gru4rec")


def n_of(mask: Tensor) -> Tensor:
    return mask.sum(1)


def sizes(shapes: list[tuple[int, int]], bias: int = 1) -> tuple[int, int]:
    return sum((i + bias) * o for i, o in shapes), sum(o for _, o in shapes)


def from_one(asks: list[bool]) -> list[int]:
    found, age = [], 0
    for asked in asks:
        age = 1 if asked else age + 1
        found.append(age)
    return found


def made_at(asks: list[bool]) -> list[int]:
    return [max(i for i in range(t + 1) if asks[i]) for t in range(len(asks))]


def first_hidden(mask: Tensor, age: Tensor) -> Tensor:
    hidden = torch.stack([age, n_of(mask) - 1]).amin(0)
    return mask & (torch.arange(mask.shape[1]) >= hidden[:, None])


def kept(mask: Tensor, n: Tensor) -> Tensor:
    return mask & (torch.arange(mask.shape[1]) < n.clamp(min=1)[:, None])


WRONG: list[tuple[str, str, Callable[..., Any]]] = [
    ("counts", "zeros", lambda x, b: (x / x.abs().max() * (2 ** (b - 1) - 1)).round()),
    ("counts", "no_sign", lambda x, b: (x / x.max() * (2 ** (b - 1) - 1)).round()),
    ("counts", "one_more", lambda x, b: (x / x.abs().max() * 2 ** (b - 1)).round()),
    ("counts", "unsigned", lambda x, b: (x / x.abs().max() * (2**b - 1)).round()),
    ("counts", "cut_off", lambda x, b: (x / x.abs().max() * (2 ** (b - 1) - 1)).trunc()),
    ("counts", "not_whole", lambda x, b: x / x.abs().max() * (2 ** (b - 1) - 1)),
    ("ages", "from_one", from_one),
    ("ages", "made_at", made_at),
    ("ages", "since_the_first", lambda asks: list(range(len(asks)))),
    ("ages", "late", lambda asks: [0, *from_one(asks)[:-1]]),
    ("hide", "all_gone", lambda m, a: m & (torch.arange(m.shape[1]) < (n_of(m) - a)[:, None])),
    ("hide", "first", first_hidden),
    ("hide", "padding", lambda m, a: kept(m, m.shape[1] - a)),
    ("hide", "one_row", lambda m, a: kept(m, (n_of(m) - a).min().expand(len(m)))),
    ("hide", "hidden", lambda m, a: m & ~kept(m, n_of(m) - a)),
    ("message_bytes", "no_bias", lambda s, b: math.ceil(sizes(s, 0)[0] * b / 8) + 2 * sizes(s)[1]),
    (
        "message_bytes",
        "inputs",
        lambda s, b: math.ceil(sizes(s)[0] * b / 8) + 2 * sum(i for i, _ in s),
    ),
    ("message_bytes", "no_steps", lambda s, b: math.ceil(sizes(s)[0] * b / 8)),
    ("message_bytes", "bits", lambda s, b: sizes(s)[0] * b + 16 * sizes(s)[1]),
    ("message_bytes", "down", lambda s, b: sizes(s)[0] * b // 8 + 2 * sizes(s)[1]),
    (
        "message_bytes",
        "by_layer",
        lambda s, b: sum(math.ceil((i + 1) * o * b / 8) + 2 * o for i, o in s),
    ),
]


@pytest.mark.parametrize(("name", "mistake", "answer"), WRONG)
def test_usual_mistakes_are_named(name: str, mistake: str, answer: Callable[..., Any]) -> None:
    assert CHECKS[name](answer).name == mistake


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


# --- figures -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_figures_left() -> Any:
    yield
    plt.close("all")


def table(**columns: Any) -> pd.DataFrame:
    """A row for each backbone and entry."""
    rows = [
        {"backbone": b, **dict(zip(columns, values, strict=True))}
        for b in BACKBONES
        for values in zip(*columns.values(), strict=True)
    ]
    return pd.DataFrame(rows).assign(low=lambda t: t["mean"] - 0.1, high=lambda t: t["mean"] + 0.1)


def test_the_picture_asks_the_three_questions() -> None:
    figures.where_we_are()
    words = " ".join(text.get_text() for text in plt.gca().texts)
    for word in ("how often", "how many bytes", "devices at once"):
        assert word in words


def test_a_loss_below_the_edge_is_drawn_hollow_at_the_edge() -> None:
    figures.bytes_and_loss(table(kind=["axes"] * 2, bytes=[8, 32], mean=[-3.0, -0.5]), 8448, -1.5)
    for ax in plt.gcf().axes:
        drawn = [(line.get_xdata(), line.get_ydata()) for line in ax.lines]
        at = {(x, y) for xs, ys in drawn for x, y in zip(xs, ys, strict=True)}
        assert (32, -0.5) in at and (8, -3.0) not in at
        assert any(x == 8 and -1.5 < y < -1.4 for x, y in at)


def test_ages_are_drawn_for_the_kinds_asked_for() -> None:
    given = table(kind=["usual", "usual", "late"], age=[0, 1, 1], mean=[0.2, -0.2, 0.1])
    figures.ages(given, ["usual"])
    first = plt.gcf().axes[0]
    assert [0.2, -0.2] in [list(line.get_ydata()) for line in first.lines]
    assert [0.1] not in [list(line.get_ydata()) for line in first.lines]


def test_a_rule_is_a_line_over_how_often_it_asks() -> None:
    given = table(kind=["usual"] * 2, rule=["every"] * 2, asks=[1.0, 0.5], mean=[0.3, 0.1])
    figures.asks(given, "usual")
    drawn = [np.column_stack(line.get_data()).tolist() for line in plt.gcf().axes[0].lines]
    assert [[0.5, 0.1], [1.0, 0.3]] in drawn


def test_a_user_asks_where_the_bar_says_so() -> None:
    figures.moves(["A", "B", "C"], [0.0, 2.5, 1.0], [True, True, False], 2.0)
    ax = plt.gca()
    assert [text.get_text() for text in ax.texts] == ["asks", "asks"]
    assert [bar.get_width() for bar in ax.patches] == [0.0, 2.5, 1.0]
