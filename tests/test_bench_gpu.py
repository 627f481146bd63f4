"""The benchmark for a CUDA device runs, small, and writes what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import bench_gpu
import pytest
import torch


@pytest.mark.cuda
def test_a_small_run_writes_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # put back after it
    threads = torch.get_num_threads()
    path = tmp_path / "bench_gpu.jsonl"
    bench_gpu.main(path, sizes=(1, 3), videos=(1,), batches=(7,), rounds=1)
    torch.set_num_threads(threads)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["device"] for row in rows} == {torch.cuda.get_device_name()}
    training = [row for row in rows if row["part"].startswith("training")]
    assert len(training) == 3 * 6
    assert {"loop", "batched", "grouped"} <= {row["variant"] for row in rows}
    assert all(row["ms"] > 0 for row in rows)
