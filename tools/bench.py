"""`make bench`: how fast the library's speed-critical parts are, on this machine, now.

One process, one thread, CPU time. Variants that are compared take turns within every round, so that
a machine that grows slower meanwhile does so for all of them. Times are medians over rounds, and
ratios are medians of each round's ratio. How cost grows is measured in a process of its own for
each size, since a process's peak of memory never falls. All that was measured goes to
`results/bench.jsonl`, a JSON object a line, in place of what an earlier run had written there. A
busy machine is no reason to refuse: its load stands in every record.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from data_prep.arguments import of_type, refuse
from data_prep.command import run_command
from data_prep.sources import write_aside
from duetlib.backbones import click_mask
from duetlib.dynamic import Layer, Linear, apply_layers, linear_batched, linear_grouped, linear_loop
from duetlib.evidence.records import provenance, results_dir
from duetlib.methods import build
from duetlib.peak_memory import peak_mb
from duetlib.ppg import PPG, split_bias
from duetlib.sessions import Seen, Sessions, Split, labels_like
from duetlib.training import TrainConfig, Trainer, code_hash
from duetlib.umn import UniversalMetaNetwork

Work = Callable[[], object]
Clock = Callable[[Work, int], float]
Row = dict[str, Any]

SIZES = (1, 16, 64, 512, 4096)  # B
DIM, LATENT, LENGTH = 32, 64, 30  # D, Z, L
N_USERS, N_ITEMS = 943, 1349  # of MovieLens-100k after its 5-core; the clicks are random
DATA = 10_000  # sessions to train on
SESSIONS = (205, 512)  # with 5 candidates each: 1,025 and 2,560 rows a batch
LINEAR: dict[str, Linear] = {
    "loop": linear_loop,
    "batched": linear_batched,
    "grouped": linear_grouped,
}
BACKBONES = ("sasrec", "din", "gru4rec")
TRAINED: dict[str, tuple[str, dict[str, Any]]] = {  # method, and settings of the PPG
    "base": ("base", {}),
    "DUET, N_p = 1": ("duet_no_swa", {}),
    "DUET, N_p = 5": ("duet", {}),
    "DUET, N_p = 1, neck mean": ("duet_no_swa", {"neck": "mean"}),
    "DUET, N_p = 1, neck state": ("duet_no_swa", {"neck": "state"}),
}
GROWTH: dict[str, tuple[int, ...]] = {
    "sessions in a batch": (128, 512, 2048),
    "sessions in the data": (10_000, 30_000, 100_000),
    "items": (1_000, 10_000, 100_000),
}


def cpu_seconds(work: Work, calls: int) -> float:
    """CPU seconds of one call, from so many in a row."""
    started = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - started) / calls


def measure(
    variants: dict[str, Work], rounds: int, least: float = 0.002, clock: Clock = cpu_seconds
) -> dict[str, list[float]]:
    """Seconds of each variant in each round; they take turns.

    Args:
        variants: what to time, by name. rounds: how often.
        least: short pieces of work are called several times in a row, to fill so many seconds.
        clock: seconds of one call, from so many in a row.
    """
    calls = {}
    for name, work in variants.items():
        work()  # the first call sets things up
        calls[name] = 1 + int(least / max(clock(work, 1), 1e-7))
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, work in variants.items():
            times[name].append(clock(work, calls[name]))
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """How many times faster `fast` is: the median over rounds."""
    return statistics.median(s / f for s, f in zip(times[slow], times[fast], strict=True))


def rows_of(part: str, size: int, times: dict[str, list[float]], than: str) -> list[Row]:
    """A row for each variant, with how many times faster than `than` it is."""
    return [
        {
            "part": part,
            "B": size,
            "variant": name,
            "ms": 1e3 * statistics.median(values),
            "faster": ratio(times, than, name),
        }
        for name, values in times.items()
    ]


def forward_only(compute: Callable[[], Tensor]) -> Work:
    """The computation without gradients."""

    def work() -> None:
        with torch.no_grad():
            compute()

    return work


def with_backward(compute: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Work:
    """The computation and the gradients of all that went into it."""
    return lambda: torch.autograd.grad(compute().sum(), leaves)


def both(computations: dict[str, Callable[[], Tensor]], leaves: Sequence[Tensor]) -> list[Any]:
    """`(name, works)` of each computation forward, and forward and backward."""
    return [
        ("forward", {n: forward_only(c) for n, c in computations.items()}),
        ("forward+backward", {n: with_backward(c, leaves) for n, c in computations.items()}),
    ]


def application(
    size: int, rounds: int, where: str = "cpu", clock: Clock = cpu_seconds
) -> list[Row]:
    """Applying one generated D×D layer for each of B devices, in the three ways of `dynamic`."""
    shapes = ((size, 1, DIM), (size, DIM, DIM), (size, DIM))
    leaves = [torch.randn(shape, device=where, requires_grad=True) for shape in shapes]

    def one(linear: Linear) -> Callable[[], Tensor]:
        return lambda: linear(leaves[0], Layer(leaves[1], leaves[2]))

    computations = {name: one(linear) for name, linear in LINEAR.items()}
    rows = []
    for direction, works in both(computations, leaves):
        times = measure(works, rounds, clock=clock)
        rows += rows_of(f"application, {direction}", size, times, "loop")
    return rows


def generation_and_application(
    size: int, rounds: int, where: str = "cpu", clock: Clock = cpu_seconds
) -> list[Row]:
    """From B codes to B outputs: device by device, or generated at once and applied in one go."""
    generator = PPG(DIM, [(DIM, DIM)], LATENT).generators[0].to(where)
    e = torch.randn(size, LATENT, device=where, requires_grad=True)
    x = torch.randn(size, 1, DIM, device=where, requires_grad=True)

    def layer_by_layer() -> Tensor:
        rows = zip(e.split(1), x.split(1), strict=True)
        return torch.cat([linear_batched(x_b, split_bias(generator(e_b))) for e_b, x_b in rows])

    def at_once(linear: Linear) -> Callable[[], Tensor]:
        return lambda: linear(x, split_bias(generator(e)))

    computations: dict[str, Callable[[], Tensor]] = {"loop": layer_by_layer}
    computations |= {n: at_once(LINEAR[n]) for n in ("batched", "grouped")}
    rows = []
    for direction, works in both(computations, [e, x, *generator.parameters()]):
        times = measure(works, rounds, clock=clock)
        rows += rows_of(f"generation and application, {direction}", size, times, "loop")
    return rows


def generation(size: int, rounds: int) -> list[Row]:
    """B layers from B codes: the two readings of Eq. 6."""
    works: dict[str, dict[str, Work]] = {"forward": {}, "forward+backward": {}}
    e = torch.randn(size, LATENT).requires_grad_()
    for form in ("two_layer", "dense"):
        generator = PPG(DIM, [(DIM, DIM)], LATENT, form=form).generators[0]

        def compute(generator: torch.nn.Module = generator) -> Tensor:
            return generator(e)

        works["forward"][form] = forward_only(compute)
        works["forward+backward"][form] = with_backward(compute, [e, *generator.parameters()])
    rows = []
    for direction, variants in works.items():
        times = measure(variants, rounds)
        rows += rows_of(f"generation, {direction}", size, times, "two_layer")
    return rows


def random_split(n_sessions: int | None = None, n_items: int = N_ITEMS) -> Split:
    """Random sessions, as wide as MovieLens-100k; every history is full, the dearest case."""
    n_sessions = n_sessions or DATA
    history = torch.randint(1, n_items + 1, (n_sessions, LENGTH))
    target = torch.randint(1, n_items + 1, (n_sessions,))
    user = torch.randint(1, N_USERS + 1, (n_sessions,))
    sessions = Sessions(history, target, user)
    seen = Seen.of(user, target, N_USERS, n_items)
    few = sessions[:200]
    return Split(sessions, few, few, N_USERS, n_items, seen, "random", "")


class Step:
    """One training step of a model, and the pieces that it is made of.

    Args:
        backbone, method, ppg: as in `methods.build`. split: to draw from. sessions: B.
    """

    def __init__(self, backbone: str, method: str, split: Split, sessions: int, **ppg: Any):
        where = split.seen.device
        self.model: UniversalMetaNetwork = build(backbone, method, split.n_items, **ppg).to(where)
        config = TrainConfig(batch_size=sessions * 5)
        self.trainer = Trainer(self.model, split, config)
        self.data, self.generator = split.train, torch.Generator(where).manual_seed(0)
        self.index = torch.randperm(len(split.train))[:sessions].to(where)
        self.batch = self.draw()

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """A batch: history, candidates, labels."""
        wrong = self.trainer.negatives.draw(self.data.user[self.index], 4, self.generator)
        ids = torch.cat([self.data.target[self.index].unsqueeze(1), wrong], dim=1)
        return self.data.history[self.index], ids, labels_like(ids)

    def whole(self) -> None:
        """A training step, data included, as the trainer does it."""
        self.trainer.steps[0](*self.draw())

    def pieces(self) -> dict[str, Work]:
        """Each piece forward and backward alone, on what the others would give it."""
        model, ppg = self.model, self.model.source
        assert isinstance(ppg, PPG)
        history, ids, _ = self.batch
        mask = click_mask(history)
        clicks, items = (model.items(i).detach().requires_grad_() for i in (history, ids))
        features = model.backbone(clicks, mask, items).detach().requires_grad_()
        shared = ppg.neck(clicks, mask).detach().requires_grad_()
        own = [*ppg.adjust.parameters(), *ppg.generators.parameters()]

        def dynamic() -> Tensor:
            layers = []
            for adjust, generator in zip(ppg.adjust, ppg.generators, strict=True):
                layers.append(split_bias(generator(adjust(shared))))
            return apply_layers(features, layers)

        backbone_leaves = [clicks, *model.backbone.parameters()]
        if features.shape[1] > 1:
            backbone_leaves.append(items)
        self.whole()  # leaves gradients for the optimiser
        return {
            "backbone": with_backward(lambda: model.backbone(clicks, mask, items), backbone_leaves),
            "neck": with_backward(lambda: ppg.neck(clicks, mask), [clicks, *ppg.neck.parameters()]),
            "generators and dynamic layers": with_backward(dynamic, [shared, features, *own]),
            "data": self.draw,
            "optimiser": self.trainer.optimizers[0].step,
        }


def training(sessions: int, rounds: int) -> list[Row]:
    """Rows (one history with one candidate) per CPU second, of whole training steps."""
    split = random_split()
    steps = {
        (backbone, name): Step(backbone, method, split, sessions, **ppg)
        for backbone in BACKBONES
        for name, (method, ppg) in TRAINED.items()
    }
    works: dict[str, Work] = {f"{b}: {name}": step.whole for (b, name), step in steps.items()}
    times = measure(works, rounds)
    rows = []
    for backbone, name in steps:
        seconds = times[f"{backbone}: {name}"]
        median = statistics.median(seconds)
        rows.append(
            {
                "part": f"training, {5 * sessions:,} rows a batch",
                "B": sessions,
                "backbone": backbone,
                "variant": name,
                "ms": 1e3 * median,
                "rows_per_cpu_second": round(5 * sessions / median),
                "times_base": 1 / ratio(times, f"{backbone}: base", f"{backbone}: {name}"),
                "times_gru_neck": 1
                / ratio(times, f"{backbone}: DUET, N_p = 1", f"{backbone}: {name}"),
            }
        )
    return rows


def shares(backbone: str, rounds: int) -> list[Row]:
    """What part of a DUET step (N_p = 5) goes into what."""
    step = Step(backbone, "duet", random_split(), SESSIONS[0])
    times = measure({"whole": step.whole, **step.pieces()}, rounds)
    share = {name: 1 / ratio(times, "whole", name) for name in times if name != "whole"}
    share["embeddings, loss and the rest"] = 1 - sum(share.values())
    part = {"part": "share of a step", "B": SESSIONS[0], "backbone": backbone}
    return [{**part, "variant": name, "share": value} for name, value in share.items()]


def grown(axis: str, size: int) -> Row:
    """The CPU time of a row, and the peak of memory, in an epoch of SASRec with DUET (N_p = 5).

    Args:
        axis: what is made larger, one of `GROWTH`; all else stays at the middle of the three sizes,
            but for the data, which stay at the smallest. size: how large.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = peak_mb()
    split = random_split(
        n_sessions=size if axis == "sessions in the data" else DATA,
        n_items=size if axis == "items" else 10_000,
    )
    batch = size if axis == "sessions in a batch" else 512
    trainer = Step("sasrec", "duet", split, batch).trainer
    trainer.run_epoch()  # the first one sets things up
    seconds = cpu_seconds(trainer.run_epoch, 1)
    return {
        "part": f"growth, {axis}",
        "variant": f"{size:,}",
        "size": size,
        "us_a_row": 1e6 * seconds / (5 * len(split.train)),
        "peak_mb": peak_mb() - before,
    }


