"""The chapters' files, read without being run; and the checks themselves, on seeded faults."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import nbformat
import notebook_checks as checks
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

CHAPTERS = sorted((checks.ROOT / "book").glob("[0-9][0-9]_*.ipynb"))
SPEED = checks.ROOT / "book" / "speed.ipynb"


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter(path: Path, check: Callable[[NotebookNode], list[str]]) -> None:
    assert check(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_equations_and_anatomy(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert checks.numbered_equations(notebook, path.name[:2]) == []
    assert checks.anatomy(notebook, path.name[:2]) == []


def test_the_page_on_speed_sets_up_as_chapters_do_and_asserts_no_live_time() -> None:
    notebook = nbformat.read(SPEED, as_version=4)
    assert checks.code_cells(notebook)[0].source == checks.SETUP
    assert checks.live_times(notebook) == []


def test_every_chapter_with_an_equation_is_there() -> None:
    assert [path.name[:2] for path in CHAPTERS] == list(checks.EQUATIONS)


# --- the checks themselves -------------------------------------------------------------------

HEAD = """# 1. A title

> **What you can do afterwards.** Something.

> **Facts.** 1 minute.

> **Predict.** What?

<a id="eq-1"></a>

$$ x = y \\tag{1} $$

> **Differs from the paper.** Here.

## Summary

## What comes next"""
EXERCISE = "> **Exercise {n} · add.** difficulty ●○○, importance ●●○, 2 minutes. Add."
ANSWERS = """<details><summary>Hint</summary>

Use `+`.

</details>

<details><summary>Solution</summary>

```python
def f(x):
    return x + 1
```

</details>"""
MISSING = "· not attempted yet"


def code(source: str, *outputs: NotebookNode, **metadata: object) -> NotebookNode:
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


def printed(text: str = "2\n", name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


def shown(**data: str) -> NotebookNode:
    return new_output("display_data", data={k.replace("_", "/", 1): v for k, v in data.items()})


def chapter() -> NotebookNode:
    """A chapter in which nothing is wrong."""
    tags = {"tags": ["nbval-check-output"]}
    cells = [new_markdown_cell(HEAD), code(checks.SETUP, printed())]
    for _ in range(5):
        cells += [new_markdown_cell("Some words."), code("print(1 + 1)", printed(), **tags)]
    alt = {"mystnb": {"image": {"alt": "A line that falls to zero"}}}
    cells += [new_markdown_cell("A figure."), code("draw()", shown(image_png="eA=="), **alt)]
    for n in (1, 2, 3):
        cells += [new_markdown_cell(EXERCISE.format(n=n)), code("def f(x):\n    ...")]
        cells += [new_markdown_cell("Check it."), code("check.add(f)", printed(MISSING))]
        cells += [new_markdown_cell(ANSWERS)]
    notebook = new_notebook(cells=cells)
    for number, cell in enumerate(checks.code_cells(notebook), 1):
        cell.execution_count = number
    return notebook


def every_fault(notebook: NotebookNode) -> dict[str, list[str]]:
    found = {check.__name__: check(notebook) for check in checks.CHECKS}
    found["numbered_equations"] = checks.numbered_equations(notebook, "01")
    found["anatomy"] = checks.anatomy(notebook, "01")
    return {name: wrong for name, wrong in found.items() if wrong}


def test_a_good_chapter_passes() -> None:
    assert every_fault(chapter()) == {}


def change_code(number: int, **fields: object) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        checks.code_cells(notebook)[number - 1].update(fields)

    return change


def replace(old: str, new: str) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        assert any(old in cell.source for cell in notebook.cells)
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)

    return change


def add(cell: NotebookNode) -> Callable[[NotebookNode], None]:
    """Put a cell, run as the others are, after the last."""

    def change(notebook: NotebookNode) -> None:
        added = deepcopy(cell)
        if added.cell_type == "code":
            notebook.cells.append(new_markdown_cell("Words."))
            added.execution_count = len(checks.code_cells(notebook)) + 1
        notebook.cells.append(added)

    return change


def stored(output: NotebookNode, **metadata: object) -> Callable[[NotebookNode], None]:
    return add(code("x = 1", output, **metadata))


