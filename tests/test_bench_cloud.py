"""The benchmark of the cloud runs, small; its sums are right, and load is what it says it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import bench_cloud
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import small_cloud
import torch
from duetbook.plots import speed
from load import Load, arrive

from duetlib.serving.cloud import Settings, create_app, running
from duetlib.serving.device import Device


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_small_bench_writes_its_records_and_keeps_the_soak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr(bench_cloud, "BATCHES", (1, 4))
    monkeypatch.setattr(bench_cloud, "LOADS", (0.1, 0.5))
    monkeypatch.delitem(bench_cloud.WAITING, "waits 1 ms")  # a process less to be started
    file = tmp_path / "bench_cloud.jsonl"
    file.write_text('{"part": "soak", "slice": 0}\n{"part": "cost", "old": true}\n')
    bench_cloud.main(file, concurrencies=(1, 4), seconds=0.2, rounds=1, processes=1)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows.pop() == {"part": "soak", "slice": 0}
    assert not any("old" in row for row in rows)
    parts = {row["part"] for row in rows}
    assert parts == {"generation", "cost", "cloud", "limit", "device", "queue"}
    for row in rows:
        assert {"part", "load", "date", "machine", "torch", "fastapi", "uvicorn"} <= row.keys()
        assert row.get("errors", 0) == 0
        assert row.get("rate", 1) > 0
    assert list(tmp_path.iterdir()) == [file]


def test_a_limit_is_the_sum_of_its_parts() -> None:
    """100 + 10 + 30 + 60 µs are 200: 5,000 a second; between batches of 1 and 3 it interpolates."""
    rows: list[bench_cloud.Row] = []
    for upload in bench_cloud.UPLOADS:
        cost = {"part": "cost", "upload": upload}
        rows += [
            {**cost, "piece": "read", "batch": 1, "us": 10.0},
            {**cost, "piece": "sign", "batch": 1, "us": 60.0},
            {**cost, "piece": "generate", "batch": 1, "us": 40.0},
            {**cost, "piece": "generate", "batch": 3, "us": 20.0},
        ]
        for http, waiting, batch in [
            (bench_cloud.HOLLOW, "one by one", 0),
            *((bench_cloud.PLAIN, name, 2) for name in bench_cloud.WAITING),
        ]:
            of = {"part": "cloud", "upload": upload, "http": http, "batching": waiting}
            turns = {1: (1000.0, 400.0), 8: (4000.0, 100.0 if batch == 0 else 240.0)}
            for concurrency, (rate, cpu) in turns.items():
                more = {"concurrency": concurrency, "rate": rate, "cpu_us": cpu, "batch": batch}
                rows.append({**of, **more})
    limits = list(bench_cloud.limits(rows))
    assert len(limits) == 6
    for row in limits:
        assert row["concurrency"] == 8 and row["rate"] == 4000
        assert row["generate_us"] == pytest.approx(30)
        assert row["limit"] == pytest.approx(5000)


def test_turns_add_up() -> None:
    both = Load(1.0, [0.1, 0.2], 1) + Load(2.0, [0.3], 0)
    assert (both.seconds, both.times, both.errors) == (3.0, [0.1, 0.2, 0.3], 1)
    turn = {"cpu": 0.3, "load_cpu": 0.06, "batches": 1}
    row = bench_cloud.row_of_turns([{**turn, "load": Load(1.0, [0.1] * 3)}] * 2)
    assert row["answers"] == 6 and row["rate"] == 3 and row["batch"] == 3
    assert row["cpu_us"] == pytest.approx(1e5) and row["load_cpu_us"] == pytest.approx(2e4)


def test_who_arrives_is_timed_from_the_moment_at_which_they_are_due() -> None:
    """A cloud that waits 0.1 s for others answers nobody sooner, and the load goes on meanwhile."""
    folder = small_cloud.folder()
    app = create_app(folder, Settings(batch_seconds=0.1, max_batch=1000))
    device = Device(folder / "device", lambda request, limit: b"")
    bodies = [device.request([1, 2, 3]) for _ in range(8)]
    with running(app) as url:
        result = arrive(url, app.state.cloud.token.decode(), bodies, rate=100, seconds=1, seed=0)
    assert (len(result.times), result.errors) == (100, 0)
    assert max(result.times) > 0.09
    due = np.cumsum(np.random.default_rng(0).exponential(1 / 100, 100))
    assert due[-1] - 0.1 < result.seconds < 100 * 0.1, "it waited for answers"


def test_figures_show_the_records() -> None:
    table = speed.records("bench_cloud")
    cloud = speed.part(table, "cloud")
    speed.sessions(cloud)
    (line,) = (ln for ln in plt.gcf().axes[1].lines if ln.get_label() == "one by one")
    shown = cloud[(cloud.upload == "clicks") & (cloud.http == "h11")]
    assert list(line.get_ydata()) == list(shown[shown.batching == "one by one"]["rate"])
    speed.answer_times(cloud, goal=20)
    limit = speed.part(table, "limit")
    speed.costs(limit)
    widths = [bar.get_width() for bar in plt.gca().patches]
    assert sum(widths) == pytest.approx((1e6 / limit["limit"]).sum())
    speed.queue(speed.part(table, "queue"))
    two_minutes = {
        "seconds": [60, 60],
        "memory_mb": [90.0, 90.5],
        "p50_ms": [1, 2],
        "p99_ms": [3, 4],
    }
    soak = pd.DataFrame(two_minutes)
    speed.soak(soak)
    assert list(plt.gcf().axes[0].lines[0].get_ydata()) == list(soak["memory_mb"])
    plt.close("all")
