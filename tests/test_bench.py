"""The benchmarks run, small, and write what they measured; the page on speed shows just that."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import bench
import bench_recbole
import matplotlib.pyplot as plt
import nbformat
import notebook_checks as checks
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from duetbook.plots import speed

from duetlib.peak_memory import peak_mb

PAGE = checks.ROOT / "book" / "speed.ipynb"


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_small_bench_writes_its_records(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    one_thread: None,
) -> None:
    monkeypatch.setattr(bench, "SESSIONS", (3, 4))
    monkeypatch.setattr(bench, "DATA", 300)
    bench.main(tmp_path / "bench.jsonl", sizes=(1, 3), rounds=1, larger={})
    rows = [json.loads(line) for line in (tmp_path / "bench.jsonl").read_text().splitlines()]
    assert [path.name for path in tmp_path.iterdir()] == ["bench.jsonl"]
    for row in rows:
        assert {"part", "B", "variant", "load", "date", "machine", "torch", "commit"} <= row.keys()
    for batch in ("15", "20"):
        of_batch = [row for row in rows if row["part"] == f"training, {batch} rows a batch"]
        assert len({(row["backbone"], row["variant"]) for row in of_batch}) == len(of_batch) == 15
    for backbone in bench.BACKBONES:
        shares = [r["share"] for r in rows if "share" in r and r["backbone"] == backbone]
        assert len(shares) == 6
        assert sum(shares) == pytest.approx(1)
    printed = capsys.readouterr().out
    assert "generation and application, forward+backward" in printed
    assert "load" in printed.splitlines()[-2]


def test_the_pieces_of_a_step_compute_what_the_loop_computes() -> None:
    """What is timed against one another must be the same work."""
    torch.manual_seed(0)
    seen = []

    def keep(variants: dict, rounds: int, clock: bench.Clock) -> dict:
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


def test_rows_a_second_and_ratios_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 sessions are 50 rows; a base that takes 0.5 s does 100 rows a second."""
    seconds = {"base": 0.5, "N_p = 1": 1.0, "N_p = 5": 2.0, "mean": 0.8, "state": 0.6}

    def measured(variants: dict, rounds: int) -> dict:
        return {name: [seconds[next(s for s in seconds if name.endswith(s))]] for name in variants}

    monkeypatch.setattr(bench, "DATA", 300)
    monkeypatch.setattr(bench, "measure", measured)
    rows = [row for row in bench.training(10, 1) if row["backbone"] == "din"]
    assert [row["rows_per_cpu_second"] for row in rows] == [100, 50, 25, 62, 83]
    assert [row["times_base"] for row in rows] == pytest.approx([1, 2, 4, 1.6, 1.2])
    assert [row["times_gru_neck"] for row in rows] == pytest.approx([0.5, 1, 2, 0.8, 0.6])


