"""`make bench`, second half: how fast cloud and device are, on this machine, now.

Cloud and load run on one machine, in two processes, and talk over the loopback. Variants of the
cloud that are compared run side by side and take turns under load. The model is untrained, as wide
as MovieLens-100k's: time does not depend on what was learned. All that was measured goes to
`results/bench_cloud.jsonl`, a JSON object a line, in place of what an earlier run had written
there, but for the soak: `--soak` runs that, ten minutes long, and replaces its records alone.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.metadata
import inspect
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.request import urlopen

import bench
import numpy as np
import psutil
import torch
from bench import Row, Work
from fastapi import Request
from load import Load, arrive, load

from data_prep.arguments import number, of_type
from data_prep.command import run_command
from duetlib.evidence.records import provenance, results_dir, whole_records
from duetlib.latency import queue_ms
from duetlib.methods import build
from duetlib.serving import cloud as module
from duetlib.serving.device import Device
from duetlib.serving.export import export
from duetlib.serving.payload import pack, split_layers
from duetlib.training import code_hash
from duetlib.umn import UniversalMetaNetwork

Upload = Literal["embedding", "clicks"]
UPLOADS: tuple[Upload, ...] = ("embedding", "clicks")
CONCURRENCY = (1, 2, 4, 8, 16, 32, 64)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 512)
LOADS = (0.02, 0.2, 0.4, 0.6, 0.8)  # of the peak; the first stands for a cloud without a queue
PLAIN, FAST, HOLLOW = "h11", "httptools and uvloop", "HTTP alone"
WAITING = {  # how the cloud batches, and the options that tell it so
    "one by one": ("--batch", "1"),
    "who is there": ("--batch-ms", "0"),
    "waits 1 ms": ("--batch-ms", "1"),
}


# ---- the service


class Counted(module.Cloud):
    """A cloud that counts its batches too; the hollow one does no more than speak HTTP."""

    hollow = False

    def __init__(self, *given: Any):
        super().__init__(*given)
        work = self.batcher.work

        def counted(rows: Sequence[torch.Tensor]) -> np.ndarray:
            self.counts["batches"] += 1
            return work(rows)

        self.batcher.work = counted

    async def answer(self, request: Request) -> bytes:
        """A signed message, or as many zeros."""
        if not self.hollow:
            return await super().answer(request)
        await self.body(request)
        return bytes(self.contract.limit - 100)


def serve(arguments: Sequence[str]) -> None:
    """What runs in the service's process: `python -m duetlib.serving.cloud`, counted.

    Args:
        arguments: `PLAIN`, `FAST` or `HOLLOW`, then options of the cloud.
    """
    kind, *options = arguments
    if kind != FAST:  # uvicorn takes both when it finds them
        sys.modules.update(dict.fromkeys(("httptools", "uvloop")))  # type: ignore[arg-type]
    Counted.hollow = kind == HOLLOW
    module.Cloud = Counted  # type: ignore[misc, assignment]
    module.main(options)


@dataclass(frozen=True)
class Service:
    """A cloud in a process of its own."""

    url: str
    token: str = field(repr=False)
    process: psutil.Process

    def cpu(self) -> float:
        """CPU seconds that it has used."""
        used = self.process.cpu_times()
        return used.user + used.system

    def counts(self) -> dict[str, int]:
        """What it has counted."""
        with urlopen(f"{self.url}/health") as page:
            return json.load(page)["counts"]


@contextlib.contextmanager
def served(folder: Path, command: Sequence[str]) -> Iterator[Service]:
    """The service, from its first answer on.

    Args:
        folder: exported. command: what starts it, all but folder and port.

    Raises:
        OSError: if there is no answer within two minutes.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = json.loads((folder / "cloud" / "secret.json").read_text())["token"]
    where = ["--folder", str(folder), "--port", str(port)]
    process = subprocess.Popen([sys.executable, *command, *where], stderr=subprocess.DEVNULL)
    service = Service(f"http://127.0.0.1:{port}", token, psutil.Process(process.pid))
    try:
        _wait(service, process)
        yield service
    finally:
        process.terminate()
        process.wait()


