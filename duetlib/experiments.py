"""Runs and their records: one run, one JSON object on one line.

`python -m duetlib.experiments` runs what is still missing from the grid and appends a record as
soon as a run ends; killed, it goes on at the next start. Tables and figures are made from records
alone.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from data_prep import load_movielens

from .metrics import count_flops, count_parameters, payload_bytes
from .sessions import leave_last_out
from .training import TrainConfig, cache_dir, code_hash, train
from .umn import build

PROTOCOL = (
    "5-core, ties in file order, leave the last out for testing and the second-last for "
    "validation, 100 fixed negatives, histories of 30 clicks; the epoch chosen on the validation "
    "AUC"
)


@dataclass(frozen=True)
class RunConfig:
    """One run: what is trained, on what, from which seed.

    Attributes:
        ppg: settings of the PPG beside the method's own, as `(name, value)` pairs.
    """

    dataset: str
    backbone: str
    method: str
    seed: int
    ppg: tuple[tuple[str, Any], ...] = ()
    core: int = 5
    split: str = "leave-one-out"
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def key(self) -> str:
        """Two runs with the same key are the same run."""
        return json.dumps(json.loads(json.dumps(asdict(self))), sort_keys=True)


def results_dir() -> Path:
    """Where the records are: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "results"
    return checkout if checkout.is_dir() else package / "results"


def load_records(name: str = "ml-100k") -> pd.DataFrame:
    """The records of one file, a row each; settings and metrics as columns of their own.

    Raises:
        FileNotFoundError: if there are no records of that name; it says how to make them.
    """
    path = results_dir() / f"{name}.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"no records at {path}: run `make results` in a checkout")
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    flat = [{**row, **row["metrics"], **dict(row["config"]["ppg"])} for row in rows]
    table = pd.DataFrame(flat)
    table["n_p"] = [n_generators(row) for row in rows]
    table["scheme"] = [row["config"]["train"]["scheme"] for row in rows]
    for column, default in (("form", "two_layer"), ("temperature", "tempered"), ("tau", 1.0)):
        table[column] = table[column].fillna(default) if column in table else default
    return table


def n_generators(record: dict[str, Any]) -> int:
    """N_p of a record; 0 where nothing is generated from clicks."""
    default = {"duet": 5, "duet_no_swa": 1, "duet_as_released": 1}.get(record["method"], 0)
    return int(dict(record["config"]["ppg"]).get("n_generators", default))


def summary(
    records: pd.DataFrame, by: Sequence[str] = ("backbone", "method"), metric: str = "auc"
) -> pd.DataFrame:
    """Mean, standard deviation (n - 1) and number of seeds of a metric, for each group."""
    groups = records.groupby(list(by), sort=False)[metric]
    return groups.agg(["mean", "std", "count"]).rename(columns={"count": "seeds"})


def run(config: RunConfig, device: str = "cpu") -> dict[str, Any]:
    """Train and test one model; return its record."""
    interactions = load_movielens(config.dataset, k_core=config.core)
    split = leave_last_out(interactions).to(device)
    torch.manual_seed(config.seed)
    model = build(config.backbone, config.method, split.n_items, **dict(config.ppg)).to(device)
    name = "-".join(str(part) for part in (config.backbone, config.method, config.seed))
    checkpoint = cache_dir() / "runs" / f"{name}-{abs(hash_of(config)):016x}.safetensors"
    result = train(model, split, config.train, seed=config.seed, checkpoint=checkpoint, what=name)
    session = split.test[:1]
    shapes = model.backbone.shapes
    record = {
        "dataset": split.label,
        "backbone": config.backbone,
        "method": config.method,
        "seed": config.seed,
        "split": config.split,
        "core": config.core,
        "protocol": PROTOCOL,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "metrics": result.metrics,
        "curve": result.history,
        "params": count_parameters(model),
        "device_params": count_parameters(model.items)
        + count_parameters(model.backbone)
        + payload_bytes(shapes, 1),
        "flops": count_flops(model, session.history, session.target.unsqueeze(1)),
        "payload_bytes": payload_bytes(shapes) if config.method.startswith("duet") else 0,
        "train_seconds": round(result.seconds, 1),
        **provenance(device),
        "config": json.loads(config.key),
    }
    checkpoint.unlink(missing_ok=True)
    return record


def hash_of(config: RunConfig) -> int:
    """A number for file names, the same in every process, of the run and of the code."""
    return int(hashlib.sha256((config.key + code_hash()).encode()).hexdigest()[:16], 16)


def provenance(device: str) -> dict[str, Any]:
    """Where and when a record was made: commit, date, machine, PyTorch."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit or "unknown",
        "code": code_hash()[:12],
        "date": datetime.now(UTC).date().isoformat(),
        "device": torch.cuda.get_device_name()
        if device == "cuda"
        else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add one line, whole or not at all, also when several processes write at once."""
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(record).encode() + b"\n")  # one write, then to the disk
        file.flush()
        os.fsync(file.fileno())


def done_keys(path: Path) -> set[str]:
    """Keys of the runs that have a record."""
    if not path.exists():
        return set()
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    return {json.dumps(json.loads(line)["config"], sort_keys=True) for line in lines}


def grid(dataset: str = "ml-100k", seeds: Sequence[int] = (0, 1, 2)) -> list[RunConfig]:
    """The runs that chapters 4 and 5 show, the most telling first."""
    runs = []
    for seed in seeds:
        for backbone in ("sasrec", "din", "gru4rec"):
            for method in ("base", "duet_no_swa", "duet"):
                runs.append(RunConfig(dataset, backbone, method, seed))
    for n in (2, 3):
        for seed in seeds:
            runs.append(RunConfig(dataset, "sasrec", "duet", seed, (("n_generators", n),)))
    alternating = TrainConfig(scheme="alternating")
    for seed in seeds:
        runs.append(RunConfig(dataset, "sasrec", "duet_no_swa", seed, (("form", "dense"),)))
        runs.append(RunConfig(dataset, "sasrec", "duet_no_swa", seed, train=alternating))
        runs.append(RunConfig(dataset, "sasrec", "duet_as_released", seed))
        runs.append(RunConfig(dataset, "sasrec", "hypernetwork", seed))
    return runs


def claim(path: Path) -> Any:
    """An open, locked file that marks a run as being worked on, or None if somebody has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def main() -> None:
    """Run what is missing from the grid."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)  # several processes of one thread each are faster than threads
    path = results_dir() / f"{args.dataset}.jsonl"
    runs = grid(args.dataset, range(args.seeds))
    for number, config in enumerate(runs, 1):
        lock = claim(cache_dir() / "runs" / f"{hash_of(config):016x}.lock")
        if lock is None:
            continue
        with lock:
            if config.key in done_keys(path):
                continue
            started = time.perf_counter()
            record = run(config, args.device)
            append_record(path, record)
            print(
                f"{number}/{len(runs)} {config.backbone} {config.method} {dict(config.ppg)} "
                f"seed {config.seed}: AUC {record['metrics']['auc']:.4f}, "
                f"epoch {record['best_epoch']}, {time.perf_counter() - started:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
