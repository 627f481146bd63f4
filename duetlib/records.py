"""Records of runs: one JSON object on one line, whole or not at all, and where it was made.

Several processes may write to a file of records at once; a run that one is at, the others leave.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from .training import code_hash


def key_of(config: dict[str, Any]) -> str:
    """The key of a run from its settings, as they are in memory or in a record."""
    return json.dumps(json.loads(json.dumps(config)), sort_keys=True)


@dataclass(frozen=True)
class BaseRun:
    """What every run has: what is trained, on what, from which seed.

    Attributes:
        starts_from: methods that train nothing of their own, and whose training each needs.
        ppg: settings of the PPG beside the method's own, as `(name, value)` pairs.
    """

    starts_from: ClassVar[Mapping[str, str]] = {}

    dataset: str
    backbone: str
    method: str
    seed: int
    ppg: tuple[tuple[str, Any], ...] = ()

    @property
    def key(self) -> str:
        """Two runs with the same key are the same run."""
        return key_of(asdict(self))

    @property
    def trains(self) -> Self:
        """The run whose training this one needs: itself, or the one it starts from."""
        return replace(self, method=self.starts_from.get(self.method, self.method))


def results_dir() -> Path:
    """Where the records are: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "results"
    return checkout if checkout.is_dir() else package / "results"


def provenance(device: str, code: str = "") -> dict[str, Any]:
    """Where and when a record was made: commit, date, machine, PyTorch.

    Args:
        code: hash of the files that decide what a run yields; the recommenders' by default.
    """
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit or "unknown",
        "code": (code or code_hash())[:12],
        "date": datetime.now(UTC).date().isoformat(),
        "device": torch.cuda.get_device_name(device)
        if torch.device(device).type == "cuda"
        else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add one line, whole or not at all, also when several processes write at once."""
    import fcntl  # not there on Windows, where records can be read all the same

    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)  # what a process killed in its write has left
        file.write(json.dumps(record).encode() + b"\n")  # one write, then to the disk
        file.flush()
        os.fsync(file.fileno())


def whole_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file, if it is there; a line that has no end yet is not one."""
    text = path.read_bytes() if path.exists() else b""
    lines = text[: text.rfind(b"\n") + 1].splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def done_keys(path: Path) -> set[str]:
    """Keys of the runs that have a record."""
    return {key_of(record["config"]) for record in whole_records(path)}


def claim(path: Path) -> Any:
    """An open, locked file that marks a run as being worked on, or None if somebody has it."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