WIDGET = "application_vnd.jupyter.widget-view+json"
ERROR = new_output("error", ename="ValueError", evalue="no", traceback=[])
ROWS = "<table><thead><tr></tr></thead><tbody>" + "<tr><td>1</td></tr>" * 16 + "</tbody></table>"


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (change_code(1, source="import duetlib"), "setup_lines"),
        (change_code(2, execution_count=7), "was_run"),
        (change_code(2, execution_count=None), "was_run"),
        (add(code("x = 1\nx")), "was_run"),
        (add(code("check.add(f)")), "was_run"),
        (stored(ERROR), "clean_outputs"),
        (stored(printed("careful\n", name="stderr")), "clean_outputs"),
        (stored(shown(**{WIDGET: "{}"})), "clean_outputs"),
        (stored(shown(text_html="<script>x()</script>")), "clean_outputs"),
        (stored(shown(text_html='<img src="https://x.y/z.png">')), "clean_outputs"),
        (stored(shown(image_png="eA==")), "png_with_words"),
        (stored(shown(image_png="eA=="), mystnb={"image": {"alt": "a figure"}}), "png_with_words"),
        (add(new_markdown_cell("![](x.png)")), "png_with_words"),
        (add(code("\n".join(["x = 1"] * 31))), "short_cells"),
        (add(code("x = " + "9" * 95)), "narrow_code"),
        (add(code("assert notebook.median_ms(work, device) < 1")), "live_times"),
        (add(code("n, t = 2, perf_counter()\nfor s in [t]:\n    assert s < n")), "live_times"),
        (add(code("ms = lambda: median_ms(f)\nt = {}\nt[1] = ms()\nassert t[1]")), "live_times"),
        (change_code(2, metadata={}), "compared_outputs"),
        (stored(printed("1\n" * 31)), "few_rows"),
        (stored(shown(text_html=ROWS)), "few_rows"),
        (stored(printed("saved to /home/ada/x\n")), "no_machine_paths"),
        (replace("Some words.", "See ../data."), "no_machine_paths"),
        (replace("Some words.", "See {cite}`ha2017`."), "plain_markdown"),
        (replace("Some words.", "::: note"), "plain_markdown"),
        (replace("Some words.", "```{note}\n```"), "plain_markdown"),
        (replace("Some words.", "(eq-1)="), "plain_markdown"),
        (replace("Exercise 3", "Training 3"), "exercises"),
        (replace("Exercise 3", "Exercise 4"), "exercises"),
        (replace("●○○", ""), "exercises"),
        (replace("2 minutes", "soon"), "exercises"),
        (replace("    ...", "    return x"), "exercises"),
        (replace("check.add(f)", "f(1)"), "exercises"),
        (replace("<summary>Hint</summary>", ""), "exercises"),
        (replace("<summary>Solution</summary>", ""), "exercises"),
        (replace("```python", "```"), "exercises"),
        (replace("\\tag{1}", ""), "numbered_equations"),
        (replace("\\tag{1}", "\\tag{2}"), "numbered_equations"),
        (replace('<a id="eq-1"></a>', ""), "numbered_equations"),
        (replace("> **Predict.**", "Predict:"), "anatomy"),
        (replace("> **Facts.**", "Facts:"), "anatomy"),
        (replace("## Summary", "## The end"), "anatomy"),
        (replace("# 1. A title", "# A title"), "anatomy"),
    ],
)
def test_a_fault_is_seen_and_nothing_else(fault: Callable[[NotebookNode], None], name: str) -> None:
    notebook = chapter()
    fault(notebook)
    assert list(every_fault(notebook)) == [name]


def test_a_time_that_is_only_shown_is_no_fault() -> None:
    notebook = chapter()
    source = "n, t = 2, perf_counter()\nprint(t)\nassert n == 2\nt = n\nassert t == records.ms"
    add(code(source, printed()))(notebook)
    assert every_fault(notebook) == {}


def test_the_set_up_asks_for_what_the_cloud_needs() -> None:
    project = tomllib.loads((checks.ROOT / "pyproject.toml").read_text())["project"]
    needed = " ".join(["duetbook", *project["optional-dependencies"]["cloud"]])
    assert set(checks.CLOUD) <= set(re.findall(r"[\w-]+", needed))


def test_too_little_prose_is_seen() -> None:
    notebook = chapter()
    notebook.cells = [c for c in notebook.cells if c.source != "Some words."]
    assert list(every_fault(notebook)) == ["enough_prose"]


def test_a_figure_of_another_format_is_seen() -> None:
    notebook = chapter()
    alt = {"mystnb": {"image": {"alt": "A line that falls to zero"}}}
    output = new_output("display_data", data={"image/svg+xml": "<svg/>"})
    stored(output, **alt)(notebook)
    assert {"png_with_words", "clean_outputs"} == set(every_fault(notebook))


def test_the_plan_for_teachers_names_exercises_that_are_there() -> None:
    plan = (checks.ROOT / "book" / "teach.md").read_text()
    rows = [line for line in plan.splitlines() if ".ipynb)" in line and line.startswith("| ")]
    assert len(rows) == len(checks.EQUATIONS)
    for row in rows:
        path = next(p for p in CHAPTERS if f"({p.name})" in row)
        named = re.findall(r"\*([^*]+)\*", row)
        text = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells)
        there = re.findall(r"^> \*\*Exercise \d+ · ([^*]+?)\.?\*\*", text, re.MULTILINE)
        assert len(named) >= 3 and set(named) <= set(there), (path.name, named, there)


def test_the_plan_for_teachers_names_sections_that_are_there() -> None:
    plan = (checks.ROOT / "book" / "teach.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\*.*) \|$", plan, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(CHAPTERS) + 1))
    for (_, sections), path in zip(rows, CHAPTERS, strict=True):
        text = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells)
        there = re.findall(r"^##+ (.*)$", text, re.MULTILINE)
        for named in re.findall(r"\*([^*]+)\*", sections):
            assert any(heading.startswith(named) for heading in there), (path.name, named)
