"""What is looked for in a chapter's file, without running it. Each check returns what is wrong."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
URL = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
SETUP = (
    "from importlib.util import find_spec\n"
    'if not find_spec("duetbook"):\n'
    f'    %pip install -q "duetlib @ git+{URL}"\n'
    "from duetbook import notebook; device = notebook.start(seed=0)"
)
EQUATIONS: dict[str, tuple[int, ...]] = {
    "01": (1,),
    "02": (3, 4),
    "03": (2,),
    "04": (5, 6, 7),
    "05": (8, 9),
    "06": (),
    "07": (),
    "08": (),
    "09": (),
    "10": (),
    "11": (),
    "12": (),
}
CLOUD = ["duetbook", "fastapi", "uvicorn", "cryptography", "onnx", "onnxscript", "onnxruntime"]
WITH_CLOUD = ("10", "11")  # the chapters that need more than the bare package
MIME = {"text/plain", "text/html", "text/markdown", "text/latex", "image/png"}
CLOCKS = {"median_ms", "perf_counter", "process_time", "monotonic", "thread_time", "timeit"}
MAX_LINES = 30  # of a cell
MAX_WIDTH = 98  # characters of a line of code: a page of 1400 pixels shows no more
MAX_ROWS = 15  # of a table in an output: more would be a piece of MovieLens
MIN_COMPARED = 5
RAW_MYST = re.compile(r"^\s*:{3,}|^\s*`{3,}\{|\{[a-z:]+\}`|^\([\w-]+\)=\s*$", re.MULTILINE)
MACHINE_PATH = re.compile(
    r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|usr|content)/|\b[A-Z]:\\\\|file://|\.\./"
)
FENCE = re.compile(r"^(```+).*?^\1\s*$", re.MULTILINE | re.DOTALL)
EXERCISE = re.compile(r"^> \*\*Exercise (?P<number>\d+) · [^*]+\*\*(?P<first>.*)$", re.MULTILINE)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The Markdown cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def numbered_outputs(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Each output with the number of its cell among the code cells."""
    for number, cell in enumerate(code_cells(notebook), 1):
        for output in cell.outputs:
            yield number, output


def data_of(output: NotebookNode) -> dict[str, Any]:
    """What an output shows: kind, and content."""
    if output.output_type == "stream":
        return {"text/plain": output.text}
    return dict(output.get("data", {}))


def setup_of(chapter: str) -> str:
    """The lines that a chapter begins with; some need an extra of the package."""
    if chapter not in WITH_CLOUD:
        return SETUP
    needed = f"needed = {CLOUD}\nif not all(map(find_spec, needed)):".replace("'", '"')
    return SETUP.replace('if not find_spec("duetbook"):', needed).replace(
        '"duetlib @', '"duetlib[cloud] @'
    )


def setup_lines(notebook: NotebookNode) -> list[str]:
    """The first code cell sets up in the visible lines that all chapters share."""
    first = code_cells(notebook)[0].source if code_cells(notebook) else ""
    title = re.match(r"# (\d+)\.", next((c.source for c in prose_cells(notebook)), ""))
    right = setup_of(title[1] if title else "")
    return [] if first == right else [f"the first code cell is {first!r}"]


def was_run(notebook: NotebookNode) -> list[str]:
    """Cells are counted from 1 without a gap, and those that show something have shown it."""
    wrong = []
    for number, cell in enumerate(code_cells(notebook), 1):
        if cell.execution_count != number:
            wrong.append(f"cell {number} has the execution count {cell.execution_count}")
        if shows_something(cell.source) and not cell.outputs:
            wrong.append(f"cell {number} shows something, but no output is stored")
        for output in cell.outputs:
            if output.get("execution_count", number) != number:
                wrong.append(f"cell {number}: an output has another number")
    return wrong


def parsed(source: str) -> ast.Module:
    """A cell's code, with `pass` where IPython's own lines stand."""
    return ast.parse(re.sub(r"^( *)[!%].*$", r"\1pass", source, flags=re.MULTILINE))


def shows_something(source: str) -> bool:
    """Whether a cell prints at its top level, asks for a check, or ends in a name."""
    body = parsed(source).body
    if not body or source.rstrip().endswith(";"):
        return False
    calls = [node.value for node in body if isinstance(node, ast.Expr)]
    prints = any(isinstance(c, ast.Call) and ast.unparse(c.func) == "print" for c in calls)
    last = body[-1].value if isinstance(body[-1], ast.Expr) else None
    is_check = isinstance(last, ast.Call) and ast.unparse(last.func).startswith("check")
    return prints or is_check or isinstance(last, ast.Name | ast.Attribute | ast.Subscript)


