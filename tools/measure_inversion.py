"""How many recent clicks an uploaded embedding gives away.

    python tools/measure_inversion.py        some minutes, into results/inversion.jsonl

Two models, one trained as in chapter 4 and one until its validation AUC stops rising, and three
draws of the users who are attacked: one JSON object for each model and draw.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import machine, records_at, write_records
from torch import Tensor
from torch.nn import functional as F

from data_prep import load_movielens
from data_prep.command import run_command
from duetlib.beyond import inversion
from duetlib.evidence.records import provenance
from duetlib.evidence.statistics import resampled_means
from duetlib.serving.folded import encode
from duetlib.sessions import Split, leave_last_out
from duetlib.training import TrainConfig, code_hash, trained
from duetlib.umn import UniversalMetaNetwork

KS = (1, 3, 5, 10)
CONFIGS = {"two epochs": TrainConfig(max_epochs=2), "until it stops": TrainConfig()}
PROTOCOL = (
    "5-core, ties in file order, histories of 10 to 30 clicks from all of a user's clicks; "
    "the model was trained on all users; the attacker has the neck and the histories of half "
    "of the users to learn from and of a quarter to choose the epoch by, and is tested on the"
    " last quarter; recall@k is the share of the last k clicks among k guesses, a mean over "
    "each user's histories, then over users; 95 % intervals from users drawn again; "
    "popularity is counted on the first half"
)


def summary(found: Tensor, user: Tensor) -> dict[str, Any]:
    """Mean over users, with its 95 % interval."""
    values = inversion.by_user(found, user).numpy()  # [U]
    low, high = np.quantile(resampled_means(values[None]), [0.025, 0.975])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


@torch.inference_mode()
def untrained(model: UniversalMetaNetwork, embedding: Tensor, length: int) -> dict[str, Tensor]:
    """Scores `[N, V + 1]` of two attacks that learn nothing: they look for what lies nearest.

    `nearest_item`: the item whose own embedding points the same way. `nearest_click`: the item
    that the neck, given it as the only click, puts nearest.
    """
    items = model.items.weight
    alone = torch.zeros(len(items), length, dtype=torch.int64)  # [V + 1, L]
    alone[1:, 0] = torch.arange(1, len(items))
    alone[0, 0] = 1  # padding is never guessed, but the neck needs a click
    return {
        "nearest_item": F.normalize(embedding, dim=1) @ F.normalize(items, dim=1).T,
        "nearest_click": -torch.cdist(embedding, encode(model, alone)),
    }


def attacked(split: Split, training: str, seed: int) -> dict[str, Any]:
    """One record: a model's embeddings attacked on one draw of users."""
    started = time.perf_counter()
    model, result = trained("sasrec", "duet_no_swa", split, CONFIGS[training])
    model.eval()
    every = inversion.pairs(model, split.train.then(split.valid).then(split.test), max(KS))
    users = inversion.split_users(every.user, seed)
    known, choose, target = (every.of(some) for some in users)
    others = untrained(model, target.embedding, split.train.history.shape[1])
    others["popularity"] = inversion.popularity(known, split.n_items)
    record: dict[str, Any] = {name: {} for name in ("recall", "chance", *others, "attack_epochs")}
    for k in KS:
        attack, epoch = inversion.learn(known, choose, split.n_items, k, seed=seed)
        with torch.inference_mode():
            scores = {"recall": attack(target.embedding), **others}
        record["attack_epochs"][k], record["chance"][k] = epoch, k / split.n_items
        for name, of in scores.items():
            recent = target.recent[:, :k]
            record[name][k] = summary(inversion.recall(of, recent), target.user)
            if k == 1:
                in_10 = inversion.recall(of, recent, guesses=10)
                record[name]["last in 10"] = summary(in_10, target.user)
    record["chance"]["last in 10"] = 10 / split.n_items
    return {
        **{"dataset": split.label, "backbone": "sasrec", "method": "duet_no_swa"},
        **{"training": training, "epochs": len(result.history), "best_epoch": result.best_epoch},
        **{"auc": result.metrics["auc"], "seed": seed, "n_items": split.n_items},
        **{"numbers": every.embedding.shape[1], "users": [len(some) for some in users]},
        **{"pairs": [len(some.user) for some in (known, choose, target)]},
        **record,
        **{"seconds": round(time.perf_counter() - started, 1), "protocol": PROTOCOL},
    }


def main(path: Path) -> None:
    """Attack all, print, write records."""
    torch.set_num_threads(1)
    split = leave_last_out(load_movielens("ml-100k"))
    where = {"machine": machine(), **provenance("cpu", code_hash())}
    rows = []
    for training in CONFIGS:
        for seed in range(3):
            rows.append({**attacked(split, training, seed), **where})
            for name in ("recall", "nearest_click", "nearest_item", "popularity"):
                means = {k: round(of["mean"], 4) for k, of in rows[-1][name].items()}
                print(training, seed, name, means, flush=True)
    write_records(path, rows)


if __name__ == "__main__":
    run_command(lambda: main(records_at("inversion.jsonl", main.__doc__)))
