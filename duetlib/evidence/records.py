"""Records of runs: one JSON object on one line, whole or not at all, and where it was made.

Several processes may write to a file of records at once; a run that one is at, the others leave.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self


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
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent / "results"
    return checkout if checkout.is_dir() else package / "results"


def provenance(device: str, code: str = "") -> dict[str, Any]:
    """Where and when a record was made: commit, date, machine, PyTorch.

    Args:
        code: hash of the code that decides what a run yields.
    """
    import torch  # here alone: who reads records does not wait for it

    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "commit": commit or "unknown",
        "code": code[:12],
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
        text = file.read()
        last = text[text.rfind(b"\n") + 1 :]
        if _is_cut(last):  # what a process killed in its write has left
            file.truncate(len(text) - len(last))
            last = b""
        end = b"\n" if last else b""  # of a whole record that came without one
        file.write(end + json.dumps(record).encode() + b"\n")  # one write, then to the disk
        file.flush()
        os.fsync(file.fileno())


def whole_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file, if it is there.

    Raises:
        ValueError: for a line that is no record, with its number.

    Warns:
        UserWarning: of a last line that is cut, which is left out: the next `append_record` takes
            it away.
    """
    records = []
    lines = _read(path).split(b"\n")
    for number, line in enumerate(lines, 1):
        if number == len(lines) and _is_cut(line):
            warnings.warn(f"{path}, line {number} is cut: left out, {line[:40]!r}", stacklevel=2)
        elif line.strip():
            records.append(_record(path, number, line))
    return records


def _read(path: Path) -> bytes:
    """The bytes of a file, `b""` where there is none; never in the middle of somebody's write."""
    if not path.exists():
        return b""
    with path.open("rb") as file:
        with contextlib.suppress(ImportError, OSError):  # no locks: on Windows, on some networks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_SH)
        return file.read()


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}, line {number} is no record ({error}): mend it, or take it out. It begins "
            f"{line[:40]!r}"
        ) from error
    if not isinstance(record, dict):
        raise ValueError(f"{path}, line {number} is no JSON object but {line[:40]!r}: take it out")
    return record


def _is_cut(line: bytes) -> bool:
    """Whether a last line, without its end, is the beginning of a record and no whole one."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return line.startswith(b"{")
    return False


def done_keys(path: Path) -> set[str]:
    """Keys of the runs that have a record."""
    return {key_of(record["config"]) for record in whole_records(path)}


def claim(path: Path) -> Any:
    """An open, locked file that marks a run as being worked on, or None if somebody has it.

    Where no file can be written, a warning says so, and nothing keeps others from the run.
    """
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        warnings.warn(
            f"{path.parent} cannot be written to ({error}): start no second process beside this "
            "one, it would do the same runs. DUET_CACHE names another folder",
            stacklevel=2,
        )
        return contextlib.nullcontext()
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