def growth(axis: str, sizes: Sequence[int]) -> list[Row]:
    """`grown` for each size, in a process of its own."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as pool:
        return list(pool.map(grown, [axis] * len(sizes), sizes))


def machine() -> str:
    """The processor's name, and how many there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()}"


def print_tables(rows: Sequence[Row]) -> None:
    """One table a part: sizes down and variants across where there are several sizes."""
    table = pd.DataFrame(rows)
    for part, group in table.groupby("part", sort=False):
        print(f"\n{part}")
        group = group.drop(columns="part").dropna(axis=1)
        if "faster" in group:
            order = list(group["variant"].unique())  # the first is what others are compared with
            ms = group.pivot(index="B", columns="variant", values="ms")[order]
            faster = group.pivot(index="B", columns="variant", values="faster")[order[1:]]
            group = ms.add_suffix(" ms").join(faster.add_suffix(" times faster")).reset_index()
        group = group.drop(columns=["load", "size"], errors="ignore")
        print(group.to_string(index=False, float_format=lambda value: f"{value:.3g}"))


def main(
    path: Path,
    sizes: Sequence[int] = SIZES,
    rounds: int = 15,
    larger: Mapping[str, Sequence[int]] = GROWTH,
) -> None:
    """Measure all, print tables, write records.

    Args:
        path: where the records go. sizes: values of B. rounds: how often each variant is timed.
        larger: the sizes of each axis of growth.
    """
    started = time.perf_counter()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: list[Row] = []

    def keep(some: list[Row]) -> None:
        rows.extend({**row, "load": round(os.getloadavg()[0], 2)} for row in some)

    for work in (application, generation_and_application, generation):
        for size in sizes:
            keep(work(size, rounds if size < 4096 else -(-rounds // 3)))
    for sessions in SESSIONS:
        keep(training(sessions, rounds))
    for backbone in BACKBONES:
        keep(shares(backbone, rounds))
    for axis, of_axis in larger.items():
        keep(growth(axis, of_axis))
    where = {"machine": machine(), **provenance("cpu", code_hash())}
    write_records(path, [{**row, **where} for row in rows])
    print_tables(rows)
    loads = [row["load"] for row in rows]
    print(f"\n{where['machine']} CPUs, torch {where['torch']}, one thread")
    print(f"load {min(loads)} to {max(loads)}; this run alone makes 1")
    print(f"{len(rows)} records in {path}, {time.perf_counter() - started:.0f} s")


def write_records(path: Path, rows: Sequence[Row]) -> None:
    """All records at once, in place of the file's earlier ones."""
    lines = (json.dumps(row, allow_nan=False) + "\n" for row in rows)
    write_aside(path, "".join(lines).encode())


def records_at(name: str, about: str | None) -> Path:
    """The file that the command line names for the records; by default one in `results/`."""
    parser = argparse.ArgumentParser(description=about)
    usual = results_dir() / name
    parser.add_argument("path", nargs="?", type=of_type(file_to_write), default=usual)
    path: Path = parser.parse_args().path
    return path


def file_to_write(text: str) -> Path:
    """The path of a file in a folder that is there; a ValueError for any other."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise refuse("path", text, "a file in a folder that is there")
    return path


if __name__ == "__main__":
    run_command(lambda: main(records_at("bench.jsonl", main.__doc__)))
