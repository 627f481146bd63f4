"""The bench runs, small, and writes what it measured."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import bench
import pytest
import torch


def test_a_small_bench_writes_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(bench, "SESSIONS", 3)
    try:
        bench.main(tmp_path / "bench.jsonl", sizes=(1, 3), rounds=1)
    finally:
        torch.set_num_threads(threads)
    rows = [json.loads(line) for line in (tmp_path / "bench.jsonl").read_text().splitlines()]
    assert [path.name for path in tmp_path.iterdir()] == ["bench.jsonl"]
    for row in rows:
        assert {"part", "B", "variant", "date", "machine", "torch", "commit"} <= row.keys()
    trained = [row["variant"] for row in rows if row["part"] == "training"]
    assert len(set(trained)) == len(trained) == 9
    shares = [row["share"] for row in rows if row["part"] == "share of a step"]
    assert len(shares) == 6
    assert sum(shares) == pytest.approx(1)
    assert "generation and application, forward+backward" in capsys.readouterr().out


def test_the_pieces_of_a_step_compute_what_the_loop_computes() -> None:
    """What is timed against one another must be the same work."""
    torch.manual_seed(0)
    seen = []

    def keep(variants: dict, rounds: int, least: float = 0) -> dict:
        seen.append({name: work() for name, work in variants.items()})
        return {name: [1.0] for name in variants}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "measure", keep)
        bench.application(4, 1)
        bench.generation_and_application(4, 1)
    backward = [works for works in seen if works["loop"] is not None]
    assert len(backward) == 2
    for works in backward:
        for name in ("batched", "grouped"):
            for ours, loop in zip(works[name], works["loop"], strict=True):
                torch.testing.assert_close(ours, loop, rtol=1e-4, atol=1e-5)


def test_a_ratio_is_the_median_of_rounds() -> None:
    times = {"slow": [4.0, 9.0, 8.0], "fast": [2.0, 1.0, 2.0]}
    assert bench.ratio(times, "slow", "fast") == statistics.median([2, 9, 4])
