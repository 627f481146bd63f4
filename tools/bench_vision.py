"""`make bench`, the part on faces: drawing them, a training step of each method, where time goes.

Like `bench.py`: one process, one thread, CPU time, variants that take turns, medians over rounds.
The memory of a step is measured in a process of its own for each number of generators. All goes to
`results/bench_vision.jsonl`.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from bench import (
    Clock,
    Row,
    Work,
    both,
    cpu_seconds,
    machine,
    measure,
    print_tables,
    ratio,
    records_at,
    rows_of,
    with_backward,
    write_records,
)

from data_prep.command import run_command
from data_prep.faces import load_faces
from data_prep.videos import COUNTS
from duetlib.evidence.records import provenance
from duetlib.evidence.vision_experiments import LARGE, SMALL
from duetlib.hypernetwork import TwoLayerGenerator
from duetlib.peak_memory import keep_freed_memory, peak_mb
from duetlib.vision.conv import conv_1x1, conv_grouped, conv_loop
from duetlib.vision.factored import apply, factors
from duetlib.vision.network import LATENT, RANK, OrdinaryWeights, build, n_two_layer
from duetlib.vision.training import Clips, VideoSplit, VisionConfig, VisionTrainer

VIDEOS, FRAMES = 16, 6  # B and T
TRAINED: dict[str, tuple[str, dict[str, Any]]] = {  # method, and settings of the PPG
    "base": ("base", {}),
    "hypernetwork": ("hypernetwork", {}),
    "first frame as input": ("first_frame_as_input", {}),
    "DUET, N_p = 1": ("duet_no_swa", {}),
    "DUET, N_p = 2": ("duet", {"n_generators": 2}),
    "DUET, N_p = 3": ("duet", {"n_generators": 3}),
    "DUET, N_p = 5": ("duet", {}),
}
SIZES = {SMALL: 64, LARGE: 48}  # pixels, as in the grid


def random_clips(size: int) -> Clips:
    """A batch of videos without a sense."""
    frames = torch.randint(0, 256, (VIDEOS, FRAMES, 1, size, size), dtype=torch.uint8)
    return Clips(frames, torch.randint(0, 8, (VIDEOS, FRAMES)), torch.arange(VIDEOS))


class Step:
    """One training step of a model, and the pieces that it is made of.

    Args:
        name, method, ppg: as in `vision.build`. size: S.
    """

    def __init__(self, name: str, method: str, size: int, **ppg: Any):
        torch.manual_seed(0)
        self.model, self.clips = build(name, method, **ppg), random_clips(size)
        split = VideoSplit(self.clips, self.clips, self.clips, "random", "", 0)
        self.trainer = VisionTrainer(self.model, split, VisionConfig())

    def whole(self) -> None:
        """A training step as the trainer does it."""
        self.trainer.step(self.clips)

    def pieces(self) -> dict[str, Work]:
        """Each piece forward and backward alone, on what the others would give it."""
        model = self.model
        features = model.see(self.clips.frames).detach().requires_grad_()
        shared = model.shared(features).detach().requires_grad_()
        reads = [] if isinstance(model.source, OrdinaryWeights) else [shared]
        dynamic = [*reads, features, *model.source.parameters(), *model.norm.parameters()]
        trunk = list(model.trunk.parameters())
        self.whole()  # leaves gradients for the optimiser
        return {
            "static trunk": with_backward(lambda: model.see(self.clips.frames), trunk),
            "generators and dynamic layers": with_backward(
                lambda: model.classify(features, model.source(shared)), dynamic
            ),
            "optimiser": self.trainer.optimizer.step,
        }


def drawing(size: int, counts: Mapping[str, int], rounds: int) -> list[Row]:
    """Frames that are drawn in a CPU second.

    Args:
        size: S. counts: videos of each emotion.
    """
    frames = FRAMES * sum(counts.values())
    (seconds,) = measure({"": lambda: load_faces(size, counts=counts)}, rounds).values()
    rate = frames / statistics.median(seconds)
    row = {"part": f"drawing faces, {size} px", "variant": "grey", "frames": frames}
    return [{**row, "ms": 1e3 * statistics.median(seconds), "frames_per_second": rate}]


def training(name: str, rounds: int) -> list[Row]:
    """CPU time of a training step of every method, and how many of the base's steps it is."""
    size = SIZES[name]
    steps = {variant: Step(name, of[0], size, **of[1]) for variant, of in TRAINED.items()}
    times = measure({variant: step.whole for variant, step in steps.items()}, rounds)
    return [
        {
            "part": f"training step, {VIDEOS} videos, {name}, {size} px",
            "B": VIDEOS,
            "backbone": name,
            "variant": variant,
            "ms": 1e3 * statistics.median(times[variant]),
            "times_base": 1 / ratio(times, "base", variant),
        }
        for variant in TRAINED
    ]


