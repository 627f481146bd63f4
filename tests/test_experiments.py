"""The runner: keys, whole records, two processes at once, killed ten times and started again."""

from __future__ import annotations

import fcntl
import json
import math
import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_data
import torch

from duetlib import controls, metrics, training
from duetlib.evidence import experiments, records
from duetlib.evidence.experiments import (
    RunConfig,
    claim,
    cut,
    done_keys,
    grid,
    hash_of,
    sent_bytes,
    time_left,
)
from duetlib.evidence.records import (
    PROTOCOLS,
    STARTS_FROM,
    append_record,
    load_records,
    n_generators,
    provenance,
    results_dir,
    shares_of_text,
    text_of_shares,
    whole_records,
)
from duetlib.evidence.tables import summary
from duetlib.finetuning import finetune_all, finetune_dynamic, own_layers, own_rows
from duetlib.methods import METHODS, build
from duetlib.sessions import leave_last_out
from duetlib.training import TrainConfig, evaluate, sampled_candidates, score, trained

TINY = TrainConfig(lr=0.01, batch_size=128, max_epochs=2, patience=2)
RUNS = [
    RunConfig("ml-100k", "gru4rec", method, seed, train=TINY)
    for seed in (0, 1)
    for method in ("base", "finetune", "duet_no_swa", "shuffled")
]


class Bar:
    """A progress bar that kills its process, without a word, at a given moment.

    Moments are counted: each batch is one, and so is what comes before and after each record.
    """

    moments, kill_at = 0, 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self) -> None:
        self.moments += 1
        if self.moments == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def run_grid(folder: Path, kill_at: int) -> None:
    """What `python -m duetlib.evidence.experiments` does, with the tiny grid on random data."""
    bar = Bar()

    def append_and_count(path: Path, record: dict[str, Any]) -> None:
        bar.update()
        append_record(path, record)
        bar.update()

    os.environ["DUET_CACHE"] = str(folder / "cache")
    bar.kill_at = kill_at
    training.progress = lambda *_: bar
    experiments.append_record = append_and_count
    experiments.results_dir = lambda: folder
    experiments.load_movielens = lambda dataset, **settings: small_data.interactions()
    experiments.grid = lambda dataset: RUNS
    sys.argv = ["experiments", "--device", "cpu"]
    experiments.main()


@pytest.fixture(scope="module")
def start_grid() -> Callable[..., Any]:
    """A function that starts `run_grid` in a process of its own."""
    processes = multiprocessing.get_context("forkserver")  # PyTorch is imported once for them all
    processes.set_forkserver_preload(
        ["duetlib.evidence.experiments", "torch._dynamo"]
    )  # Adam wants it

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
    path = folder / "ml-100k.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    records = {json.dumps(r["config"], sort_keys=True): r for r in map(json.loads, lines)}
    assert len(records) == len(lines)
    return records


def test_no_run_is_lost_or_twice(tmp_path: Path, start_grid: Callable[..., Any]) -> None:
    """Two processes at once; and one that is killed ten times, at moments drawn from a seed."""
    together, killed, dice = tmp_path / "together", tmp_path / "killed", random.Random(5)
    at_once = [start_grid(together), start_grid(together)]
    unfinished, before = 0, dict[str, dict[str, Any]]()
    for _ in range(10):
        assert finish(start_grid(killed, kill_at=dice.randint(1, 14))) == -signal.SIGKILL
        unfinished += len(list((killed / "cache").glob("*.unfinished")))
        now = records_of(killed)
        assert before.items() <= now.items()  # their seconds too: nothing was run again
        before = now
    assert unfinished and 1 < len(before) < 8  # some kills hit a training, and some records stood
    assert finish(start_grid(killed)) == 0
    assert not list((killed / "cache").glob("*.unfinished"))
    assert [finish(process) for process in at_once] == [0, 0]

    whole, resumed = records_of(together), records_of(killed)
    assert whole.keys() == resumed.keys() == {run.key for run in RUNS}
    assert before.items() <= resumed.items()
    for key, record in whole.items():
        for what in ("metrics", "curve", "users", "best_epoch"):
            assert resumed[key][what] == record[what]
    record = resumed[max(resumed)]
    assert record["protocol"] == PROTOCOLS["leave-one-out"].format(core=5)
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


