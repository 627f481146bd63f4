"""Chapter 3: what its checks call wrong, its sums, its records, its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from duetbook.checks import chapter3 as check
from duetbook.plots import chapter3 as plot
from exercises import defined, defining, sources

from duetlib import metrics
from duetlib.evidence.records import load_records

CHAPTER = "03_universal_meta_network"


def tril(mask: torch.Tensor, diagonal: int = 0) -> torch.Tensor:
    return torch.ones(mask.shape[1], mask.shape[1]).tril(diagonal).bool()


WRONG: list[tuple[Callable[..., Any], Callable[..., Any], str]] = [
    (check.masked_mean, lambda c, m: c.mean(1), "no_mask"),
    (check.masked_mean, lambda c, m: (c * m.unsqueeze(-1)).mean(1), "divided_by_length"),
    (check.masked_mean, lambda c, m: c.sum(1) / m.sum(1, keepdim=True), "sum_of_all"),
    (check.masked_mean, lambda c, m: (c * m.unsqueeze(-1)).sum(1), "no_division"),
    (check.masked_mean, lambda c, m: c.mean(2), "wrong"),
    (check.visible, lambda m: tril(m).T & m.unsqueeze(1), "looks_ahead"),
    (check.visible, lambda m: tril(m).expand(len(m), -1, -1), "no_padding"),
    (check.visible, lambda m: m.unsqueeze(1).expand(-1, m.shape[1], -1), "no_causal"),
    (check.visible, lambda m: tril(m, -1) & m.unsqueeze(1), "not_itself"),
    (check.visible, lambda m: tril(m) & m.unsqueeze(2), "rows_masked"),
    (check.visible, lambda m: tril(m) & m.unsqueeze(1), "blind"),
    (check.visible, lambda m: (tril(m) & m.unsqueeze(1)).float(), "wrong"),
    (check.visible, lambda m: tril(m), "wrong"),
    (check.ndcg, lambda r, k: 1 / torch.log2(1 + r), "no_cut"),
    (check.ndcg, lambda r, k: (r < k) / torch.log2(1 + r), "too_early"),
    (check.ndcg, lambda r, k: (r <= k) / torch.log(1 + r), "natural"),
    (check.ndcg, lambda r, k: (r <= k) / r, "reciprocal"),
    (check.ndcg, lambda r, k: (r <= k) / torch.log2(r), "off_by_one"),
    (check.backwards, lambda u, t: (t[1:] < t[:-1]).sum(), "across_users"),
    (check.backwards, lambda u, t: ((t[1:] <= t[:-1]) & (u[1:] == u[:-1])).sum(), "ties"),
    (check.backwards, lambda u, t: (t[1:] <= t[:-1]).sum(), "ties_across_users"),
    (check.backwards, lambda u, t: t.nope, "error"),
]


@pytest.mark.parametrize(("judge", "answer", "name"), WRONG, ids=lambda value: str(value)[:24])
def test_usual_wrong_answers_are_named(
    judge: Callable[..., Any], answer: Callable[..., Any], name: str
) -> None:
    assert judge(answer).name == name


def test_chance_of_a_sampled_hit_is_what_drawing_gives() -> None:
    """The chapter's hypergeometric chance against ranks among really drawn films."""
    (cell,) = defining(sources(CHAPTER, "code"), "sampled_hit")
    sampled_hit = defined(cell.split("\n\nmodels")[0], "sampled_hit")
    rng = np.random.default_rng(0)
    for rank in (5, 60, 150):
        hits = [(rng.permutation(999)[:100] < rank - 1).sum() <= 9 for _ in range(3000)]
        assert sampled_hit(rank) == pytest.approx(np.mean(hits), abs=0.03)


def test_recorded_runs_are_not_too_good() -> None:
    """A random film in place of the next, or a file's order for time, would go past these."""
    records = load_records("ml-100k")
    assert (records.hr10 < 0.9).all() and (records.auc < 0.97).all()
    assert (records.hr10_full < records.hr10).all()


def test_figures_show_what_they_are_given() -> None:
    weights = torch.tensor([[0.0, 2.0], [1.0, 4.0]])
    plot.attention({"title": weights}, ["a", "b"], ["c", "d"], digits=0)
    texts = [t.get_text() for t in plt.gca().texts]
    assert texts == ["·", "2", "1", "4"]
    curve = [{"epoch": n, "loss": 1 / n, "valid_auc": 1 - 1 / n} for n in (1, 2, 3)]
    plot.learning_curve(curve[:2], curve, best_epoch=3)
    recorded, live, kept = plt.gcf().axes[1].lines
    assert list(live.get_xdata()) == [1, 2] and list(recorded.get_ydata()) == [0, 0.5, 1 - 1 / 3]
    assert set(kept.get_xdata()) == {3}
    plt.close("all")


def test_expected_rank_in_the_figure() -> None:
    """Its line: of 100 drawn films, a share (rank - 1) / (n - 1) stands above the right one."""
    plot.ranks(torch.tensor([1.0, 500.0]), torch.tensor([1.0, 50.0]), n_items=1000)
    line = plt.gca().lines[0]
    at = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    rank, generator = 500, torch.Generator().manual_seed(0)
    scores = torch.arange(1000.0).flip(0)  # film 0 is best
    wrong = torch.cat([scores[: rank - 1], scores[rank:]])
    drawn = [
        metrics.rank_of_target(
            torch.cat(
                [scores[rank - 1 : rank], wrong[torch.randperm(999, generator=generator)[:100]]]
            )[None]
        ).item()
        for _ in range(400)
    ]
    assert at[rank] == pytest.approx(np.mean(drawn), abs=1.0)
    plt.close("all")
