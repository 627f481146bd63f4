"""The runner: keys, records that are whole, two processes at once, killed and started again."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_data

from duetlib import experiments, training
from duetlib.experiments import (
    RunConfig,
    append_record,
    claim,
    done_keys,
    grid,
    hash_of,
    load_records,
    n_generators,
    provenance,
    results_dir,
    summary,
)
from duetlib.training import TrainConfig

TINY = TrainConfig(lr=0.01, batch_size=128, max_epochs=2, patience=2)
RUNS = [
    RunConfig("ml-100k", "gru4rec", "duet", seed, ppg, train=TINY)
    for seed in (0, 1)
    for ppg in ((("n_generators", 2),), ())
]


class Bar:
    """A progress bar that kills its process, without a word, at a given batch."""

    batches, kill_at = 0, 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self) -> None:
        Bar.batches += 1
        if Bar.batches == Bar.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def run_grid(folder: Path, kill_at: int) -> None:
    """What `python -m duetlib.experiments` does, with the tiny grid on random data."""
    os.environ["DUET_CACHE"] = str(folder / "cache")
    Bar.kill_at = kill_at
    training.progress = lambda *_: Bar()
    experiments.results_dir = lambda: folder
    experiments.load_movielens = lambda dataset, **settings: small_data.interactions()
    experiments.grid = lambda dataset: RUNS
    sys.argv = ["experiments", "--device", "cpu"]
    experiments.main()


@pytest.fixture(scope="module")
def start_grid() -> Callable[..., Any]:
    """A function that starts `run_grid` in a process of its own."""
    processes = multiprocessing.get_context("forkserver")  # PyTorch is imported once for them all
    processes.set_forkserver_preload(["duetlib.experiments"])

    def start(folder: Path, kill_at: int = 0) -> Any:
        folder.mkdir(exist_ok=True)
        process = processes.Process(target=run_grid, args=(folder, kill_at))
        process.start()
        return process

    return start


def finish(process: Any) -> int:
    process.join(300)
    return process.exitcode


def records_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Records by their run's key; no run may be there twice."""
    lines = (folder / "ml-100k.jsonl").read_text().splitlines()
    records = {json.dumps(r["config"], sort_keys=True): r for r in map(json.loads, lines)}
    assert len(records) == len(lines)
    return records


def test_no_run_is_lost_or_twice(tmp_path: Path, start_grid: Callable[..., Any]) -> None:
    together, killed = tmp_path / "together", tmp_path / "killed"
    at_once = [start_grid(together), start_grid(together)]
    assert finish(start_grid(killed, kill_at=24)) == -signal.SIGKILL
    assert [finish(process) for process in at_once] == [0, 0]
    before = records_of(killed)
    assert 0 < len(before) < 4
    assert list((killed / "cache").glob("*.unfinished"))  # the run it was killed in
    assert finish(start_grid(killed)) == 0
    assert not list((killed / "cache").glob("*.unfinished"))

    whole, resumed = records_of(together), records_of(killed)
    assert len(whole) == 4
    assert whole.keys() == resumed.keys()
    for key, record in whole.items():
        assert resumed[key]["metrics"] == record["metrics"]
        assert resumed[key]["curve"] == record["curve"]
    for key, record in before.items():
        assert resumed[key] == record  # its seconds too: it was not run again
    record = resumed[max(resumed)]
    assert record["protocol"] == experiments.PROTOCOLS["leave-one-out"].format(core=5)
    assert record["dataset"] == "random"  # the label of the data, not the name that was asked for
    assert provenance("cpu").keys() <= record.keys()


def append_many(path: Path, writer: int) -> None:
    for number in range(40):
        append_record(path, {"writer": writer, "number": number, "filler": "x" * 20_000})