def clean_outputs(notebook: NotebookNode) -> list[str]:
    """No error, nothing on stderr, no widget, no script, nothing from another host."""
    wrong = []
    for number, output in numbered_outputs(notebook):
        if output.output_type == "error":
            wrong.append(f"cell {number} raised {output.ename}")
        if output.output_type == "stream" and output.name != "stdout":
            wrong.append(f"cell {number} wrote to {output.name}")
        for kind, content in data_of(output).items():
            if kind not in MIME:
                wrong.append(f"cell {number} stored {kind}")
            if kind == "text/html" and re.search(r"<script|(?:src|href)=.?https?:", content):
                wrong.append(f"cell {number}: its HTML loads or runs something")
    return wrong


def png_with_words(notebook: NotebookNode) -> list[str]:
    """Every image is a PNG, and has a text that says what it shows."""
    wrong = []
    for number, cell in enumerate(code_cells(notebook), 1):
        kinds = {kind for output in cell.outputs for kind in data_of(output)}
        images = {kind for kind in kinds if kind.startswith("image/")}
        if images - {"image/png"}:
            wrong.append(f"cell {number} stored {sorted(images)}")
        words = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").split()
        if images and len(words) < 5:
            wrong.append(f"cell {number} has an image without a text of five words or more")
    for cell in prose_cells(notebook):
        if re.search(r"!\[\s*\]\(|<img(?![^>]*alt=\"\w)", cell.source):
            wrong.append(f"an image in the text has no alternative: {cell.source[:60]!r}")
    return wrong


def live_times(notebook: NotebookNode) -> list[str]:
    """No assertion hangs on a time that was just measured: another machine has another.

    What is assigned from a clock, or from a name that was, is followed from cell to cell.
    """
    timed, wrong = set(CLOCKS), []

    def of_a_clock(node: ast.AST) -> bool:
        nodes = list(ast.walk(node))
        return any(isinstance(n, ast.Name) and n.id in timed for n in nodes) or any(
            isinstance(n, ast.Attribute) and n.attr in CLOCKS for n in nodes
        )

    def assign(target: ast.expr, value: ast.expr) -> None:
        names = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
        if of_a_clock(value):
            timed.update(names)
        elif isinstance(target, ast.Name | ast.Tuple):  # not a part of what may be timed
            timed.difference_update(names)

    def follow(statement: ast.AST) -> None:
        match statement:
            case ast.Assign(targets=[ast.Tuple(elts=left)], value=ast.Tuple(elts=right)) if len(
                left
            ) == len(right):
                for pair in zip(left, right, strict=True):
                    assign(*pair)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    assign(target, value)
            case ast.AugAssign(target=ast.Name(id=name), value=value) if of_a_clock(value):
                timed.add(name)
            case ast.For(target=target, iter=value):
                assign(target, value)
            case ast.FunctionDef(name=name) if of_a_clock(statement):
                timed.add(name)
            case ast.Assert(test=test) if of_a_clock(test):
                wrong.append(f"a live time is asserted: {ast.unparse(test)!r}")
        for inner in ast.iter_child_nodes(statement):
            if isinstance(inner, ast.stmt):
                follow(inner)

    for cell in code_cells(notebook):
        follow(parsed(cell.source))
    return wrong


def short_cells(notebook: NotebookNode) -> list[str]:
    """No code cell is longer than can be seen at a glance."""
    counts = [len(c.source.strip().split("\n")) for c in code_cells(notebook)]
    return [f"cell {n} has {k} lines" for n, k in enumerate(counts, 1) if k > MAX_LINES]


def narrow_code(notebook: NotebookNode) -> list[str]:
    """No line of code is longer than the site shows without scrolling."""
    return [
        f"cell {number} has a line of {len(line)} characters: {line.strip()[:40]!r}"
        for number, cell in enumerate(code_cells(notebook), 1)
        for line in cell.source.split("\n")
        if len(line) > MAX_WIDTH
    ]


def enough_prose(notebook: NotebookNode) -> list[str]:
    """At least a cell of text for each cell of code."""
    prose, code = len(prose_cells(notebook)), len(code_cells(notebook))
    return [] if prose >= code else [f"{prose} cells of text for {code} of code"]


def compared_outputs(notebook: NotebookNode) -> list[str]:
    """Enough outputs are compared when the tests run the chapter, and each has one to compare."""
    tagged = [
        (n, cell)
        for n, cell in enumerate(code_cells(notebook), 1)
        if "nbval-check-output" in cell.metadata.get("tags", [])
    ]
    wrong = [f"cell {n} is to be compared, but has no output" for n, c in tagged if not c.outputs]
    if len(tagged) < MIN_COMPARED:
        wrong.append(f"{len(tagged)} outputs are compared, {MIN_COMPARED} are the least")
    return wrong


