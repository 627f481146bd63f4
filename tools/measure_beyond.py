"""What smaller downloads and fewer requests cost in AUC, on the models of chapter 7.

    python tools/measure_beyond.py        into results/beyond.jsonl, five seeds, three backbones

Models that are not trained yet are trained first: then it takes some hours of one core. One JSON
object for each part, backbone and seed, written as it comes; what is there already is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bench import machine, records_at
from torch import Tensor

from data_prep.command import run_command
from duetlib import metrics
from duetlib.beyond import compression, refresh
from duetlib.beyond.refresh import by_click, held
from duetlib.dynamic import Layer
from duetlib.evidence.experiments import RunConfig, cut, grid, load_data
from duetlib.evidence.records import append_record, provenance, text_of_shares, whole_records
from duetlib.methods import build
from duetlib.serving.folded import encode
from duetlib.sessions import Split
from duetlib.training import progress, sampled_candidates, score, train, trained
from duetlib.umn import UniversalMetaNetwork

BITS = (8, 6, 5, 4, 3, 2)
AXES = (4, 8, 12, 16, 24, 32)
CLICKS, OLDEST = 10, 9
LAST = 5  # clicks at which ages are compared, so that each has layers of 0 to 5 clicks ago
EACH = (1, 2, 3, 5, 10)
SHARES = (0.1, 0.3, 0.5, 0.7)
MOVES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # in usual moves, see `refresh.usual_move`
SAMPLE = 4000  # training histories, for axes and usual moves
PROTOCOLS = {
    "bytes": "5-core, last click tested, the one before it chooses the epoch (chapter 7's ours)",
    "ages": "30-core, last ten clicks of a user, which chose the epoch too (paper-like)",
    "asks": "30-core, last ten clicks of a user, which chose the epoch too (paper-like)",
}
Row = dict[str, Any]


def measured(scores: Tensor, user: Tensor) -> Row:
    """AUC of `[N, C]` scores, and what each user adds to it (`records.text_of_shares`)."""
    beats, beaten = metrics.auc_shares(scores)
    sessions = {"auc": beats, "auc_of_wrong": beaten}
    order, n_users = user.argsort(stable=True), len(user.unique())
    users = {k: v.double()[order].view(n_users, -1).mean(1).tolist() for k, v in sessions.items()}
    return {"auc": metrics.auc(scores), "users": text_of_shares(users)}


def config_of(backbone: str, method: str, seed: int, split: str) -> RunConfig:
    """The run of chapter 7's grid whose model is taken."""
    found = [
        run
        for run in grid("ml-100k")
        if (run.backbone, run.method, run.seed, run.split) == (backbone, method, seed, split)
        and not run.ppg
        and run.train.scheme == "joint"
    ]
    return found[0]


def model_of(backbone: str, method: str, seed: int, split: Split, how: str) -> UniversalMetaNetwork:
    """A model of the grid, trained unless it is there."""
    config = config_of(backbone, method, seed, how)
    return trained(backbone, method, split, config.train, seed=seed)[0].eval()


def late_model(backbone: str, seed: int, split: Split) -> UniversalMetaNetwork:
    """DUET without SWA, trained with layers that are up to nine clicks old."""
    config = config_of(backbone, "duet_no_swa", seed, "last-10")
    torch.manual_seed(seed)
    model = build(backbone, "duet_no_swa", split.n_items)
    model.source = refresh.Late(model.source, OLDEST)
    train(model, split, config.train, seed=seed, what=f"{backbone}, late layers")
    model.source = model.source.source
    return model.eval()


def some(split: Split) -> Tensor:
    """`[N]` places of training sessions, evenly drawn from all."""
    return torch.linspace(0, len(split.train) - 1, SAMPLE).long()


@torch.no_grad()
def bytes_part(backbone: str, seed: int) -> Iterator[Row]:
    """Downloads made smaller, each with its bytes."""
    config = config_of(backbone, "duet_no_swa", seed, "leave-one-out")
    split = cut(load_data(config), config.split)
    candidates = sampled_candidates(split, "test")
    base = model_of(backbone, "base", seed, split, config.split)
    model = model_of(backbone, "duet_no_swa", seed, split, config.split)
    shapes, test = model.backbone.shapes, split.test
    known = compression.joined(model.layers(split.train.history[some(split)]))  # [N, P]
    X, mean = compression.joined(model.layers(test.history)), known.mean(0)

    def of(numbers: Tensor) -> Row:
        every = numbers.new_empty(split.n_users + 1, numbers.shape[1])
        every[test.user] = numbers
        layers_of = lambda part: compression.divided(every[part.user], shapes)  # noqa: E731
        return measured(score(model, test, candidates, layers_of), test.user)

    yield {"kind": "base", **measured(score(base, test, candidates), test.user)}
    yield {"kind": "whole", "bytes": 4 * X.shape[1], **of(X)}
    for bits in BITS:
        for kind, start in (("rounded", torch.zeros_like(mean)), ("difference", mean)):
            numbers = compression.unrounded(compression.rounded(X - start, shapes, bits), shapes)
            n_bytes = compression.rounded_bytes(shapes, bits)
            yield {"kind": kind, "bits": bits, "bytes": n_bytes, **of(start + numbers)}
    every = compression.axes_of(known, max(AXES))
    for k in AXES:
        axes = every.first(k)
        numbers, share = axes.numbers(axes.coordinates(X)), float(axes.share.sum())
        yield {"kind": "axes", "k": k, "bytes": k, "share": share, **of(numbers)}


