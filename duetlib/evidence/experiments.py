"""Runs and their records: one run, one JSON object on one line.

`python -m duetlib.evidence.experiments` runs what is still missing from the grid and appends a
record as soon as a run ends; killed, it goes on at the next start. Tables and figures are made from
records alone.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from data_prep import Interactions, load_movielens
from data_prep.arguments import of_type, one_of, refuse
from data_prep.command import run_command
from duetlib import cache, training
from duetlib.cache import cache_dir
from duetlib.controls import constant, shuffled, stale
from duetlib.evidence import vision_experiments
from duetlib.evidence.records import (
    PROTOCOLS,
    STARTS_FROM,
    BaseRun,
    append_record,
    claim,
    done_keys,
    key_of,
    provenance,
    results_dir,
    text_of_shares,
    whole_records,
)
from duetlib.evidence.vision_experiments import VisionRun
from duetlib.finetuning import finetune_all, finetune_dynamic, own_layers, own_rows
from duetlib.latency import n_generated, payload_bytes
from duetlib.metrics import auc, count_flops, count_parameters
from duetlib.sessions import Split, leave_last_out
from duetlib.training import Evaluation, TrainConfig, evaluate, sampled_candidates, score, trained
from duetlib.umn import UniversalMetaNetwork
from duetlib.vision import training as vision_training

# Controls with a neck or a head of their own, which a device has to hold.
WHOLE_ON_DEVICE = ("neck_as_input", "neck_as_input_small", "wide_head")

VIDEOS = ("faces", "ckplus")
DATASETS = ("ml-100k", "ml-1m", *VIDEOS)
BACKBONES_OF_TABLE_1 = ("sasrec", "din", "gru4rec")

# What `finetune_dynamic` tries; validation chooses.
OWN_CLICKS = 30
RATES, STEPS = (1e-3, 3e-3, 1e-2), (1, 3, 10, 30)


@dataclass(frozen=True)
class RunConfig(BaseRun):
    """One run on clicks.

    Attributes:
        core: k of the k-core. split: one of `PROTOCOLS`.
    """

    starts_from = STARTS_FROM

    core: int = 5
    split: str = "leave-one-out"
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def source(self) -> tuple[str, int]:
        """The data: two runs with the same source are on the same."""
        return self.dataset, self.core


Run = RunConfig | VisionRun


def cut(interactions: Interactions, how: str) -> Split:
    """Training, validation and test sessions, as a protocol wants them.

    Args:
        how: `leave-one-out`, or `last-10`, where the test sessions are the validation sessions too.

    Raises:
        ValueError: for another name.
    """
    if how == "leave-one-out":
        return leave_last_out(interactions)
    if how == "last-10":
        split = leave_last_out(interactions, n_test=10, n_valid=0)
        return replace(split, valid=split.test)
    raise ValueError(f"split {how!r} is not one of {', '.join(PROTOCOLS)}")


def run(config: Run, device: str = "cpu", data: Any = None) -> dict[str, Any]:
    """Train and test one model; return its record.

    Args:
        data: interactions or videos, where they are at hand; loaded by what `config` says
            otherwise.
    """
    data = data or load_data(config)
    if isinstance(config, VisionRun):
        return vision_experiments.run(config, device, data)
    return run_clicks(config, device, data)


def run_clicks(config: RunConfig, device: str, interactions: Interactions) -> dict[str, Any]:
    """The record of a run on clicks."""
    split = cut(interactions, config.split).to(device)
    trains = config.trains
    model, result = trained(
        config.backbone, trains.method, split, config.train, seed=config.seed, **dict(config.ppg)
    )
    started = time.perf_counter()
    evaluated, more = Evaluation(result.metrics, result.users), dict[str, Any]()
    if config.method != trains.method:
        evaluated, more = derived(config, model, split)
    session, on_cpu = split.test[:1], copy.deepcopy(model).cpu()
    shapes = model.backbone.shapes
    return {
        "dataset": split.label,
        "backbone": config.backbone,
        "method": config.method,
        "seed": config.seed,
        "split": config.split,
        "core": config.core,
        "protocol": PROTOCOLS[config.split].format(core=config.core),
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "metrics": evaluated.metrics,
        "curve": result.history,
        "params": count_parameters(model),
        "device_params": count_parameters(model)
        if config.method in WHOLE_ON_DEVICE
        else count_parameters(model.items) + count_parameters(model.backbone) + n_generated(shapes),
        "flops": count_flops(on_cpu, session.history.cpu(), session.target.cpu().unsqueeze(1)),
        "payload_bytes": sent_bytes(trains.method, shapes),
        "train_seconds": round(result.seconds, 1),
        **more,
        **({"own_seconds": round(time.perf_counter() - started, 1)} if config != trains else {}),
        **provenance(device, code_of(config.method)),
        "config": json.loads(config.key),
        "users": text_of_shares(evaluated.users),
    }


def code_of(method: str) -> str:
    """A hash of the code that decides what a run of this method yields."""
    own = ("finetuning",) if method.startswith("finetune") else ()
    return cache.code_hash((*training.CODE.split(), *own))


def sent_bytes(method: str, shapes: Sequence[tuple[int, int]]) -> int:
    """What the cloud sends to a device for one session, as fp32."""
    if method == "bias_only":
        return 4 * sum(n_out for _, n_out in shapes)
    return payload_bytes(shapes) if method.startswith("duet") else 0


def derived(
    config: RunConfig, model: UniversalMetaNetwork, split: Split
) -> tuple[Evaluation, dict[str, Any]]:
    """What a method makes of a model that another run has trained; and fields for its record."""
    if config.method == "finetune":
        return finetune_all(model, split, config.train, config.seed), {"tuned": {"passes": 1}}
    if config.method == "finetune_dynamic":
        return best_finetune_dynamic(model, split, config)
    layers_of = {"shuffled": shuffled, "constant": constant, "stale": stale}[config.method]
    return evaluate(model, split, layers_of(model, split)), {}


def best_finetune_dynamic(
    model: UniversalMetaNetwork, split: Split, config: RunConfig
) -> tuple[Evaluation, dict[str, Any]]:
    """The rate and number of steps that validation prefers, then used for the test.

    For the validation clicks a device trains on what came before them; for the test clicks on the
    validation clicks too.
    """
    ids, tried = sampled_candidates(split, "valid"), list[dict[str, Any]]()
    rows = own_rows(split, OWN_CLICKS, config.train.negatives, config.seed, until="valid")
    for rate in RATES:
        for steps, layers in zip(STEPS, finetune_dynamic(model, rows, rate, STEPS), strict=True):
            valid = auc(score(model, split.valid, ids, own_layers(layers)))
            tried.append({"rate": rate, "steps": steps, "valid_auc": valid})
    best = max(tried, key=lambda setting: setting["valid_auc"])
    rows = own_rows(split, OWN_CLICKS, config.train.negatives, config.seed, until="test")
    (layers,) = finetune_dynamic(model, rows, best["rate"], [best["steps"]])
    return evaluate(model, split, own_layers(layers)), {"tuned": best, "tried": tried}


def hash_of(config: Run) -> int:
    """A number for file names, the same in every process, of the run and of the code."""
    room = vision_training if isinstance(config, VisionRun) else training
    code = room.code_hash()
    return int(hashlib.sha256((config.key + code).encode()).hexdigest()[:16], 16)


def grid(dataset: str = "ml-100k", seeds: Sequence[int] | None = None) -> list[Any]:
    """All runs on a data set, the most telling first.

    Args:
        seeds: of the recommenders; five for ml-100k and three for ml-1m by default.

    Raises:
        ValueError: for another data set than the four that there are records of.
    """
    one_of(DATASETS, dataset=dataset)
    if dataset in VIDEOS:
        return vision_experiments.grid(dataset)
    if dataset == "ml-1m":
        return grid_1m(seeds or range(3))
    seeds = seeds or range(5)
    return [run for few in (seeds[:3], seeds[3:]) for run in grid_100k(dataset, few)]


def grid_100k(dataset: str, seeds: Sequence[int]) -> list[RunConfig]:
    """Table 1 with all controls under our protocol, the neighbours of DUET, and `paper-like`."""
    ours, beside, paper_like = [], [], []
    for seed in seeds:
        for backbone in BACKBONES_OF_TABLE_1:
            one = RunConfig(dataset, backbone, "base", seed)
            for method in ("base", "finetune", "finetune_dynamic"):
                ours.append(replace(one, method=method))
            for method in ("duet_no_swa", "shuffled", "constant", "stale", "duet"):
                ours.append(replace(one, method=method))
            as_paper = replace(one, core=30, split="last-10")
            for method in ("base", "finetune", "duet_no_swa", "duet"):
                paper_like.append(replace(as_paper, method=method))
    for backbone in BACKBONES_OF_TABLE_1:
        for seed in seeds:
            one = RunConfig(dataset, backbone, "duet", seed)
            for method in ("bias_only", "neck_as_input", "hypernetwork", "duet_as_released"):
                beside.append(replace(one, method=method))
            for method in ("neck_as_input_small", "wide_head"):
                beside.append(replace(one, method=method))
            if backbone == "sasrec":
                single = replace(one, method="duet_no_swa")
                beside.append(replace(single, train=TrainConfig(scheme="alternating")))
                for setting in (("neck", "mean"), ("neck", "state"), ("form", "dense")):
                    beside.append(replace(single, ppg=(setting,)))
            for n in (2, 3):
                beside.append(replace(one, ppg=(("n_generators", n),)))
    return ours + beside + paper_like


def grid_1m(seeds: Sequence[int]) -> list[RunConfig]:
    """Table 1's other half: at most 8 epochs, but for the bases.

    A base that has not converged makes every method look good. Stopping the others early can
    hardly help them against it; between DUET and its controls it may go either way.
    """
    runs = []
    until_it_stops, short = (TrainConfig(max_epochs=most, patience=2) for most in (40, 8))
    for seed in seeds:
        for backbone in BACKBONES_OF_TABLE_1:
            base = RunConfig("ml-1m", backbone, "base", seed, train=until_it_stops)
            for method in ("base", "finetune", "finetune_dynamic"):
                runs.append(replace(base, method=method))
            methods = ["duet_no_swa", "duet", "bias_only", "hypernetwork"]
            if backbone == "din":  # it ignores order, so its gain may be one of reading alone
                methods.append("neck_as_input")
            for method in methods:
                runs.append(replace(base, method=method, train=short))
    return runs


def missing(records: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """For each cell of a data set's grid, how many of its seeds have a record.

    Returns:
        Columns `split`, `backbone`, `method`, `settings`, `wanted`, `there`.
    """
    done = set() if records.empty else {key_of(config) for config in records["config"]}
    rows = [
        {
            "split": run.split,
            "backbone": run.backbone,
            "method": run.method,
            "settings": _settings(run),
            "wanted": 1,
            "there": int(run.key in done),
        }
        for run in grid(dataset)
    ]
    by = ["split", "backbone", "method", "settings"]
    return pd.DataFrame(rows).groupby(by, sort=False, as_index=False).sum()


def _settings(run: Run) -> str:
    """What sets a cell apart from others of its method."""
    decay = [("weight_decay", run.train.weight_decay)] if run.train.weight_decay else []
    named = [f"{name}={value}" for name, value in (*run.ppg, *getattr(run, "data", ()), *decay)]
    alternating = getattr(run.train, "scheme", "joint") == "alternating"
    return ", ".join(named + ["alternating"] * alternating)


def time_left(todo: Sequence[Run], path: Path) -> float:
    """Hours that the missing runs will take, by what like ones took; NaN with nothing to go by."""
    took: dict[tuple[str, str], list[float]] = {}
    for record in whole_records(path):
        seconds = record.get("own_seconds", record["train_seconds"])
        took.setdefault((record["backbone"], record["method"]), []).append(seconds)
    every = [seconds for like in took.values() for seconds in like]
    if not every:
        return math.nan
    likes = (took.get((run.backbone, run.method), every) for run in todo)
    return sum(sum(like) / len(like) for like in likes) / 3600


def load_data(config: Run, allow_unverified: bool = False) -> Any:
    """What a run is on: interactions, or videos."""
    if isinstance(config, VisionRun):
        return vision_experiments.load(*config.source)
    dataset, core = config.source
    return load_movielens(dataset, k_core=core, allow_unverified=allow_unverified)


def share_of_grid(text: str) -> tuple[int, int]:
    """Which trainings of how many parts: `i/n` as i and n; a ValueError for anything else."""
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise refuse("shard", text, "i/n, two whole numbers, with i from 0 to n - 1")
    return int(part), int(parts)


def device_here(text: str) -> str:
    """The name of a device that a tensor can be put on; a ValueError for any other."""
    try:
        torch.empty(1, device=text)
    except (RuntimeError, AssertionError) as error:  # as PyTorch says that it has no CUDA
        reason = str(error).splitlines()[0]
        raise refuse("device", text, f"cpu, or cuda where there is one ({reason})") from None
    return text


def main() -> None:
    """Run what is missing from a grid; a run that another process is at is left to it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--dataset", default="ml-100k", choices=DATASETS)
    there = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=of_type(device_here), default=there)
    of_grid = "i/n: every n-th training, from the i-th"
    parser.add_argument("--shard", type=of_type(share_of_grid), default="0/1", help=of_grid)
    parser.add_argument("--allow-unverified", action="store_true", help="take another SHA-256")
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)  # several processes of one thread each are faster than threads
    torch.backends.cudnn.allow_tf32 = False  # on a GPU, GRUs and convolutions in full float32
    path = results_dir() / f"{args.dataset}.jsonl"
    shard, shards = args.shard
    runs = grid(args.dataset)
    trainings = list(dict.fromkeys(run.trains for run in runs))
    mine = set(trainings[shard::shards])
    runs = [run for run in runs if run.trains in mine]
    data: dict[Hashable, Any] = {}
    for number, config in enumerate(runs, 1):
        # Runs that start from the same training are one process's at a time.
        lock = claim(cache_dir() / "runs" / f"{hash_of(config.trains):016x}.lock")
        if lock is None:
            continue
        with lock:
            done = done_keys(path)
            if config.key in done:
                continue
            if config.source not in data:
                data = {config.source: load_data(config, args.allow_unverified)}
            started = time.perf_counter()
            record = run(config, args.device, data[config.source])
            append_record(path, record)
            left = [other for other in runs if other.key not in done and other != config]
            print(
                f"{number}/{len(runs)} {config.backbone} {config.method} {dict(config.ppg)} "
                f"seed {config.seed} {config.split}: {headline(record)}, "
                f"epoch {record['best_epoch']}, {time.perf_counter() - started:.0f} s; "
                f"{len(left)} runs, {time_left(left, path):.1f} hours of one process left",
                flush=True,
            )


def headline(record: dict[str, Any]) -> str:
    """The number that a record is read for."""
    found = record["metrics"]
    if "auc" in found:
        return f"AUC {found['auc']:.4f}"
    return f"accuracy {found['accuracy']:.4f}, balanced {found['balanced_accuracy']:.4f}"


if __name__ == "__main__":
    run_command(main)
