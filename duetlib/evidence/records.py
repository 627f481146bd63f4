"""Records of runs: one JSON object on one line, whole or not at all, and where it was made.

Several processes may write to a file of records at once; a run that one is at, the others leave.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import platform
import subprocess
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

PROTOCOLS = {
    "leave-one-out": (
        "{core}-core, ties in file order, leave the last out for testing and the second-last for "
        "validation, 100 fixed negatives, histories of 30 clicks; the epoch chosen on the "
        "validation AUC"
    ),
    "last-10": (
        "{core}-core, ties in file order, the last 10 of each user for testing, 100 fixed "
        "negatives, histories of 30 clicks; the epoch chosen on the test AUC, as in the authors' "
        "code: only to be laid beside the printed numbers"
    ),
}

# Methods that train nothing of their own, or start where another run has ended.
STARTS_FROM = {
    "finetune": "base",
    "finetune_dynamic": "base",
    "shuffled": "duet_no_swa",
    "constant": "duet_no_swa",
    "stale": "duet_no_swa",
}

# Controls that train nothing: what a trained DUET makes of other frames than a video's first.
VISION_STARTS_FROM = {
    "shuffled": "duet",
    "same_person": "duet",
    "last_frame": "duet",
    "constant": "duet",
}


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
    except json.JSONDecodeError as error:
        return line.startswith(b"{") and error.msg != "Extra data"  # which may be whole records
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


def load_records(name: str = "ml-100k") -> pd.DataFrame:
    """The records of one file, a row each; settings and metrics as columns of their own.

    Raises:
        FileNotFoundError: if there are no records of that name; it says how to make them.
    """
    path = results_dir() / f"{name}.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"no records at {path}: run `make results` in a checkout")
    rows = whole_records(path)
    _check_runs(path, rows)
    flat = [{**row, **row["metrics"], **dict(row["config"]["ppg"])} for row in rows]
    table = pd.DataFrame(flat)
    table["n_p"] = [n_generators(row) for row in rows]
    table["scheme"] = [row["config"]["train"].get("scheme", "joint") for row in rows]
    for column, default in (
        ("form", "two_layer"),
        ("neck", "gru"),
        ("temperature", "tempered"),
        ("tau", 1.0),
    ):
        table[column] = table[column].fillna(default) if column in table else default
    return table


def _check_runs(path: Path, rows: list[dict[str, Any]]) -> None:
    """Refuse a record without its settings or metrics, and a run that is there twice."""
    seen = set[tuple[str, str]]()
    for number, row in enumerate(rows, 1):
        for name in ("method", "metrics", "config"):
            if not row.get(name):
                raise ValueError(f"{path}, record {number} has no {name}: take it out")
        run = (row["method"], key_of(row["config"]))
        if run in seen:
            raise ValueError(
                f"{path}, record {number} is of a run that is there already ({row['method']}, seed "
                f"{row.get('seed')}): it would count twice; take one of the two out"
            )
        seen.add(run)


def n_generators(record: dict[str, Any]) -> int:
    """N_p of a record; 0 where nothing is generated from clicks."""
    video = "size" in record["config"]
    starts_from = VISION_STARTS_FROM if video else STARTS_FROM
    method = starts_from.get(record["method"], record["method"])
    default = {"duet": 5, "duet_no_swa": 1, "duet_as_released": 1}.get(method, 0)
    return int(dict(record["config"]["ppg"]).get("n_generators", default))


def text_of_shares(users: dict[str, list[float]]) -> dict[str, str]:
    """Numbers from 0 to 1 as text: 16 bits each, compressed, base64."""

    def text(values: list[float]) -> str:
        scaled = np.round(np.asarray(values) * 65535).astype("<u2")
        return base64.b64encode(zlib.compress(scaled.tobytes(), 9)).decode()

    return {name: text(values) for name, values in users.items()}


def shares_of_text(packed: str) -> np.ndarray:
    """`[n_users]` what `text_of_shares` made into text, to within 1 / 131,070."""
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<u2") / 65535
