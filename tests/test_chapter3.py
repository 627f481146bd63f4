"""Chapter 3: what its checks call wrong, its sums, its records, its figures."""

from __future__ import annotations

import numpy as np
import pytest
from exercises import defined, defining, sources

from duetlib.evidence.records import load_records

CHAPTER = "03_universal_meta_network"


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