def shares(variant: str, rounds: int) -> list[Row]:
    """What part of a step of the Small model goes into what."""
    method, ppg = TRAINED[variant]
    step = Step(SMALL, method, SIZES[SMALL], **ppg)
    times = measure({"whole": step.whole, **step.pieces()}, rounds)
    share = {name: 1 / ratio(times, "whole", name) for name in times if name != "whole"}
    share["loss and the rest"] = 1 - sum(share.values())
    part = {"part": f"share of a step, {SMALL}, {variant}", "B": VIDEOS, "backbone": SMALL}
    ms = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    return [
        {**part, "variant": name, "share": value, "ms": ms.get(name, value * ms["whole"])}
        for name, value in share.items()
    ]


def convolutions(
    size: int, rounds: int, where: str = "cpu", clock: Clock = cpu_seconds
) -> list[Row]:
    """The Small model's last 1×1 convolution, another for each of B devices, in three ways."""
    shapes = ((size, FRAMES, 96, 2, 2), (size, 576, 96, 1, 1))  # what 64 pixels come to
    x, kernel = (torch.randn(shape, device=where, requires_grad=True) for shape in shapes)
    computations = {
        "loop": lambda: conv_loop(x, kernel),
        "batched": lambda: conv_1x1(x, kernel),
        "grouped": lambda: conv_grouped(x, kernel),
    }
    rows = []
    for direction, works in both(computations, [x, kernel]):
        times = measure(works, rounds, clock=clock)
        rows += rows_of(f"convolution, {direction}", size, times, "loop")
    return rows


def application(size: int, rounds: int) -> list[Row]:
    """The Small model's fully connected layer, generated and applied: built first, or in factors.

    For each of B devices, whose six frames go through its layer.
    """
    g = TwoLayerGenerator(576, 1280, LATENT, RANK, 1.0, 0.1)
    e, x = torch.randn(size, LATENT).requires_grad_(), torch.randn(size, FRAMES, 576)
    x.requires_grad_()
    computations = {
        "built": lambda: x @ g(e),
        "in factors": lambda: apply(x, factors(g, e)),
    }
    rows = []
    for direction, works in both(computations, [e, x, *g.parameters()]):
        times = measure(works, rounds)
        rows += rows_of(f"generated layer, {direction}", size, times, "built")
    return rows


def step_memory(n_generators: int) -> Row:
    """The peak of memory in training steps of DUET (Small), beside what a formula says.

    A generator's number is held four times while it is trained: itself, its gradient, and Adam's
    two means. So M generators of P_g numbers take 16·M·P_g bytes.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    before = peak_mb()
    step = Step(SMALL, "duet", SIZES[SMALL], n_generators=n_generators)
    for _ in range(3):
        step.whole()
    numbers = n_generators * n_two_layer(step.model.shapes)
    return {
        "part": f"memory of a step, {SMALL}",
        "variant": f"N_p = {n_generators}",
        "numbers": numbers,
        "formula_mb": 16 * numbers / 2**20,
        "peak_mb": peak_mb() - before,
    }


def memory(generators: Sequence[int]) -> list[Row]:
    """`step_memory` for each number of generators, in a process of its own."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as pool:
        return list(pool.map(step_memory, generators))


def main(
    path: Path,
    rounds: int = 7,
    generators: Sequence[int] = (1, 2, 3, 5),
    sizes: Sequence[int] = (1, 16, 64),
    counts: Mapping[str, int] = COUNTS,
) -> None:
    """Measure all, print tables, write records.

    Args:
        path: where the records go. rounds: how often each variant is timed. generators: values of
            N_p whose memory is measured. sizes: values of B for single layers. counts: how many
            videos of each emotion are drawn.
    """
    started = time.perf_counter()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows: list[Row] = []

    def keep(some: list[Row]) -> None:
        rows.extend({**row, "load": round(os.getloadavg()[0], 2)} for row in some)

    keep(memory(generators))
    keep(drawing(SIZES[SMALL], counts, rounds))
    for name in SIZES:
        keep(training(name, rounds))
    for variant in ("base", "DUET, N_p = 1", "DUET, N_p = 5"):
        keep(shares(variant, rounds))
    for work in (convolutions, application):
        for size in sizes:
            keep(work(size, rounds))
    where = {"machine": machine(), **provenance("cpu")}
    write_records(path, [{**row, **where} for row in rows])
    print_tables(rows)
    print(f"\n{where['machine']} CPUs, torch {where['torch']}, one thread")
    print(f"{len(rows)} records in {path}, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    run_command(lambda: main(records_at("bench_vision.jsonl", main.__doc__)))