def _wait(service: Service, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            service.counts()
            return
        time.sleep(0.02)
    raise OSError(f"no cloud answers at {service.url}")


def variant(kind: str, waiting: str = "who is there") -> list[str]:
    """The command of one variant of the service; by default it batches as the cloud does."""
    return [__file__, "serve", kind, *WAITING[waiting]]


def untrained(folder: Path) -> UniversalMetaNetwork:
    """Export a SASRec with DUET (N_p = 5) that knows nothing; give the model back."""
    model = build("sasrec", "duet", bench.N_ITEMS)
    some = torch.randint(1, bench.N_ITEMS + 1, (1000, bench.LENGTH))
    export(model, folder, some, backbone="sasrec", method="duet")
    return model


def requests(folder: Path, upload: Upload, count: int = 256) -> list[bytes]:
    """Ready-made requests with full histories."""
    device = Device(folder / "device", lambda request, limit: b"", upload=upload)
    dice = random.Random(0)
    items = range(1, device.n_items + 1)
    return [device.request(dice.choices(items, k=device.length)) for _ in range(count)]


# ---- load


def loaded(service: Service, bodies: Sequence[bytes], concurrency: int, seconds: float) -> Row:
    """One turn of one variant: what the load saw, and what the service used."""
    before, counts, mine = service.cpu(), service.counts(), time.process_time()
    result = load(service.url, service.token, bodies, concurrency, seconds)
    used, after = service.cpu() - before, service.counts()
    batches = after.get("batches", 0) - counts.get("batches", 0)
    return {
        "load": result,
        "cpu": used,
        "load_cpu": time.process_time() - mine,
        "batches": batches,
    }


def row_of_turns(turns: Sequence[Row]) -> Row:
    """What several turns say together."""
    whole: Load = sum((turn["load"] for turn in turns), Load())
    answers, batches = len(whole.times), sum(turn["batches"] for turn in turns)
    return {
        "rate": statistics.median(turn["load"].rate for turn in turns),
        "p50_ms": whole.percentile(50),
        "p99_ms": whole.percentile(99),
        "answers": answers,
        "errors": whole.errors,
        "cpu_us": 1e6 * sum(turn["cpu"] for turn in turns) / answers,
        "load_cpu_us": 1e6 * sum(turn["load_cpu"] for turn in turns) / answers,
        "batch": answers / batches if batches else 0.0,
    }


def curves(
    folder: Path,
    services: Mapping[tuple[str, str], Service],
    concurrencies: Sequence[int],
    seconds: float,
    rounds: int,
) -> Iterator[Row]:
    """Sessions a second and time to answer, over the number of devices that ask at once.

    Args:
        services: by kind and way of batching. seconds: of each turn. rounds: turns of each.
    """
    for upload in UPLOADS:
        bodies = requests(folder, upload)
        for service in services.values():
            loaded(service, bodies, 16, seconds)  # the first requests set things up
        for concurrency in concurrencies:
            turns: dict[tuple[str, str], list[Row]] = {name: [] for name in services}
            for _ in range(rounds):
                for name, service in services.items():
                    turns[name].append(loaded(service, bodies, concurrency, seconds))
            for (http, batching), of_one in turns.items():
                part = {"part": "cloud", "upload": upload, "http": http, "batching": batching}
                yield {**part, "concurrency": concurrency, **row_of_turns(of_one)}


# ---- the cost of each part


def costs(folder: Path, rounds: int) -> Iterator[Row]:
    """CPU microseconds that each part of one answer takes, alone, in this process."""
    cloud = module.Cloud(folder, module.Settings())
    for upload in UPLOADS:
        body = requests(folder, upload, 1)[0]
        row = cloud.row(body)
        layers = split_layers(cloud.generator([row])[0], cloud.contract.shapes)

        def sign(body: bytes = body, layers: dict = layers) -> bytes:
            return pack(layers, cloud.contract, body, cloud.key, time.time(), 3600.0)

        works: dict[str, Work] = {"read": partial(cloud.row, body), "sign": sign}
        works |= {f"{n}": partial(cloud.generator, [row] * n) for n in BATCHES}
        for name, times in bench.measure(works, rounds, least=0.01).items():
            batch = int(name) if name.isdigit() else 1
            piece = "generate" if name.isdigit() else name
            us = 1e6 * statistics.median(times) / batch
            yield {"part": "cost", "upload": upload, "piece": piece, "batch": batch, "us": us}


def limits(rows: Sequence[Row]) -> Iterator[Row]:
    """What one core could do at best, from the measured cost of each part; beside it, the peak.

    Args:
        rows: of the parts `cloud` and `cost`.
    """
    cloud = [row for row in rows if row["part"] == "cloud"]
    cost = [row for row in rows if row["part"] == "cost"]
    named = {(r["upload"], r["http"], r["batching"], r["concurrency"]): r for r in cloud}
    for upload in UPLOADS:
        of_piece = {r["piece"]: r["us"] for r in cost if r["upload"] == upload}
        made = [r for r in cost if r["upload"] == upload and r["piece"] == "generate"]
        sizes, each = [r["batch"] for r in made], [r["us"] for r in made]
        for batching in WAITING:
            ours = [r for r in cloud if (r["upload"], r["batching"]) == (upload, batching)]
            peak = max((r for r in ours if r["http"] == PLAIN), key=lambda r: r["rate"])
            bare = named[upload, HOLLOW, batching_of_hollow(), peak["concurrency"]]
            pieces = {
                "HTTP": bare["cpu_us"],
                "read": of_piece["read"],
                "generate": float(np.interp(peak["batch"], sizes, each)),
                "sign": of_piece["sign"],
            }
            yield {
                "part": "limit",
                "upload": upload,
                "batching": batching,
                "concurrency": peak["concurrency"],
                **{f"{name}_us": us for name, us in pieces.items()},
                "limit": 1e6 / sum(pieces.values()),
                "rate": peak["rate"],
                "cpu_us": peak["cpu_us"],
            }


def batching_of_hollow() -> str:
    """The hollow service generates nothing, so that its way of batching does not matter."""
    return next(iter(WAITING))


# ---- generation


def generation(model: UniversalMetaNetwork, rounds: int) -> Iterator[Row]:
    """Devices a second on one thread: folded to one map, and as trained."""
    generator = module.Generator(model, bench.LENGTH)
    for batch in (1, 8, 64, 512):
        history = torch.randint(1, bench.N_ITEMS + 1, (batch, bench.LENGTH))
        embedding = torch.randn(batch, len(generator.W))
        works: dict[str, Work] = {
            "from clicks": partial(generator, list(history)),
            "from clicks, not folded": bench.forward_only(partial(_layers, model, history)),
            "from the embedding": partial(generator, list(embedding)),
        }
        for name, times in bench.measure(works, rounds, least=0.01).items():
            rate = batch / statistics.median(times)
            yield {"part": "generation", "variant": name, "batch": batch, "rate": rate}


def _layers(model: UniversalMetaNetwork, history: torch.Tensor) -> torch.Tensor:
    """What the trained model generates, adapters and all; the last layer's weights."""
    return model.layers(history)[-1].weight


# ---- the device


def on_device(folder: str, url: str, token: str) -> None:
    """What runs in the device's process; prints what it measured. Imports no PyTorch."""
    import json
    import sys
    import time
    from pathlib import Path

    import numpy as np
    import onnxruntime  # noqa: F401
    import psutil

    bare = psutil.Process().memory_info().rss
    from duetlib.serving.device import Device
    from duetlib.serving.transport import Http

    device = Device(Path(folder) / "device", Http(url, token, timeout=10.0))
    clicks, candidates = list(range(1, device.length + 1)), list(range(101, 201))
    source = device.start_session(clicks).source
    device.rank(clicks, candidates)
    first = time.time()

    def milliseconds(work: Callable[[], object], calls: int) -> list[float]:
        times = []
        for _ in range(calls):
            started = time.perf_counter()
            work()
            times.append(1e3 * (time.perf_counter() - started))
        return np.percentile(times, [50, 99]).tolist()

    measured = {
        "rank_ms": milliseconds(lambda: device.rank(clicks, candidates), 3000),
        "embed_ms": milliseconds(lambda: device.embed(clicks), 500),
        "session_ms": milliseconds(lambda: device.start_session(clicks), 200),
        "more_mb": (psutil.Process().memory_info().rss - bare) / 2**20,
        "bare_mb": bare / 2**20,
        "first_answer": first,
        "source": source,
    }
    assert "torch" not in sys.modules
    print(json.dumps(measured))


def device(folder: Path, service: Service, processes: int) -> Row:
    """The device in processes of its own, one after the other: medians over them."""
    code = f"import sys\n{inspect.getsource(on_device)}\non_device(*sys.argv[1:])"
    code = f"from __future__ import annotations\n{code}"
    runs = []
    for _ in range(processes):
        command = [sys.executable, "-c", code, str(folder), service.url, service.token]
        started = time.time()
        said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        runs.append({**said, "cold_s": said["first_answer"] - started})
    assert all(run["source"] == "fresh" for run in runs), "the cloud is there, so weights are too"
    row: Row = {"part": "device", "candidates": 100, "processes": processes}
    for name in ("rank_ms", "embed_ms", "session_ms"):
        for which, percent in enumerate((50, 99)):
            row[f"{name[:-3]}_p{percent}_ms"] = statistics.median(r[name][which] for r in runs)
    for name in ("cold_s", "more_mb", "bare_mb"):
        row[name] = statistics.median(run[name] for run in runs)
    return row


# ---- the queue


def queueing(
    service: Service, bodies: Sequence[bytes], peak: float, seconds: float, rounds: int
) -> Iterator[Row]:
    """The mean wait for a cloud's turn, against the formulas; requests come at random moments.

    Load and service time are taken from the service's CPU time, without a look at how long anything
    took. The wait is what is left of the mean time to answer after the service time and a constant
    (network, and the process that asks), which is that of the lightest load.

    Args:
        service: one that answers one by one. peak: answers a second at most.
        seconds: of each turn. rounds: turns at each load; the records hold medians over them.
    """
    constant = None
    for n, share in enumerate(LOADS):
        turns = [
            _arrivals(service, bodies, share * peak, seconds, seed=rounds * n + turn)
            for turn in range(rounds)
        ]
        row = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
        rho, service_ms = row["busy"], row["service_ms"]
        rest = row["answer_ms"] - service_ms
        constant = constant or rest - queue_ms(rho, service_ms)
        yield {
            "part": "queue",
            **row,
            "errors": sum(turn["errors"] for turn in turns),
            "wait_ms": rest - constant,
            "fixed_ms": queue_ms(rho, service_ms),
            "random_ms": queue_ms(rho, service_ms, "random"),
        }


def _arrivals(
    service: Service, bodies: Sequence[bytes], rate: float, seconds: float, seed: int
) -> dict[str, float]:
    before = service.cpu()
    result = arrive(service.url, service.token, bodies, rate, seconds, seed)
    busy = (service.cpu() - before) / result.seconds
    return {
        "rate": result.rate,
        "busy": busy,
        "service_ms": 1e3 * busy / result.rate,
        "answer_ms": 1e3 * statistics.fmean(result.times),
        "p99_ms": result.percentile(99),
        "errors": result.errors,
    }


# ---- the soak


def soak(folder: Path, seconds: float, slices: int = 10) -> Iterator[Row]:
    """Half the peak for a long time: memory, errors and times of each slice.

    Args:
        seconds: of all slices together.
    """
    with served(folder, ["-m", "duetlib.serving.cloud"]) as service:
        bodies = requests(folder, "embedding")
        ask = partial(load, service.url, service.token, bodies, 16)
        peak = ask(min(20.0, seconds)).rate
        for n in range(slices):
            part = ask(seconds / slices, rate=peak / 2)
            yield {
                "part": "soak",
                "slice": n,
                "seconds": part.seconds,
                "rate": part.rate,
                "peak": peak,
                "p50_ms": part.percentile(50),
                "p99_ms": part.percentile(99),
                "memory_mb": service.process.memory_info().rss / 2**20,
                "answers": len(part.times),
                "errors": part.errors,
            }


# ---- all together


def versions() -> dict[str, str]:
    """Of what the service is made of; "" for what is not there."""
    found = {}
    for name in ("fastapi", "uvicorn", "httptools", "uvloop", "onnxruntime"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def measured(
    folder: Path, concurrencies: Sequence[int], seconds: float, rounds: int, processes: int
) -> Iterator[Row]:
    """Everything but the soak."""
    model = untrained(folder)
    gc.freeze()  # or its collector would make some of this process's answers look late
    yield from generation(model, rounds)
    rows = list(costs(folder, rounds))
    kinds = {(PLAIN, name): variant(PLAIN, name) for name in WAITING}
    kinds[HOLLOW, batching_of_hollow()] = variant(HOLLOW, batching_of_hollow())
    if {"httptools", "uvloop"} <= versions().keys():
        kinds[FAST, "who is there"] = variant(FAST)
    with contextlib.ExitStack() as stack:
        services = {k: stack.enter_context(served(folder, of)) for k, of in kinds.items()}
        rows += curves(folder, services, concurrencies, seconds, rounds)
        alone, usual = services[PLAIN, "one by one"], services[PLAIN, "who is there"]
        yield from [*rows, *limits(rows), device(folder, usual, processes)]
        rates = [
            row["rate"]
            for row in rows
            if (row.get("http"), row.get("batching")) == (PLAIN, "one by one")
            and row["upload"] == "embedding"
        ]
        bodies = requests(folder, "embedding")
        yield from queueing(alone, bodies, max(rates), 3 * seconds, rounds)


def kept(path: Path, soaks: bool) -> list[Row]:
    """The records that a run leaves as they are."""
    return [r for r in whole_records(path) if (r["part"] == "soak") is soaks]


def main(
    path: Path,
    long: float = 0.0,
    concurrencies: Sequence[int] = CONCURRENCY,
    seconds: float = 1.0,
    rounds: int = 5,
    processes: int = 5,
) -> None:
    """Measure, print, write.

    Args:
        path: where the records go. long: seconds of soak, in place of all else; 0 for none.
        concurrencies: devices that ask at once. seconds: of one turn of load.
        rounds: how often each variant has its turn. processes: of the device.
    """
    started = time.perf_counter()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    where = {"machine": bench.machine(), **provenance("cpu", code_hash()), **versions()}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if long:
            untrained(folder)
        work = (
            soak(folder, long)
            if long
            else measured(folder, concurrencies, seconds, rounds, processes)
        )
        for row in work:
            rows.append({**row, "load": round(psutil.getloadavg()[0], 2), **where})
    bench.print_tables([{k: v for k, v in row.items() if k not in where} for row in rows])
    bench.write_records(path, sorted([*rows, *kept(path, not long)], key=by_part))
    print(f"\n{len(rows)} records in {path}, {time.perf_counter() - started:.0f} s")


def by_part(row: Row) -> bool:
    """The soak goes last."""
    return bool(row["part"] == "soak")


def soak_seconds(text: str) -> float:
    """A number of seconds above 0; a ValueError for anything else."""
    number(0, above=True, soak=float(text))
    return float(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        run_command(lambda: serve(sys.argv[2:]))
    else:
        parser = argparse.ArgumentParser(description="Time cloud and device.")
        seconds = "seconds of soak, and no more"
        parser.add_argument("--soak", type=of_type(soak_seconds), default=0.0, help=seconds)
        path = results_dir() / "bench_cloud.jsonl"
        parser.add_argument("path", nargs="?", type=of_type(bench.file_to_write), default=path)
        given = parser.parse_args()
        run_command(lambda: main(given.path, given.soak))