@torch.no_grad()
def in_time(backbone: str, seed: int) -> Iterator[tuple[str, Row]]:
    """Layers kept for some clicks (part `ages`), and rules for when to ask (part `asks`)."""
    config = config_of(backbone, "duet_no_swa", seed, "last-10")
    split = cut(load_data(config), config.split)
    test = split.test
    history, ids = (by_click(test, X) for X in (test.history, sampled_candidates(split, "test")))
    user = by_click(test, test.user)  # [T, U]
    n_clicks, n_users = user.shape
    base = model_of(backbone, "base", seed, split, config.split)
    of_base = torch.stack([base(h, c) for h, c in zip(history, ids, strict=True)])

    def row(scores: Tensor) -> Row:
        return measured(scores.flatten(0, 1), user[: len(scores)].flatten())

    yield "ages", {"kind": "base", "whose": "own", **row(of_base[-LAST:])}
    yield "asks", {"kind": "base", **row(of_base)}
    with torch.enable_grad():
        late = late_model(backbone, seed, split)
    usual = model_of(backbone, "duet_no_swa", seed, split, config.split)
    for kind, model in (("usual", usual), ("late", late)):
        layers = [model.layers(h) for h in history]
        scores = refresh.scores_of_ages(model, history, ids, layers)
        clicks = torch.arange(n_clicks - LAST, n_clicks)
        for age in range(n_clicks - LAST + 1):
            said = {"kind": kind, "whose": "own", "age": age}
            yield "ages", {**said, **row(scores[clicks, clicks - age])}
        for whose, wrong in not_own(layers, model).items():
            of_wrong = refresh.scores_of_ages(model, history, ids, wrong)[clicks, clicks]
            yield "ages", {"kind": kind, "whose": whose, "age": 0, **row(of_wrong)}
        known = torch.cat([encode(model, h) for h in split.train.history.split(4096)])
        unit = refresh.usual_move(known, split.train.user)
        embedding = refresh.embeddings(model, history)
        rules: list[tuple[str, float, Tensor]]
        rules = [("every", n, refresh.every(n, n_clicks, n_users)) for n in EACH]
        rules += [("at random", p, refresh.at_random(p, n_clicks, n_users, seed)) for p in SHARES]
        rules += [("when moved", m, refresh.when_moved(embedding, m * unit)) for m in MOVES]
        coarse = refresh.scores_of_ages(model, history, ids, [rounded(of, model) for of in layers])
        for bits, of_ages, used in ((32, scores, rules), (4, coarse, rules[: len(EACH)])):
            for rule, setting, asks in used:
                said = {"rule": rule, "setting": setting, "asks": float(asks.float().mean())}
                yield "asks", {"kind": kind, "bits": bits, **said, **row(held(of_ages, asks))}


def not_own(layers: list[list[Layer]], model: UniversalMetaNetwork) -> dict[str, list[list[Layer]]]:
    """At each click another user's fresh layers, and the mean of everybody's, for all users."""
    shapes = model.backbone.shapes
    own = [compression.joined(of) for of in layers]  # [U, P] at each click
    return {
        "another's": [compression.divided(X.roll(1, 0), shapes) for X in own],
        "everybody's": [compression.divided(X.mean(0).expand_as(X), shapes) for X in own],
    }


def rounded(layers: list[Layer], model: UniversalMetaNetwork) -> list[Layer]:
    """The layers as a download of four bits a number brings them."""
    shapes = model.backbone.shapes
    numbers = compression.unrounded(
        compression.rounded(compression.joined(layers), shapes, 4), shapes
    )
    return compression.divided(numbers, shapes)


def main(path: Path, seeds: range = range(5)) -> None:
    """Measure what is not measured yet."""
    torch.set_num_threads(1)
    every = [(seed, backbone) for seed in seeds for backbone in ("sasrec", "din", "gru4rec")]
    with progress(2 * len(every), "beyond the paper") as bar:
        for seed, backbone in every:
            there = {(r["part"], r["backbone"], r["seed"]) for r in whole_records(path)}
            for parts in (("bytes",), ("ages", "asks")):
                if not all((part, backbone, seed) in there for part in parts):
                    record(path, parts, backbone, seed)
                bar.update()


def record(path: Path, parts: tuple[str, ...], backbone: str, seed: int) -> None:
    """Measure one backbone and seed, and add a record for each part."""
    started = time.perf_counter()
    rows: dict[str, list[Row]] = {part: [] for part in parts}
    if parts == ("bytes",):
        rows["bytes"] = list(bytes_part(backbone, seed))
    else:
        for part, row in in_time(backbone, seed):
            rows[part].append(row)
    for part in parts:
        about = {"part": part, "dataset": "ml-100k", "backbone": backbone, "seed": seed}
        about |= {"protocol": PROTOCOLS[part], "seconds": round(time.perf_counter() - started, 1)}
        where = {"machine": machine(), **provenance("cpu")}
        append_record(path, {**about, **where, "rows": rows[part]})


if __name__ == "__main__":
    run_command(lambda: main(records_at("beyond.jsonl", main.__doc__)))
