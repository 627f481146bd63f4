"""How fast our training is beside RecBole 1.2.1's, on the same work: an optional benchmark.

python tools/bench_recbole.py [--venv FOLDER] [--out FILE] [--rounds N]

RecBole needs an older NumPy than ours may be, so it gets a virtual environment of its own, made
the first time (about 2 GB, some minutes). Both libraries then run in there, in one process with one
thread, and take turns. The data are random clicks: as many users, items and clicks as
MovieLens-100k has, histories of 30, and 205 sequences a batch. Models are as alike as settings can
make them: width 32, two attention blocks with one head, one recurrent layer, no dropout. A step of
RecBole is its trainer's own, its data loader and sampler included, as ours includes ours.

Importing RecBole's sequential models switches PyTorch's anomaly detection on, for the whole process
(one of its modules, `sine.py`, does so). That costs every step a good deal. So RecBole is timed
both ways, as it comes and with the detection off, and ours always with it off.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_prep.command import run_command

ROOT = Path(__file__).resolve().parent.parent
# Of numpy and pandas RecBole 1.2.1 wants versions of its time.
NEEDS = ("recbole==1.2.1", "numpy<2", "pandas<3", "safetensors", "pooch")
BATCH = 205  # sequences, as in bench.py's smaller batch
USERS, CLICKS, ITEMS, DIM, LENGTH = 943, 105, 1349, 32, 30
SAME = {
    "hidden_size": DIM,
    "embedding_size": DIM,
    "inner_size": DIM,
    "n_layers": 2,
    "n_heads": 1,
    "num_layers": 1,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "dropout_prob": 0.0,
}
BPR, CE = {"loss_type": "BPR"}, {"loss_type": "CE"}
# What a sequence costs in each way of training, in RecBole: rows are lines of its batch, targets
# are scores that go into the loss. BPR with n negatives repeats the history n times.
WAYS: dict[str, tuple[str, dict[str, Any], int, int, int]] = {
    # name: model family, settings, negatives, rows and targets of a sequence
    "4 negatives, one pair a row (BPR)": ("sequence", BPR, 4, 4, 8),
    "1 negative (BPR)": ("sequence", BPR, 1, 1, 2),
    "all items (CE, its default)": ("sequence", CE, 0, 1, ITEMS),
    "4 negatives, attention 8": ("candidate", {"mlp_hidden_size": [8]}, 4, 5, 5),
    "4 negatives, attention 32-32": ("candidate", {"mlp_hidden_size": [32, 32]}, 4, 5, 5),
}
LIBRARIES = {"RecBole": False, "RecBole as it comes": True}  # whether anomalies are looked for
MODELS = {"sasrec": ("SASRec", "sequence"), "gru4rec": ("GRU4Rec", "sequence")}
MODELS |= {"din": ("DIN", "candidate")}


def environment(folder: Path) -> Path:
    """The Python of a virtual environment that has RecBole; made if it is not there.

    Raises:
        SystemExit: if it cannot be installed, with what pip said.
    """
    python, done = folder / "bin" / "python", folder / ".recbole"
    if not done.exists():
        print(f"Installing RecBole in {folder} (once, some minutes) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        torch = f"torch=={version('torch').split('+')[0]}"
        command = [str(python), "-m", "pip", "install", "--quiet", *NEEDS, torch]
        asked = subprocess.run(command, capture_output=True, text=True)
        if asked.returncode:
            raise SystemExit(f"RecBole could not be installed in {folder}:\n{asked.stderr}")
        done.touch()
    return python


def write_clicks(folder: Path) -> None:
    """Random clicks in RecBole's format, as `random/random.inter`."""
    import numpy as np

    item = np.random.default_rng(0).integers(1, ITEMS + 1, (USERS, CLICKS))
    lines = [
        f"{u}\t{i}\t{t}" for u, row in enumerate(item, start=1) for t, i in enumerate(row.tolist())
    ]
    (folder / "random").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / "random" / "random.inter").write_text("\n".join([header, *lines]) + "\n")


