"""The benchmark of the part on faces runs, small, and writes what it measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import bench_vision
import pytest
import torch

from duetlib.evidence.vision_experiments import SMALL
from duetlib.vision.network import n_two_layer


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_small_bench_writes_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    little = {"n_generators": 2, "rank": 2, "latent": 4}
    trained = {"base": ("base", {}), "DUET, N_p = 1": ("duet_no_swa", {"rank": 2, "latent": 4})}
    monkeypatch.setattr(bench_vision, "TRAINED", {**trained, "DUET, N_p = 5": ("duet", little)})
    monkeypatch.setattr(bench_vision, "SIZES", {SMALL: 64})
    monkeypatch.setattr(bench_vision, "VIDEOS", 3)
    monkeypatch.setattr(bench_vision, "keep_freed_memory", lambda: None)  # of this whole process
    monkeypatch.setattr(bench_vision, "memory", lambda generators: [])
    bench_vision.main(tmp_path / "bench_vision.jsonl", rounds=1, sizes=(1, 2), counts={"fear": 3})
    rows = [json.loads(line) for line in (tmp_path / "bench_vision.jsonl").read_text().splitlines()]
    for row in rows:
        assert {"part", "variant", "load", "date", "machine", "torch", "commit"} <= row.keys()
    steps = {row["variant"]: row["times_base"] for row in rows if "times_base" in row}
    assert steps.keys() == bench_vision.TRAINED.keys() and steps["base"] == 1
    for variant in bench_vision.TRAINED:
        of = [row for row in rows if row["part"] == f"share of a step, {SMALL}, {variant}"]
        assert sum(row["share"] for row in of) == pytest.approx(1)
    (drawn,) = (row for row in rows if "frames_per_second" in row)
    assert drawn["frames"] == 18
    assert drawn["frames_per_second"] == pytest.approx(18 / (drawn["ms"] / 1e3))
    ways = {row["variant"] for row in rows if row["part"] == "convolution, forward+backward"}
    assert ways == {"loop", "batched", "grouped"}
    assert "generated layer, forward" in capsys.readouterr().out


def test_a_generators_number_is_held_four_times() -> None:
    """The benchmark's formula, against the tensors that are there after a step."""
    step = bench_vision.Step(SMALL, "duet", 64, n_generators=2)
    step.whole()
    generators = list(step.model.source.generators.parameters())  # type: ignore[union-attr]
    state = step.trainer.optimizer.state
    held = [t for p in generators for t in (p, p.grad, state[p]["exp_avg"], state[p]["exp_avg_sq"])]
    numbers = 2 * n_two_layer(step.model.shapes)
    assert sum(t.nbytes for t in held if t is not None) == 16 * numbers
