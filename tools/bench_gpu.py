"""How fast the library's speed-critical parts are on a CUDA device: `python tools/bench_gpu.py`.

As `make bench`, but that the clock is on the wall and waits for the device to finish, and that
nothing is rounded to TF32. Records go to `results/bench_gpu.jsonl`, in place of an earlier run's.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from bench import (
    BACKBONES,
    LENGTH,
    N_ITEMS,
    SIZES,
    Row,
    Step,
    Work,
    application,
    cpu_seconds,
    generation_and_application,
    machine,
    measure,
    print_tables,
    random_split,
    ratio,
    records_at,
    write_records,
)
from bench_vision import convolutions

from data_prep.command import run_command
from duetlib.cuda_graphs import WARM, CapturedStep
from duetlib.evidence.records import provenance
from duetlib.methods import build

SESSIONS = (102, 512, 2048)  # with 5 candidates each: Table 5's batch, and larger ones
TRAINED = {"base": "base", "DUET, N_p = 1": "duet_no_swa", "DUET, N_p = 5": "duet"}
VIDEOS = (1, 16, 64)


def gpu_seconds(work: Work, calls: int) -> float:
    """Seconds on the wall of one call, from so many in a row and the wait for the last."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / calls


def generating(backbone: str, size: int, rounds: int) -> list[Row]:
    """All dynamic layers of B devices from their clicks: the GPU, and one thread of its host.

    The adapters are not folded.
    """
    rows = []
    for where, clock in (("cuda", gpu_seconds), ("cpu", cpu_seconds)):
        torch.manual_seed(0)
        model = build(backbone, "duet", N_ITEMS).to(where).eval()
        history = torch.randint(1, N_ITEMS + 1, (size, LENGTH), device=where)

        @torch.no_grad()
        def work(model: torch.nn.Module = model, history: torch.Tensor = history) -> None:
            model.layers(history)  # type: ignore[operator]

        (seconds,) = measure({"": work}, rounds, clock=clock).values()
        row = {"part": "generating, both layers", "B": size, "backbone": backbone}
        rows.append({**row, "variant": where, "ms": 1e3 * statistics.median(seconds)})
    return rows


def training(backbone: str, sessions: int, rounds: int) -> list[Row]:
    """Training steps: eager, kernel by kernel, and captured as one graph."""
    split = random_split().to("cuda")
    works: dict[str, Work] = {}
    for name, method in TRAINED.items():
        one, plain = (Step(backbone, method, split, sessions) for _ in range(2))
        captured = plain.trainer.steps[0]
        assert isinstance(captured, CapturedStep)
        plain.trainer.steps[0] = captured.step
        for _ in range(WARM + 1):
            one.whole()
        works |= {name: plain.whole, f"{name}, one graph": one.whole}
    times = measure(works, rounds, clock=gpu_seconds)
    return [
        {
            "part": f"training, {5 * sessions:,} rows a batch",
            "B": sessions,
            "backbone": backbone,
            "variant": name,
            "ms": 1e3 * statistics.median(seconds),
            "rows_per_second": round(5 * sessions / statistics.median(seconds)),
            "times_base": 1 / ratio(times, "base", name),
        }
        for name, seconds in times.items()
    ]


def main(
    path: Path,
    sizes: Sequence[int] = SIZES,
    videos: Sequence[int] = VIDEOS,
    batches: Sequence[int] = SESSIONS,
    rounds: int = 9,
) -> None:
    """Measure all, print tables, write records as they come.

    Args:
        path: where the records go. sizes: B of layers. videos: B of convolutions.
        batches: sessions in a training step. rounds: how often each variant is timed.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    where = {"machine": machine(), **provenance("cuda")}
    rows: list[Row] = []

    def keep(some: list[Row]) -> None:
        rows.extend({**row, "load": round(os.getloadavg()[0], 2), **where} for row in some)
        write_records(path, rows)

    for backbone in BACKBONES:
        for size in batches:
            keep(training(backbone, size, rounds))
    for backbone in BACKBONES:
        for size in sizes:
            keep(generating(backbone, size, rounds))
    for work, of in ((application, sizes), (generation_and_application, sizes)):
        for size in of:
            keep(work(size, rounds if size < 4096 else 3, "cuda", gpu_seconds))
    for size in videos:
        keep(convolutions(size, rounds, "cuda", gpu_seconds))
    print_tables(rows)
    print(f"\n{where['device']}, {where['machine']} CPUs, torch {where['torch']}")


if __name__ == "__main__":
    run_command(lambda: main(records_at("bench_gpu.jsonl", main.__doc__)))
