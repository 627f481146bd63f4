"""What must not change when code moves: training, tables and verdicts, what exercises are told.

python tests/golden.py FOLDER

writes it all into a folder of CSV and JSON files, the same to the last digit on the same machine.
Run it before a change and after it, and compare: `diff -r BEFORE AFTER`. Models are trained anew,
in a cache of its own. It takes some five minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import exercises
import pandas as pd
import small_data
import small_videos
import torch
from duetbook import verdicts
from wrong_answers import WRONG

from data_prep.command import run_command
from duetlib import latency, training
from duetlib.evidence import experiments, tables, vision_tables
from duetlib.evidence.experiments import RunConfig
from duetlib.evidence.records import STARTS_FROM, results_dir, whole_records
from duetlib.evidence.records import VISION_STARTS_FROM as VISION_STARTS_FROM
from duetlib.evidence.vision_experiments import VisionRun
from duetlib.methods import METHODS
from duetlib.training import TrainConfig
from duetlib.vision import training as vision_training
from duetlib.vision.network import METHODS as VISION_METHODS
from duetlib.vision.training import VisionConfig

# Of a record: when, where and how fast, which may differ from run to run.
LIVE = ("commit", "code", "date", "device", "threads", "torch", "train_seconds", "own_seconds")
CLICKS = {"n_users": 40, "n_items": 140, "clicks": (6, 12)}


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """One hash of all weights, in the order of their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def random_state() -> str:
    """A hash of where PyTorch's own generator has got to."""
    return hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()


def of_run(config: Any, data: Any) -> dict[str, Any]:
    """A run's record, its weights, and the generator afterwards."""
    torch.manual_seed(0)
    record = experiments.run(config, "cpu", data)
    state = random_state()
    trains = config.trains
    if isinstance(config, VisionRun):
        split: Any = vision_training.cut(data, config.seed, "cpu")
        train: Any = vision_training.trained
    else:
        split, train = experiments.cut(data, config.split), training.trained
    model, _ = train(
        config.backbone, trains.method, split, config.train, seed=config.seed, **dict(config.ppg)
    )
    kept = {name: value for name, value in record.items() if name not in LIVE}
    return {"weights": digest(model.state_dict()), "random": state, "record": kept}


def runs_on_clicks() -> Iterator[RunConfig]:
    """Two epochs of every backbone and method, and of what starts from another run."""
    two = TrainConfig(max_epochs=2, batch_size=64)
    for backbone in ("din", "din_concat", "sasrec", "gru4rec"):
        one = RunConfig("ml-100k", backbone, "base", 0, train=two)
        for method in (*METHODS, *STARTS_FROM):
            yield replace(one, method=method)
        single = replace(one, method="duet_no_swa")
        yield replace(single, train=replace(two, scheme="alternating"))
        for setting in (("neck", "mean"), ("form", "dense"), ("tau", 2.0)):
            yield replace(single, ppg=(setting,))
        yield replace(one, method="duet", ppg=(("n_generators", 2),))


def runs_on_videos() -> Iterator[VisionRun]:
    """Two epochs of the small network with every method; its controls; the large one with DUET."""
    one = VisionRun(
        "ckplus", "mobilenet_v3_small", "base", 0, size=32, train=VisionConfig(epochs=2)
    )
    for method in (*VISION_METHODS, *VISION_STARTS_FROM):
        yield replace(one, method=method)
    yield replace(one, backbone="mobilenet_v3_large", method="duet")


def write_training(folder: Path) -> None:
    """`training.json`: what each run leaves behind."""
    data, found = small_data.interactions(**CLICKS), dict[str, Any]()
    videos = small_videos.videos()
    for config in runs_on_clicks():
        found[config.key] = of_run(config, data)
    for run in runs_on_videos():
        found[run.key] = of_run(run, videos)
    (folder / "training.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def all_tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """Every table and verdict of the records, by name."""
    for dataset in ("ml-100k", "ml-1m"):
        records = tables.recorded(dataset)
        yield f"{dataset} missing", experiments.missing(records, dataset)
        for split in ("leave-one-out", "last-10"):
            runs = tables.standard(records, split)
            if runs.empty:
                continue
            name = f"{dataset} {split}"
            yield f"{name} table 1", tables.table_1(runs, dataset)
            for than in dict.fromkeys(tables.with_users(runs)["method"]):
                for metric in tables.METRICS:
                    yield f"{name} {metric} less {than}", tables.differences(runs, than, metric)
            if "duet_no_swa" in set(runs["method"]):
                yield f"{name} kept", tables.kept(runs, sorted(set(runs["method"]) - {"base"}))
    beyond = whole_records(results_dir() / "beyond.jsonl")
    for part in dict.fromkeys(record["part"] for record in beyond):
        yield f"beyond {part}", tables.variants("beyond", part)
    faces = vision_tables.recorded("faces")
    yield "faces missing", experiments.missing(faces, "faces")
    for strength in sorted(set(faces["strength"])):
        runs, name = vision_tables.standard(faces, strength), f"faces strength {strength:g}"
        yield f"{name} table 2", vision_tables.table_2(runs)
        yield f"{name} table 4", vision_tables.table_4(runs)
        yield f"{name} sessions", vision_tables.by_session(runs)
        for metric in ("accuracy", "balanced_accuracy", "apex_accuracy"):
            methods = sorted(set(runs["method"]) - {"base"})
            table = vision_tables.differences(runs, methods, metric=metric)
            yield f"{name} {metric} less base", table
    yield "table 3", pd.DataFrame(latency.table_3())
    yield "verdicts", pd.DataFrame(verdicts.counts().items(), columns=["verdict", "claims"])


def write_tables(folder: Path) -> None:
    """A CSV of each table, its numbers written out in full."""
    for name, table in all_tables():
        columns = [column for column in table if table[column].map(type).isin([dict, list]).any()]
        text = table.drop(columns=columns).to_csv(index=False)
        (folder / f"{name.replace(' ', '_')}.csv").write_text(text)


def write_exercises(folder: Path) -> None:
    """`exercises.json`: what each check says of nothing, of the solution, and of wrong answers."""
    told: dict[str, list[str]] = {}
    for n, chapter in enumerate(exercises.CHAPTERS, 1):
        for name, check in exercises.checks(chapter).items():
            answers = [exercises.stub(chapter, name), exercises.solution(chapter, name)]
            told[f"{chapter} {name}"] = [
                str(check(answer)) for answer in (*answers, *WRONG[n, name])
            ]
    (folder / "exercises.json").write_text(json.dumps(told, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Write everything into a folder, which is made."""
    parser = argparse.ArgumentParser(prog="python tests/golden.py", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder.expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["DUET_PROGRESS"] = "0"
    torch.set_num_threads(1)
    write_exercises(folder)
    write_tables(folder)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["DUET_CACHE"] = cache
        write_training(folder)


if __name__ == "__main__":
    run_command(main)