def exercises(notebook: NotebookNode) -> list[str]:
    """Three or more, each with difficulty, minutes, a stub, a check, a hint and a solution."""
    text = "\n\n".join(
        cell.source if cell.cell_type == "markdown" else f"<code>\n{cell.source}\n</code>"
        for cell in notebook.cells
    )
    found = list(EXERCISE.finditer(text))
    wrong = [] if len(found) >= 3 else [f"{len(found)} exercises, three are the least"]
    ends = [e.start() for e in found[1:]] + [len(text)]
    for place, (exercise, end) in enumerate(zip(found, ends, strict=True), 1):
        body = text[exercise.end() : end]
        needed = {
            f"the number {place}": int(exercise["number"]) == place,
            "difficulty and importance (●○)": len(re.findall("[●○]{3}", exercise["first"])) == 2,
            "minutes": "minute" in exercise["first"],
            "a stub (`...`)": re.search(r"<code>[^<]*^    \.\.\.$", body, re.MULTILINE),
            "a check": re.search(r"<code>[^<]*^check\w*\.", body, re.MULTILINE),
            "a hint": "<details><summary>Hint</summary>\n\n" in body,
            "a solution": re.search(
                r"<details><summary>Solution</summary>\n\n(?:(?!</details>).)*?^```python$",
                body,
                re.MULTILINE | re.DOTALL,
            ),
        }
        wrong += [f"exercise {exercise['number']} lacks {w}" for w, ok in needed.items() if not ok]
    return wrong


def plain_markdown(notebook: NotebookNode) -> list[str]:
    """No directive and no role of MyST: in Colab they would show as they are."""
    found = (RAW_MYST.search(cell.source) for cell in prose_cells(notebook))
    return [f"{match[0]!r} is MyST" for match in found if match]


def no_machine_paths(notebook: NotebookNode) -> list[str]:
    """Nothing names a folder of the machine that it was written on, or one above its own."""
    texts = [cell.source for cell in notebook.cells]
    texts += [
        str(content)
        for _, output in numbered_outputs(notebook)
        for kind, content in data_of(output).items()
        if kind.startswith("text/")
    ]
    found = ((MACHINE_PATH.search(text), text) for text in texts)
    return [
        f"{m[0]!r} in {text[max(0, m.start() - 30) : m.end() + 30]!r}" for m, text in found if m
    ]


def few_rows(notebook: NotebookNode) -> list[str]:
    """No output holds a table, or a print, with more rows than a reader needs."""
    wrong = []
    for number, output in numbered_outputs(notebook):
        data = data_of(output)
        html = data.get("text/html", "")
        body = html.split("</thead>")[-1]
        rows = body.count("<tr") if html else len(data.get("text/plain", "").splitlines())
        most = MAX_ROWS if html else 2 * MAX_ROWS
        if rows > most:
            wrong.append(f"cell {number} shows {rows} rows")
    return wrong


def numbered_equations(notebook: NotebookNode, chapter: str) -> list[str]:
    """The paper's equations of this chapter have their anchor, and right under it their number."""
    text = "\n\n".join(cell.source for cell in prose_cells(notebook))
    anchored = re.findall(
        r'^<a id="eq-(\d)"></a>[ \t]*\n+\$\$(?:(?!\$\$).)*?\\tag\{(\d)\}', text, re.M | re.S
    )
    wrong = [f"anchor eq-{a} stands over equation {b}" for a, b in anchored if a != b]
    have = [int(a) for a, _ in anchored]
    if sorted(have) != sorted(EQUATIONS[chapter]):
        wrong.append(f"equations {have} have anchor and tag, {EQUATIONS[chapter]} should")
    return wrong


def anatomy(notebook: NotebookNode, chapter: str) -> list[str]:
    """Title, aim, facts, something to predict, a summary and what comes next."""
    prose = [FENCE.sub("", cell.source) for cell in prose_cells(notebook)]
    text = "\n\n".join(prose)
    needed = {
        "a title with its number": prose and prose[0].startswith(f"# {int(chapter)}. "),
        "the aim": "> **What you can do afterwards.**" in text,
        "the facts": "> **Facts.**" in text,
        "a box to predict": "> **Predict.**" in text,
        "a box where it differs": "> **Differs from the paper.**" in text,
        "a summary": re.search(r"^#{2,3} Summary", text, re.MULTILINE),
        "what comes next": re.search(r"^#{2,3} What comes next", text, re.MULTILINE),
        "one heading of level one": len(re.findall(r"^# ", text, re.MULTILINE)) == 1,
    }
    return [f"it lacks {what}" for what, ok in needed.items() if not ok]


CHECKS: tuple[Callable[[NotebookNode], list[str]], ...] = (
    setup_lines,
    was_run,
    clean_outputs,
    png_with_words,
    live_times,
    short_cells,
    narrow_code,
    enough_prose,
    compared_outputs,
    exercises,
    plain_markdown,
    no_machine_paths,
    few_rows,
)