def test_records_of_many_writers_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=append_many, args=(path, n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    found = [(r["writer"], r["number"]) for r in map(json.loads, path.read_text().splitlines())]
    assert sorted(found) == [(w, n) for w in range(4) for n in range(40)]


def test_a_run_is_claimed_once(tmp_path: Path) -> None:
    file = tmp_path / "a" / "run.lock"
    mine = claim(file)
    assert mine is not None
    assert claim(file) is None
    mine.close()
    again = claim(file)
    assert again is not None
    again.close()


def test_the_key_is_the_run() -> None:
    run = RunConfig("ml-100k", "sasrec", "duet", 0, (("n_generators", 2),))
    same = RunConfig("ml-100k", "sasrec", "duet", 0, (("n_generators", 2),), train=TrainConfig())
    others = [
        replace(run, dataset="ml-1m"),
        replace(run, backbone="din"),
        replace(run, method="duet_no_swa"),
        replace(run, seed=1),
        replace(run, ppg=(("n_generators", 3),)),
        replace(run, ppg=()),
        replace(run, core=10),
        replace(run, train=TrainConfig(lr=1e-4)),
    ]
    assert run.key == same.key
    assert hash_of(run) == hash_of(same)
    assert len({run.key, *(other.key for other in others)}) == 9
    assert len({hash_of(run), *(hash_of(other) for other in others)}) == 9


def test_the_key_survives_the_file(tmp_path: Path) -> None:
    path, run = tmp_path / "r.jsonl", RunConfig("ml-100k", "din", "duet", 2, (("tau", 0.5),))
    assert done_keys(path) == set()
    append_record(path, {"config": json.loads(run.key)})
    assert done_keys(path) == {run.key}


def test_the_grid_has_every_run_once() -> None:
    runs = grid()
    assert len({run.key for run in runs}) == len(runs)
    wanted = {
        (backbone, method, seed)
        for backbone in ("sasrec", "din", "gru4rec")
        for method in ("base", "duet_no_swa", "duet")
        for seed in (0, 1, 2)
    }
    assert wanted <= {(r.backbone, r.method, r.seed) for r in runs if not r.ppg}


def record(method: str, seed: int, auc: float, ppg: tuple[tuple[str, Any], ...] = ()) -> Any:
    run = RunConfig("ml-100k", "sasrec", method, seed, ppg)
    return {
        "backbone": "sasrec",
        "method": method,
        "seed": seed,
        "metrics": {"auc": auc},
        "config": json.loads(run.key),
    }


def test_records_become_a_table_and_a_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "results_dir", lambda: tmp_path)
    aucs = {"base": (0.80, 0.82, 0.90), "duet": (0.85, 0.86)}
    for method, values in aucs.items():
        for seed, auc in enumerate(values):
            append_record(tmp_path / "small.jsonl", record(method, seed, auc))
    three = (("n_generators", 3), ("form", "dense"))
    append_record(tmp_path / "small.jsonl", record("duet", 0, 0.7, three))
    table = load_records("small")
    assert table["n_p"].tolist() == [0, 0, 0, 5, 5, 3]
    assert table["form"].tolist() == ["two_layer"] * 5 + ["dense"]
    assert set(table["scheme"]) == {"joint"}
    assert set(table["tau"]) == {1.0}
    assert set(table["temperature"]) == {"tempered"}
    found = summary(table[table["n_p"] != 3])
    for method, values in aucs.items():
        row = found.loc[("sasrec", method)]
        assert row["mean"] == pytest.approx(statistics.mean(values))
        assert row["std"] == pytest.approx(statistics.stdev(values))
        assert row["seeds"] == len(values)
    assert summary(table, by=("n_p",))["seeds"].to_dict() == {0: 3, 5: 2, 3: 1}


def test_generators_are_counted_by_method() -> None:
    assert n_generators(record("duet_no_swa", 0, 0.5)) == 1
    assert n_generators(record("duet_as_released", 0, 0.5)) == 1
    assert n_generators(record("hypernetwork", 0, 0.5)) == 0


def test_no_records_says_how_to_make_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "results_dir", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl: run `make results`"):
        load_records("none")


def test_the_records_of_the_checkout_can_be_read() -> None:
    for path in results_dir().glob("ml-*.jsonl"):
        table = load_records(path.stem)
        assert table["auc"].between(0.5, 1).all()
        assert len(done_keys(path)) == len(table)
