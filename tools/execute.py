"""Run the notebooks that have changed, and keep what they gave.

A run is kept under a key of everything that it depends on: the notebook's code, the library, the
records, the data, and the versions of Python and PyTorch. Jupyter Book's own cache sees the first
of these alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from data_prep.places import resolved

TIMEOUT = 900  # seconds for one cell
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
_CACHE_WARNING = re.compile(r"^.*: CacheWarning: .*\n(?:  .*\n?)?", re.MULTILINE)
_PEAK = "from duetlib.peak_memory import peak_mb as _peak; print(_peak())"


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


class NotebookError(Exception):
    """A notebook that cannot be used: which one, which cell, and why."""


@dataclass(frozen=True)
class Run:
    """How a notebook was run: what its run card says, and the key under which it is kept."""

    key: str
    seconds: float
    peak_gb: float
    date: str
    machine: str
    python: str
    torch: str


def digest(parts: Iterable[str | bytes]) -> str:
    """SHA-256 of several parts, each with its length, so that no two lists of parts meet."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)} ".encode() + data)
    return total.hexdigest()


def tree_digest(paths: Iterable[Path], root: Path) -> str:
    """SHA-256 over the names and the contents of files, in whatever order they come."""
    files = sorted(paths)
    return digest(part for f in files for part in (f.relative_to(root).as_posix(), f.read_bytes()))


def library_digest(root: Path) -> str:
    """What every chapter depends on in the tree: the three packages and the records."""
    packages = ("duetlib", "data_prep", "book/duetbook")
    patterns = (*(f"{package}/**/*.py" for package in packages), "results/**/*.jsonl")
    return tree_digest((f for pattern in patterns for f in root.glob(pattern)), root)


def change_key(notebook: NotebookNode, library: str, data: str) -> str:
    """The key of a run: two runs with the same key give the same outputs.

    Args:
        library: `library_digest`. data: a hash of ratings, titles and genres.
    """
    code = [cell.source for cell in code_cells(notebook)]
    return digest([library, data, platform.python_version(), version("torch"), *code])


def machine() -> str:
    """The processor, the number of cores, and the GPU if there is one."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (model := re.search(r"model name\s*: (.+)", cpuinfo.read_text())):
        name = model[1].strip()
    import torch  # slow to import, and only needed when something was run

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name}, {os.cpu_count()} cores, {gpu}"


def kernel_environment() -> dict[str, str]:
    """This process's environment, with our own `python` first: `!python` must be the kernel's.

    And with one thread, unless told otherwise: what the chapters compute is too small for more.
    Places that it names are written from the root, since a kernel runs in another folder.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    ours = {"DUET_PROGRESS": "0", "PATH": path}
    return {"OMP_NUM_THREADS": "1", **os.environ, **resolved(), **ours}


def _explain(name: str, number: int, cell: NotebookNode, error: Exception) -> NotebookError:
    where = f"{name}.ipynb, code cell {number}"
    if isinstance(error, CellExecutionError):
        reason = f"{error.ename}: {error.evalue}"
    elif isinstance(error, CellTimeoutError):
        reason = f"no answer within {TIMEOUT} seconds"
    else:
        reason = f"the kernel died ({error})"
    source = "\n".join(f"    {line}" for line in cell.source.split("\n"))
    return NotebookError(f"{where}: {reason}\n{source}")


def check_streams(name: str, notebook: NotebookNode) -> None:
    """Fail on what was written to stderr: a reader would take it for part of the lesson.

    Warnings of the cache are of no concern to a reader: they are taken out, and said here.

    Raises:
        NotebookError: naming the cell, with the text.
    """
    for number, cell in enumerate(code_cells(notebook), 1):
        for output in list(cell.outputs):
            if output.output_type == "stream" and output.name == "stderr":
                text = _CACHE_WARNING.sub("", output.text).strip()
                if text:
                    raise NotebookError(f"{name}.ipynb, code cell {number}: stderr holds\n{text}")
                print(output.text, file=sys.stderr)
                cell.outputs.remove(output)


def execute(name: str, notebook: NotebookNode, key: str) -> NotebookNode:
    """Run all cells in a fresh kernel and a fresh empty folder.

    Returns:
        A copy with outputs, and the `Run` in its metadata under "duet".

    Raises:
        NotebookError: if a cell raises, hangs, kills the kernel or writes to stderr.
    """
    notebook = deepcopy(notebook)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="duet-book-") as folder:
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=40"],  # else it warns that it talks by TCP
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
        )
        with client.setup_kernel(env=kernel_environment()):
            number = 0
            for index, cell in enumerate(notebook.cells):
                number += cell.cell_type == "code"
                try:
                    client.execute_cell(cell, index)
                except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                    raise _explain(name, number, cell, error) from None
            seconds = time.perf_counter() - started
            notebook.cells.append(nbformat.v4.new_code_cell(_PEAK))  # after the last, not kept
            peak = client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
            notebook.cells.pop()
    check_streams(name, notebook)
    notebook.metadata["duet"] = asdict(
        Run(
            key=key,
            seconds=round(seconds, 1),
            peak_gb=round(float(peak.outputs[0].text) / 1024, 2),
            date=date.today().isoformat(),
            machine=machine(),
            python=platform.python_version(),
            torch=version("torch"),
        )
    )
    return notebook


def with_outputs(source: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """The source, its code cells filled with what the run gave.

    Text is the source's. Of the run, nothing is kept that another run of the same code would
    change: no times, no versions, no ids. Cells are counted from 1.

    Raises:
        NotebookError: if the two do not have the same code.
    """
    edited, run = ([cell.source for cell in code_cells(one)] for one in (source, executed))
    if edited != run:
        raise NotebookError(
            "a chapter's code is not the code that was run: it was edited meanwhile. Start again."
        )
    filled = deepcopy(source)
    filled.metadata = nbformat.from_dict(METADATA)
    for cell in filled.cells:
        for volatile in ("execution", "collapsed", "ExecuteTime"):
            cell.metadata.pop(volatile, None)
    pairs = zip(code_cells(filled), code_cells(executed), strict=True)
    for number, (cell, ran) in enumerate(pairs, 1):
        cell.outputs, cell.execution_count = deepcopy(ran.outputs), number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    return filled


def write_if_changed(path: Path, content: str | bytes) -> bool:
    """Write a file aside and move it into place, unless it holds `content` already."""
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_bytes(data)
    os.replace(aside, path)
    return True


def dumps(notebook: NotebookNode) -> str:
    """A notebook as text, the same text for the same notebook."""
    return nbformat.writes(notebook) + "\n"