def test_growth_reports_the_time_of_a_row_and_the_peak(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr(bench, "DATA", 300)
    monkeypatch.setattr(bench, "cpu_seconds", lambda work, calls: 3.0)
    row = bench.grown("sessions in the data", 600)
    assert row["us_a_row"] == pytest.approx(3e6 / (5 * 600))
    held = torch.ones(150, 2**18)  # 150 MB
    now = psutil.Process().memory_info().rss / 2**20
    peak = bench.peak_mb()
    assert now > 150 and peak > now - 1
    del held
    assert bench.peak_mb() > peak - 1, "a peak does not fall"


def test_a_peak_is_the_processs_own_and_not_its_parents() -> None:
    held = np.ones(300 * 2**17)  # 300 MB
    code = "from duetlib.peak_memory import peak_mb; print(peak_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert 1 < float(done.stdout) < 150 < peak_mb() - 150
    del held


# --- beside RecBole ------------------------------------------------------------------------------


def test_every_measure_beside_recbole_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours does a batch in 0.1 s, RecBole in 1 s: 10 times by sequences; the rest by counting."""
    monkeypatch.setattr(bench, "DATA", 300)
    monkeypatch.setattr(bench_recbole, "CLICKS", 1)
    monkeypatch.setattr(bench_recbole, "recbole_step", lambda *of: lambda: None)
    took = {"ours": 0.1, "RecBole": 1.0, "RecBole as it comes": 2.0}

    def measured(variants: dict, rounds: int) -> dict:
        return {name: [took[name.split("|")[1]]] * 2 for name in variants}

    monkeypatch.setattr(bench, "measure", measured)
    table = pd.DataFrame(bench_recbole.measure(2)).set_index(["backbone", "library", "way"])
    assert len(table) == 22
    assert list(table.groupby("backbone").size()) == [6, 8, 8]
    pairs = table.loc[("sasrec", "RecBole", "4 negatives, one pair a row (BPR)")]
    assert pairs["ours_by_sequences"] == pytest.approx(10)
    assert pairs["ours_by_rows"] == pytest.approx(10 * 5 / 4)
    assert pairs["ours_by_targets"] == pytest.approx(10 * 5 / 8)
    slow = table.loc[("sasrec", "RecBole as it comes", "1 negative (BPR)")]
    assert slow["ours_by_sequences"] == pytest.approx(20)
    every = table.loc[("gru4rec", "RecBole", "all items (CE, its default)")]
    assert every["targets_per_cpu_second"] == 205 * 1349
    assert every["ours_by_targets"] == pytest.approx(10 * 5 / 1349)
    ours = table.loc[("din", "ours", "4 negatives, base")]
    assert ours["rows_per_cpu_second"] == ours["targets_per_cpu_second"] == 10_250
    assert ours["ours_by_rows"] == pytest.approx(1)


def test_a_step_runs_with_anomaly_detection_as_told_and_no_longer() -> None:
    seen: list[bool] = []
    step = lambda: seen.append(torch.is_anomaly_enabled())  # noqa: E731
    with torch.autograd.set_detect_anomaly(True):  # as RecBole leaves it
        bench_recbole.detecting(step, False)()
        bench_recbole.detecting(step, True)()
        assert torch.is_anomaly_enabled()
    assert seen == [False, True]


def test_the_clicks_for_recbole_are_as_many_as_said(tmp_path: Path) -> None:
    bench_recbole.write_clicks(tmp_path)
    table = pd.read_csv(tmp_path / "random" / "random.inter", sep="\t")
    assert list(table) == ["user_id:token", "item_id:token", "timestamp:float"]
    assert list(table.groupby("user_id:token").size().unique()) == [105]
    assert table["item_id:token"].agg(["min", "max", "nunique"]).tolist() == [1, 1349, 1349]


def test_an_environment_that_cannot_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failed:
        returncode, stderr = 1, "no matching distribution"

    monkeypatch.setattr(bench_recbole.subprocess, "run", lambda *args, **more: Failed())
    with pytest.raises(SystemExit, match="no matching distribution"):
        bench_recbole.environment(tmp_path)
    assert not (tmp_path / ".recbole").exists()


# --- the page ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "check",
    [c for c in checks.CHECKS if c not in (checks.exercises, checks.compared_outputs)],
    ids=lambda check: check.__name__,
)
def test_page(check: Any) -> None:
    assert check(nbformat.read(PAGE, as_version=4)) == []


def test_page_reads_records_alone() -> None:
    """No number that a benchmark should give is measured or typed on the page itself."""
    source = "\n".join(c.source for c in checks.code_cells(nbformat.read(PAGE, as_version=4)))
    imported = {line.split()[1] for line in source.splitlines() if line.startswith("from ")}
    assert imported - {"importlib.util"} == {"duetbook", "duetbook.plots"}  # the first cell's


def test_figures_show_the_records() -> None:
    table, beside = speed.records("bench"), speed.records("bench_recbole")
    training = speed.part(table, "training")
    speed.training(training)
    shown = sorted(x for line in plt.gca().lines for x in line.get_xdata() if len(line.get_xdata()))
    methods = training[training["variant"].isin(speed.METHODS)]
    there = sorted(methods["rows_per_cpu_second"] / 1000)
    assert set(there) <= set(shown)
    speed.necks(training[training["B"] == training["B"].max()])
    share = speed.part(table, "share")
    for first in ("din", "sasrec"):  # labels go with the data, in whatever order it comes
        speed.shares(share.sort_values("backbone", ascending=first == "din"))
        assert plt.gca().get_yticklabels()[0].get_text() == speed.BACKBONE_NAMES[first]
    speed.growth(speed.part(table, "growth"))
    top, bottom = plt.gcf().axes[0].lines[0], plt.gcf().axes[3].lines[0]
    first = speed.part(table, "growth, sessions in a batch")
    assert list(top.get_ydata()) == list(first["us_a_row"])
    assert list(bottom.get_ydata()) == list(first["peak_mb"])
    speed.against_the_loop(table[table["part"].str.contains("application")])
    speed.beside(beside)
    gpu = speed.records("bench_gpu")
    steps = speed.part(gpu, "training")
    speed.steps_on_gpu(steps)
    shown = sorted(y for ax in plt.gcf().axes for line in ax.lines for y in line.get_ydata())
    assert shown == sorted(steps[steps["variant"].str.match("base|DUET, N_p = 5")]["ms"])
    speed.devices_on_gpu(gpu)
    flat = plt.gcf().axes[0].lines[1].get_ydata()
    made = speed.part(gpu, "generating")
    sasrec = made[(made["backbone"] == "sasrec") & (made["variant"] == "cuda")]
    assert list(flat) == list(sasrec.sort_values("B")["ms"])
    plt.close("all")


def test_rows_on_a_gpu_beside_a_thread_by_hand() -> None:
    names = list(speed.METHODS)
    gpu = [
        {"variant": n + end, "rows_per_second": 1000.0 * k}
        for k, (n, end) in enumerate(((n, end) for n in names for end in ("", ", one graph")), 1)
    ]
    thread = [{"variant": n, "rows_per_cpu_second": 500.0} for n in names]
    one, two = (pd.DataFrame(rows).assign(backbone="din") for rows in (gpu, thread))
    found = speed.rows_on_gpu(one, two)
    assert found.loc[("din", names[1])].tolist() == [0.5, 3.0, 4.0]


def test_verdicts_say_ahead_level_or_behind() -> None:
    times = {"ours_by_sequences": 3.0, "ours_by_rows": 0.95, "ours_by_targets": 0.5}
    table = pd.DataFrame([{"backbone": "din", "way": "w", "library": "RecBole", **times}])
    table = pd.concat([table, table.assign(library="RecBole as it comes")])
    (row,) = speed.verdicts(table).to_dict("records")
    assert list(row.values()) == ["din", "w", "3 ahead", "0.95 level", "0.5 behind"]


def test_records_that_are_not_there_say_how_to_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "results_dir", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="make bench"):
        speed.records("bench")
    with pytest.raises(FileNotFoundError, match=r"tools/bench_recbole\.py"):
        speed.records("bench_recbole")
    with pytest.raises(ValueError, match="no part 'x'; there are a, b"):
        speed.part(pd.DataFrame({"part": ["a", "b"]}), "x")