def test_half_a_line_is_no_record_and_is_cleared_away(tmp_path: Path) -> None:
    """What a process leaves that is killed while it writes."""
    path, run = tmp_path / "r.jsonl", RunConfig("ml-100k", "din", "base", 0)
    append_record(path, {"config": json.loads(run.key), "number": 1})
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    with pytest.warns(UserWarning, match=r"r\.jsonl, line 2 is cut: left out"):
        assert done_keys(path) == {run.key}
    assert path.read_bytes() == whole + whole[:20]  # a reader changes nothing
    append_record(path, {"number": 2})
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [1, 2]
    path.write_bytes(whole[:20])
    with pytest.warns(UserWarning, match=r"r\.jsonl, line 1 is cut"):
        assert done_keys(path) == set()


def test_records_glued_on_one_line_are_lost_by_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"run": 1}\n{"run": 2}{"run": 3}')
    append_record(path, {"run": 4})
    assert path.read_text() == '{"run": 1}\n{"run": 2}{"run": 3}\n{"run": 4}\n'
    with pytest.raises(ValueError, match="line 2 is no record"):
        whole_records(path)


def test_a_whole_record_without_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"number": 1}\n{"number": 2}')
    assert whole_records(path) == [{"number": 1}, {"number": 2}]
    append_record(path, {"number": 3})
    assert path.read_text() == '{"number": 1}\n{"number": 2}\n{"number": 3}\n'


@pytest.mark.parametrize("end", ["", "\n", '\n{"number": 2}\n'])
@pytest.mark.parametrize(
    "line",
    ["<<<<<<< HEAD", "=======", ">>>>>>> other", "null", "[1]", '"a"', "\x00\x00", "[" * 9999],
)
def test_a_damaged_record_is_named_and_nothing_is_lost(tmp_path: Path, line: str, end: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"number": 1}\n\n' + line + end)
    with pytest.raises(ValueError, match=r"r\.jsonl, line 3 is no"):
        whole_records(path)
    before = path.read_text().rstrip("\n")
    append_record(path, {"number": 3})
    assert path.read_text() == before + '\n{"number": 3}\n'