def recbole_step(model: str, settings: dict[str, Any], negatives: int, rows: int) -> Callable:
    """One training step of RecBole, with its own trainer and its own data loader.

    Args:
        model: RecBole's name. settings: of the model. negatives: for each target; 0 for none.
        rows: of a sequence, so that the batch holds `BATCH` sequences.
    """
    from recbole.config import Config  # type: ignore[import-not-found]
    from recbole.data import create_dataset, data_preparation  # type: ignore[import-not-found]
    from recbole.utils import get_model, get_trainer, init_seed  # type: ignore[import-not-found]

    sampled = {"distribution": "uniform", "sample_num": negatives} if negatives else None
    config = Config(
        model=model,
        dataset="random",
        config_dict={
            **SAME,
            **settings,
            "data_path": ".",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "MAX_ITEM_LIST_LENGTH": LENGTH,
            "train_batch_size": BATCH * rows,
            "train_neg_sample_args": sampled,
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni100"},
            "use_gpu": False,
            "show_progress": False,
            "state": "ERROR",
        },
    )
    init_seed(0, True)
    loader, _, _ = data_preparation(config, create_dataset(config))
    network = get_model(model)(config, loader._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, network)

    def batches() -> Iterator[Any]:
        while True:
            yield from loader

    stream = batches()
    return lambda: trainer._train_epoch([next(stream)], 0)


def detecting(step: Callable, anomalies: bool) -> Callable:
    """The step, with PyTorch's anomaly detection on or off."""
    from torch.autograd import set_detect_anomaly

    def work() -> None:
        with set_detect_anomaly(anomalies):
            step()

    return work


def measure(rounds: int) -> list[dict[str, Any]]:
    """Every model in RecBole's ways, ours without and with DUET; they take turns."""
    import bench

    split = bench.random_split(USERS * CLICKS, ITEMS)
    works: dict[tuple[str, str, str], Callable] = {}
    counts: dict[tuple[str, str, str], tuple[int, int]] = {}
    for backbone, (model, family) in MODELS.items():
        for name, (kind, settings, negatives, rows, targets) in WAYS.items():
            if kind == family:
                step = recbole_step(model, settings, negatives, rows)
                for library, detect in LIBRARIES.items():
                    key = (backbone, library, name)
                    works[key], counts[key] = detecting(step, detect), (rows, targets)
        for name, method in (("4 negatives, base", "base"), ("4 negatives, DUET", "duet")):
            key = (backbone, "ours", name)
            step = bench.Step(backbone, method, split, BATCH).whole
            works[key], counts[key] = detecting(step, False), (5, 5)
    times = bench.measure({"|".join(key): work for key, work in works.items()}, rounds)
    out = []
    for key, (rows, targets) in counts.items():
        backbone, library, way = key
        of_ours, seconds = times[f"{backbone}|ours|4 negatives, base"], times["|".join(key)]
        faster = statistics.median(s / o for s, o in zip(seconds, of_ours, strict=True))
        per_second = BATCH / statistics.median(seconds)
        out.append(
            {
                "backbone": backbone,
                "library": library,
                "way": way,
                "ms": 1e3 * statistics.median(seconds),
                "sequences_per_cpu_second": round(per_second),
                "rows_per_cpu_second": round(rows * per_second),
                "targets_per_cpu_second": round(targets * per_second),
                # how many times faster our base is, counted in each of the three
                "ours_by_sequences": faster,
                "ours_by_rows": faster * 5 / rows,
                "ours_by_targets": faster * 5 / targets,
            }
        )
    return out


def inside(out: Path, rounds: int) -> None:
    """What runs in RecBole's environment: measure, write records, print a table."""
    import bench
    import pandas as pd
    import torch

    from duetlib.evidence.records import provenance

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sys.argv[1:] = []  # RecBole reads the command line too
    with tempfile.TemporaryDirectory() as folder:  # RecBole writes its logs where it runs
        os.chdir(folder)
        write_clicks(Path(folder))
        rows = measure(rounds)
        os.chdir(ROOT)
    where = {
        "part": "beside RecBole",
        "B": BATCH,
        "load": round(os.getloadavg()[0], 2),
        "machine": bench.machine(),
        **provenance("cpu"),
        "numpy": version("numpy"),
    }
    bench.write_records(out, [{**row, **where} for row in rows])
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    print(f"\n{where['machine']} CPUs, torch {where['torch']}, one thread, load {where['load']}")
    print(f"{len(rows)} records in {out}")


def main() -> None:
    """Read the command line; go over to RecBole's environment if this one has no RecBole."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--venv", type=Path, default=cache / "duet-by-hand" / "recbole")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench_recbole.jsonl")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"argument --rounds: it is {options.rounds}, and must be 1 or more")
    if find_spec("recbole"):
        inside(options.out.resolve(), options.rounds)
        return
    python = environment(options.venv.expanduser().resolve())
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools")])
    command = [str(python), "-W", "ignore", __file__, "--out", str(options.out.resolve())]
    command += ["--rounds", str(options.rounds)]
    raise SystemExit(subprocess.run(command, env={**os.environ, "PYTHONPATH": path}).returncode)


if __name__ == "__main__":
    run_command(main)
