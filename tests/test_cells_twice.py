"""Every code cell run twice in a row: readers do it all the time. Long: `make stress` alone."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import notebook_checks as checks
import pytest
from execute import execute
from nbformat import NotebookNode

NOTEBOOKS = sorted((checks.ROOT / "book").glob("*.ipynb"))
DRAWS = "draws at random, to show what other numbers give"
TIMES = "shows what the machine of the moment takes"
# The cells that may show something else when they run again: a piece of each, and why it may.
MAY_DIFFER = {
    "02": {
        "K_4, K_4b, K_32 = random_K": DRAWS,
        "measured = generated(std_1, std_2).var()": DRAWS,
        "measured = {name: spread(*stds)": DRAWS,
        "ratio = variance(fan_in)": DRAWS,
        "scaled = kernel_variances": DRAWS,
    },
    "03": {'("at once", at_once)': TIMES},
    "04": {
        'print(f"{name:14s}{notebook.median_ms(work, device)': TIMES,
        "few = split.train[torch.randperm": DRAWS,
    },
    "05": {"plain average of 5": DRAWS, "ms = [notebook.median_ms(lambda: way": TIMES},
    "06": {
        "loop_ms = notebook.median_ms": TIMES,
        "times = {name: notebook.median_ms": TIMES,
        "numbers, ms = square_step(width)": TIMES,
        "started = time.perf_counter()": TIMES,
    },
    "09": {
        "json_pack = notebook.median_ms": TIMES,
        "batch_ms = {B: notebook.median_ms": TIMES,
        "rank = notebook.median_ms": TIMES,
        "all_layers = notebook.median_ms": TIMES,
    },
    "10": {"start_ms = notebook.median_ms": TIMES},
}


def doubled(notebook: NotebookNode) -> NotebookNode:
    """The notebook with each code cell twice; the second may raise, so that all are seen."""
    twice = deepcopy(notebook)
    twice.cells = []
    for cell in checks.code_cells(notebook):
        again = deepcopy(cell)
        again.metadata["tags"] = ["raises-exception"]
        again.id = f"{cell.id}-again"
        twice.cells += [deepcopy(cell), again]
    return twice


def shown(cell: NotebookNode) -> list[Any]:
    """The error that a cell ends with, or else all that it prints and displays."""
    errors = [f"{o.ename}: {o.evalue}" for o in cell.outputs if o.output_type == "error"]
    return errors or [checks.data_of(output) for output in cell.outputs]


def differing(ran: NotebookNode, may: dict[str, str]) -> Iterator[str]:
    """The cells that raised when they ran again, or showed something else and may not."""
    for first, again in zip(ran.cells[::2], ran.cells[1::2], strict=True):
        one, other = shown(first), shown(again)
        raised = any(output.output_type == "error" for output in again.outputs)
        if raised or (one != other and not any(piece in first.source for piece in may)):
            yield f"{first.source}\n--- showed {one}\n--- and then {other}"


def test_what_differs_is_seen() -> None:
    sources = ["n, x, folder = 0, [], ['a']", "n += 1\nn", "print(folder.pop())", "print(len(x))"]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    ran = execute("x", doubled(nbformat.v4.new_notebook(cells=cells)), key="")
    count, pop = differing(ran, {})
    assert count.endswith("--- showed [{'text/plain': '1'}]\n--- and then [{'text/plain': '2'}]")
    assert pop.endswith("--- and then ['IndexError: pop from empty list']")
    assert list(differing(ran, {"n += 1": "counts", "folder": "pops"})) == [pop]


def test_each_cell_that_may_differ_is_there() -> None:
    for path in NOTEBOOKS:
        sources = [cell.source for cell in checks.code_cells(nbformat.read(path, as_version=4))]
        for piece in MAY_DIFFER.get(path.name[:2], {}):
            assert sum(piece in source for source in sources) == 1, (path.name, piece)


@pytest.mark.stress
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_twice(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    ran = execute(path.stem, doubled(notebook), key="")
    found = list(differing(ran, MAY_DIFFER.get(path.name[:2], {})))
    assert not found, "\n\n".join(found)