def test_a_cut_record_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"number": 1}\n{"numb\n{"number": 2}\n')
    with pytest.raises(ValueError, match=r"r\.jsonl, line 2 is no record .*begins .*numb"):
        whole_records(path)


def test_a_reader_waits_for_a_writer(tmp_path: Path) -> None:
    """Half a line on the disk, while somebody writes it, is not taken for a cut one."""
    path, ready = tmp_path / "r.jsonl", threading.Event()

    def write_slowly() -> None:
        with path.open("wb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b'{"number"')
            ready.set()
            time.sleep(0.2)
            file.write(b": 1}\n")

    writer = threading.Thread(target=write_slowly)
    writer.start()
    ready.wait(10)
    assert whole_records(path) == [{"number": 1}]
    writer.join()


def test_without_a_place_for_locks_a_run_is_claimed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")  # a file in the folder's place
    with pytest.warns(UserWarning, match="runs cannot be written to .*start no second.*DUET_CACHE"):
        lock = claim(tmp_path / "cache" / "runs" / "1.lock")
    with lock:
        pass


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
    backbones, seeds = ("sasrec", "din", "gru4rec"), range(5)
    of_ours = [*METHODS, *STARTS_FROM]  # all methods and controls
    of_theirs = ("base", "finetune", "duet_no_swa", "duet")
    wanted = {(b, m, s, "leave-one-out", 5) for b in backbones for m in of_ours for s in seeds}
    wanted |= {(b, m, s, "last-10", 30) for b in backbones for m in of_theirs for s in seeds}
    joint = [r for r in runs if not r.ppg and r.train == TrainConfig()]
    assert {(r.backbone, r.method, r.seed, r.split, r.core) for r in joint} == wanted
    generators = {(r.backbone, r.seed, r.ppg[0][1]) for r in runs if "n_generators" in dict(r.ppg)}
    assert generators == {(b, s, n) for b in backbones for s in seeds for n in (2, 3)}
    necks = {(r.seed, r.ppg[0][1]) for r in runs if "neck" in dict(r.ppg)}
    assert necks == {(s, neck) for s in seeds for neck in ("mean", "state")}
    assert sum(r.train.scheme == "alternating" for r in runs) == 5
    assert max(n for n, r in enumerate(runs) if r.seed < 3) < len(runs) * 3 / 5  # three seeds first


def test_the_larger_grid_is_short_but_for_the_bases() -> None:
    runs = grid("ml-1m")
    assert len({run.key for run in runs}) == len(runs)
    methods = "base finetune finetune_dynamic hypernetwork duet_no_swa duet bias_only".split()
    assert {(r.backbone, r.method, r.seed) for r in runs} == {
        (b, m, s) for b in ("sasrec", "din", "gru4rec") for m in methods for s in range(3)
    } | {("din", "neck_as_input", s) for s in range(3)}
    assert {r.train.patience for r in runs} == {2}
    for run in runs:
        assert run.train.max_epochs == (40 if run.trains.method == "base" else 8)
    assert [r.seed for r in grid("ml-1m", [7])] == [7] * 22


@pytest.mark.parametrize("dataset", ["ml-100k", "ml-1m"])
def test_a_run_comes_after_the_training_that_it_needs(dataset: str) -> None:
    runs = grid(dataset)
    place = {run: n for n, run in enumerate(runs)}
    for run in runs:
        needs = run.trains
        assert needs.trains == needs
        assert (needs == run) == (run.method in METHODS)
        if needs != run:
            assert replace(needs, method=run.method) == run
            assert place[needs] < place[run]


class Started(list[str]):
    """Keys of the runs that `main` has started, in place of which it gets a small record."""

    def __call__(self, config: RunConfig, *_: object) -> dict[str, Any]:
        self.append(config.key)
        return {"config": json.loads(config.key), "metrics": {"auc": 0.5}, "best_epoch": 1} | {
            "backbone": config.backbone,
            "method": config.method,
            "train_seconds": 36.0,
        }


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """What `main` starts, with records and locks in a folder of its own."""
    monkeypatch.setenv("DUET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(experiments, "results_dir", lambda: tmp_path)
    monkeypatch.setattr(experiments, "load_movielens", lambda *_, **__: None)
    monkeypatch.setattr(training, "code_hash", lambda: "")
    monkeypatch.setattr(experiments, "run", runs := Started())
    return runs


def start(*arguments: str) -> None:
    sys.argv = ["experiments", "--device", "cpu", *arguments]
    experiments.main()


def test_shards_cover_the_grid_and_keep_trainings_together(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = grid(seeds=[0])
    monkeypatch.setattr(experiments, "grid", lambda dataset: few)
    trains = {run.key: run.trains.key for run in few}
    shards = []
    for i in range(3):
        before = len(started)
        start("--shard", f"{i}/3")
        shards.append({trains[key] for key in started[before:]})
    assert sorted(started) == sorted(trains)
    assert sum(len(shard) for shard in shards) == len(set.union(*shards))  # no training in two
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    start()
    assert len(started) == len(few)  # all is done


@pytest.mark.parametrize("shard", ["2/2", "-1/2", "0/0"])
def test_a_shard_that_is_none_is_refused(
    shard: str, started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        start(f"--shard={shard}")
    assert "with i from 0 to n - 1" in capsys.readouterr().err and not started


def test_a_run_that_another_process_is_at_is_left_to_it(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(experiments, "grid", lambda dataset: RUNS)
    lock = claim(tmp_path / "cache" / "runs" / f"{hash_of(RUNS[1].trains):016x}.lock")
    start()
    busy = {RUNS[0].key, RUNS[1].key}  # finetune needs the base that somebody is training
    assert set(started) == {run.key for run in RUNS} - busy
    lock.close()
    start()
    assert sorted(started) == sorted(run.key for run in RUNS)


def test_the_time_left_goes_by_what_like_runs_took(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "times.jsonl"
    assert math.isnan(time_left(RUNS, path))
    for backbone, method, times in (
        ("gru4rec", "base", {"train_seconds": 100}),
        ("gru4rec", "base", {"train_seconds": 300}),
        ("gru4rec", "finetune", {"train_seconds": 300, "own_seconds": 20}),
    ):
        append_record(path, {"backbone": backbone, "method": method, **times})
    assert time_left(RUNS[:1], path) == pytest.approx(200 / 3600)
    assert time_left(RUNS[:2], path) == pytest.approx(220 / 3600)
    assert time_left(RUNS[2:3], path) == pytest.approx(140 / 3600)  # no like one: the mean of all
    assert time_left([], path) == 0
    monkeypatch.setattr(experiments, "grid", lambda dataset: RUNS)
    start()
    told = [line.split("; ")[1] for line in capsys.readouterr().out.splitlines()]
    assert told[0] == "7 runs, 0.1 hours of one process left"  # 36 s each
    assert told[-1] == "0 runs, 0.0 hours of one process left"


# ---- one run


def test_leave_one_out_is_cut_with_a_validation_click() -> None:
    data = small_data.interactions()
    split, right = cut(data, "leave-one-out"), leave_last_out(data, length=30)
    for part in ("train", "valid", "test"):
        assert torch.equal(getattr(split, part).history, getattr(right, part).history)
        assert torch.equal(getattr(split, part).target, getattr(right, part).target)
    assert len(split.valid) == len(split.test) == 30


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_with_the_last_ten_the_test_is_the_validation(device: str) -> None:
    data = small_data.interactions(6, clicks=(13, 20))
    split = cut(data, "last-10").to(device)
    assert split.valid is split.test  # fine-tuning goes by this: it must not train on the test
    assert split.test.target.device.type == split.seen.device.type == device
    assert len(split.test) == 60 and len(split.train) == len(data.user) - 6 - 60
    if device == "cpu":
        for user in range(1, 7):
            clicks = data.item[data.user == user]
            assert split.test.target[split.test.user == user].tolist() == clicks[-10:].tolist()
            assert split.train.target[split.train.user == user].tolist() == clicks[1:-10].tolist()
        assert torch.equal(sampled_candidates(split, "valid"), sampled_candidates(split, "test"))


def test_another_split_is_named() -> None:
    with pytest.raises(ValueError, match="split 'random' is not one of leave-one-out, last-10"):
        cut(small_data.interactions(), "random")


def test_users_survive_the_packing() -> None:
    values = np.random.default_rng(0).random(943)
    values[:3] = 0, 1, 0.5
    packed = json.loads(json.dumps(text_of_shares({"auc": values.tolist(), "hr10": [1.0, 0.0]})))
    found = shares_of_text(packed["auc"])
    assert found.shape == (943,)
    assert np.abs(found - values).max() <= 1 / 131_070 + 1e-12
    assert found[0] == 0 and found[1] == 1
    assert shares_of_text(packed["hr10"]).tolist() == [1, 0]
    assert len(packed["auc"]) < 943 * 3  # two bytes and base64


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backbone", ["sasrec", "din_concat"])
def test_what_is_sent_is_what_depends_on_the_session(backbone: str, method: str) -> None:
    model = build(backbone, method, n_items=10)
    one, two = (model.layers(torch.tensor([clicks])) for clicks in ([1, 2], [3, 4]))
    pairs = [pair for a, b in zip(one, two, strict=True) for pair in zip(a, b, strict=True)]
    numbers = sum(a.numel() for a, b in pairs if not torch.equal(a, b))
    if method.startswith("neck_as_input"):  # its neck runs on the device: nothing is sent
        numbers = 0
    assert sent_bytes(method, model.backbone.shapes) == 4 * numbers


@pytest.fixture
def runs_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A function that makes the record of a run on random data, with a cache of its own."""
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))

    def record_of(method: str, **settings: Any) -> dict[str, Any]:
        config = RunConfig("ml-100k", "gru4rec", method, 0, train=TINY, **settings)
        clicks = (13, 16) if config.split == "last-10" else (5, 12)
        record = experiments.run(config, "cpu", small_data.interactions(clicks=clicks))
        return json.loads(json.dumps(record))

    return record_of


def test_records_of_controls_hold_what_the_controls_give(runs_of: Callable[..., Any]) -> None:
    own = runs_of("duet_no_swa")
    assert "own_seconds" not in own
    split = cut(small_data.interactions(), "leave-one-out")
    model, _ = trained("gru4rec", "duet_no_swa", split, TINY)
    found = [own["metrics"]]
    for method in ("shuffled", "constant", "stale"):
        record = runs_of(method)
        right = evaluate(model, split, getattr(controls, method)(model, split))
        assert record["metrics"] == right.metrics
        assert record["method"] == method and record["config"]["method"] == method
        assert "tuned" not in record and record["own_seconds"] >= 0
        for what in ("curve", "best_epoch", "train_seconds", "params", "flops", "payload_bytes"):
            assert record[what] == own[what]  # those of the training that it starts from
        found.append(record["metrics"])
    assert all(a != b for n, a in enumerate(found) for b in found[:n])
    for name, packed in own["users"].items():
        mean = own["metrics"][name.removesuffix("_of_wrong")]
        assert shares_of_text(packed).shape == (30,)
        assert shares_of_text(packed).mean() == pytest.approx(mean, abs=1e-5)


def test_what_a_record_says_of_sizes(runs_of: Callable[..., Any]) -> None:
    base = runs_of("base")
    for method in METHODS:
        record, model = runs_of(method), build("gru4rec", method, n_items=140)
        assert record["params"] == metrics.count_parameters(model)
        whole = method.startswith(("neck_as_input", "wide"))
        on_device = record["params"] if whole else base["params"]
        assert record["device_params"] == on_device  # generated or not, the layers are as large
        assert record["payload_bytes"] == sent_bytes(method, model.backbone.shapes)


def test_records_of_fine_tuning(
    runs_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "RATES", (1e-3, 3e-2))
    monkeypatch.setattr(experiments, "STEPS", (1, 3))
    split = cut(small_data.interactions(), "leave-one-out")
    model, _ = trained("gru4rec", "base", split, TINY)
    record = runs_of("finetune")
    assert record["metrics"] == finetune_all(model, split, TINY, seed=0).metrics
    assert record["tuned"] == {"passes": 1} and record["own_seconds"] >= 0

    record = runs_of("finetune_dynamic")
    tried, tuned = record["tried"], record["tuned"]
    assert [(t["rate"], t["steps"]) for t in tried] == [(1e-3, 1), (1e-3, 3), (3e-2, 1), (3e-2, 3)]
    assert tuned["valid_auc"] == max(t["valid_auc"] for t in tried)
    ids = sampled_candidates(split, "valid")
    for setting in tried:  # each chosen by the validation click, which nobody has trained on
        rows = own_rows(split, 30, 4, seed=0, until="valid")
        (layers,) = finetune_dynamic(model, rows, setting["rate"], [setting["steps"]])
        assert setting["valid_auc"] == metrics.auc(
            score(model, split.valid, ids, own_layers(layers))
        )
    rows = own_rows(split, 30, 4, seed=0, until="test")  # now the validation click is known
    (layers,) = finetune_dynamic(model, rows, tuned["rate"], [tuned["steps"]])
    assert record["metrics"] == evaluate(model, split, own_layers(layers)).metrics


def test_fine_tuning_never_sees_the_test(
    runs_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where the test chooses the epoch: the split of a run, as it is after its moves."""
    told = []
    monkeypatch.setattr(
        experiments,
        "finetune_all",
        lambda model, split, *rest: (told.append(split), finetune_all(model, split, *rest))[1],
    )
    for name in ("leave-one-out", "last-10"):
        record = runs_of("finetune", split=name, core=30)
        assert record["split"] == name and f"{30}-core" in record["protocol"]
        split = told[-1]
        rows = own_rows(split, None, 4, seed=0, until="test")
        asked = set(zip(split.test.user.tolist(), split.test.target.tolist(), strict=True))
        for u, (targets, there) in enumerate(zip(rows.ids[..., 0], rows.there, strict=True), 1):
            assert not asked & {(u, i) for i in targets[there].tolist()}


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
    monkeypatch.setattr(records, "results_dir", lambda: tmp_path)
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


def test_a_run_that_is_there_twice_and_one_without_metrics_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "results_dir", lambda: tmp_path)
    path = tmp_path / "small.jsonl"
    for seed in (0, 1, 0):
        append_record(path, record("base", seed, 0.8))
    with pytest.raises(ValueError, match=r"small\.jsonl, record 3 is of a run .* twice"):
        load_records("small")
    path.write_text("{}\n")
    with pytest.raises(ValueError, match=r"small\.jsonl, record 1 has no method"):
        load_records("small")


def test_no_records_says_how_to_make_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "results_dir", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl: run `make results`"):
        load_records("none")


def test_the_records_of_the_checkout_can_be_read() -> None:
    for path in results_dir().glob("ml-*.jsonl"):
        table = load_records(path.stem)
        assert table["auc"].between(0.5, 1).all()
        assert len(done_keys(path)) == len(table)


def test_a_record_says_on_which_of_several_gpus_it_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    assert provenance("cuda:1")["device"] == "GPU cuda:1"
    assert provenance("cpu")["device"].startswith("cpu (")


def test_the_code_of_fine_tuning_is_part_of_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {method: experiments.code_of(method) for method in ("base", "duet", "finetune")}
    assert codes["base"] == codes["duet"] == training.code_hash() != codes["finetune"]
    monkeypatch.setattr(training, "CODE", "sessions")
    assert experiments.code_of("finetune_dynamic") != codes["finetune"]


def test_records_are_read_where_files_cannot_be_locked() -> None:
    """As on Windows, which has no `fcntl`."""
    code = "import sys; sys.modules['fcntl'] = None; import duetlib.evidence.experiments"
    subprocess.run([sys.executable, "-c", code], check=True)
