"""Nothing of CK+ is shown or kept: of the licensed data only numbers may reach what is published.

What a picture shows cannot be told without the data. So this is asked instead: that nothing that
is published opens CK+, that every picture of the site is a stored output of such a page, and that
what is kept beside them is text, too short to hold a face. Then each rule meets a leak.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import notebook_checks as checks
import numpy as np
import pytest
from conftest import ROOT
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

OPENS = re.compile(r"load_ckplus|data_prep\.ckplus|DUET_CKPLUS|cohn-kanade|import ckplus")
SEQUENCE = re.compile(r"(?<![A-Za-z0-9])S\d{3}[_/]\d{3}(?!\d)")  # as its files are named
SAID = re.compile(rf"{SEQUENCE.pattern}|\bckplus\b.* videos of ")  # or as what is read prints
READERS = re.compile(r"load_records|table\w*|startswith")  # may be asked for numbers on CK+
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ico", ".pdf"}
ARRAYS = {".npy", ".npz", ".pt", ".pth", ".pkl", ".h5", ".mat", ".safetensors", ".parquet", ".bin"}
MAX_NUMBERS = 2000  # of a record: the smallest face in use, 48 × 48, has more
MAX_TEXT = 500  # characters of a value


# --- the checks: each returns what is wrong --------------------------------------------------


def opens_ckplus(code: str) -> list[str]:
    """Whether a notebook's code reads CK+. Numbers are had from the records, by their readers."""
    wrong = [f"the code has {found!r}" for found in OPENS.findall(code)]
    tree = checks.parsed(code)
    allowed = {id(leaf) for node in ast.walk(tree) if _asks(node) for leaf in ast.walk(node)}
    return wrong + [
        f"line {node.lineno} names {node.value!r} outside of what reads records"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and str(node.value).startswith("ckplus")
        and id(node) not in allowed
    ]


def _asks(node: ast.AST) -> bool:
    """A comparison, or a call of what reads records."""
    if isinstance(node, ast.Call):
        return READERS.fullmatch(ast.unparse(node.func).rpartition(".")[2]) is not None
    return isinstance(node, ast.Compare)


def shown_by(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """Kind and content of everything that a notebook's stored outputs show."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            yield "text/plain", str(output.get("text", ""))
            yield from ((kind, str(data)) for kind, data in output.get("data", {}).items())
        yield from ((k, str(d)) for a in cell.get("attachments", {}).values() for k, d in a.items())


def notebook_leaks(notebook: NotebookNode) -> list[str]:
    """A notebook that opens CK+, shows its names, or carries pictures besides its outputs."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    wrong = [line for source in code for line in opens_ckplus(source)]
    for kind, content in shown_by(notebook):
        if kind.startswith("text/") and (found := SAID.search(content)):
            wrong.append(f"an output says {found[0]!r}")
        if kind.startswith("text/") and holds_picture(content):
            wrong.append(f"a picture within {kind}")
    prose = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    attached = any(cell.get("attachments") for cell in notebook.cells)
    return wrong + ["a picture in the prose"] * (attached or holds_picture(prose))


def holds_picture(text: str) -> bool:
    """Whether HTML, SVG or Markdown carries a picture within itself, other than a drawing."""
    return text.count("data:image/") > text.count("data:image/svg") or "<image" in text


def pictures_of(notebook: NotebookNode) -> set[str]:
    """SHA-256 of each picture among the outputs."""
    return {
        hashlib.sha256(base64.b64decode(content)).hexdigest()
        for kind, content in shown_by(notebook)
        if kind.startswith("image/") and kind != "image/svg+xml"
    }


def site_leaks(site: Path, notebooks: list[NotebookNode]) -> list[str]:
    """Pictures of a site that no notebook's output is, and arrays."""
    known = {one for notebook in notebooks for one in pictures_of(notebook)}
    wrong = []
    for path in sorted(path for path in site.rglob("*") if path.is_file()):
        name = path.relative_to(site)
        ours = name.parts[0] not in ("_static", "vendor")  # the theme's, and MathJax
        picture = ours and path.suffix.lower() in PICTURES
        if picture and hashlib.sha256(path.read_bytes()).hexdigest() not in known:
            wrong.append(f"{name} is the output of no notebook")
        if path.suffix.lower() in ARRAYS:
            wrong.append(f"{name} holds arrays")
        if path.suffix in (".html", ".svg") and holds_picture(path.read_text()):
            wrong.append(f"{name} has a picture within")
    return wrong


def file_leaks(root: Path) -> list[str]:
    """Files of the project that hold pictures or arrays. Drawings are SVG, made of lines."""
    wrong = []
    for path in tree(root):
        if path.suffix.lower() in PICTURES | ARRAYS:
            wrong.append(f"{path.relative_to(root)} holds pictures or arrays")
        if path.suffix == ".svg" and holds_picture(path.read_text()):
            wrong.append(f"{path.relative_to(root)} has a picture within")
    return wrong


def tree(root: Path) -> Iterator[Path]:
    """The project's own files, less what is built or installed there."""
    folders = [
        root / name for name in ("book", "data_prep", "duetlib", "results", "tests", "tools")
    ]
    found = [path for folder in folders for path in folder.rglob("*")] + list(root.glob("*"))
    built = {"__pycache__", ".ipynb_checkpoints"}
    return (path for path in sorted(found) if path.is_file() and not built & set(path.parts))


def record_leaks(line: str) -> list[str]:
    """What in a record on CK+ is no number, or too much of them."""
    record = json.loads(line)
    if "ckplus" not in json.dumps(record.get("dataset", "")):
        return []
    curve = record.get("curve", [])  # is long, and made of epochs: a few named numbers each
    epochs = [row.get("epoch") for row in curve if isinstance(row, dict) and len(row) <= 12]
    is_curve = epochs == list(range(1, len(curve) + 1))
    rest = {name: value for name, value in record.items() if name != "curve" or not is_curve}
    numbers = sum(not isinstance(leaf, str) for leaf in leaves(rest))
    texts = {leaf for leaf in leaves(record) if isinstance(leaf, str)}
    wrong = [f"{numbers:,} numbers are enough for a face"] if numbers > MAX_NUMBERS else []
    wrong += [f"a text of {len(text):,} characters" for text in texts if len(text) > MAX_TEXT]
    if sum(map(len, texts)) > 8 * MAX_TEXT:
        wrong.append("more text than numbers need")
    return wrong + [f"it names {found[0]!r}" for text in texts if (found := SEQUENCE.search(text))]


def leaves(value: Any) -> Iterator[Any]:
    """All values within a value, and the names of its fields."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def drawing_leaks(code: str) -> list[str]:
    """Code that draws takes frames from `pictures()`, which refuses CK+'s, and never opens it."""
    frames = [
        f"line {node.lineno} reads .frames: take pictures()"
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Attribute) and node.attr == "frames"
    ]
    return frames + [f"it has {found!r}" for found in OPENS.findall(code)]


# --- what is published -----------------------------------------------------------------------

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    return nbformat.v4.reads(path.read_text())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_shows_anything_of_ck_plus(path):
    assert notebook_leaks(read(path)) == []


def test_no_picture_of_the_site_is_from_elsewhere(html):
    executed = sorted((ROOT / "_build/executed").glob("*.ipynb"))
    assert site_leaks(html, [read(path) for path in [*NOTEBOOKS, *executed]]) == []
    assert [line for path in executed for line in notebook_leaks(read(path))] == []


def test_no_file_of_the_project_holds_pictures_or_arrays():
    assert file_leaks(ROOT) == []


def test_records_on_ck_plus_are_numbers():
    lines = [line for path in (ROOT / "results").glob("*.jsonl") for line in path.open()]
    assert len(lines) > 100
    assert [wrong for line in lines for wrong in record_leaks(line)] == []
    assert {path.suffix for path in (ROOT / "results").iterdir()} <= {".jsonl", ".md"}


def test_what_draws_takes_pictures_that_may_be_shown():
    files = sorted((ROOT / "book/duetbook/plots").rglob("*.py"))
    assert len(files) > 5
    assert {path.name: found for path in files if (found := drawing_leaks(path.read_text()))} == {}


# --- each check, on a leak -------------------------------------------------------------------


def notebook(source: str = "1 + 1", **data: str) -> NotebookNode:
    shown = {kind.replace("_", "/", 1): content for kind, content in data.items()}
    output = new_output("display_data", data=shown)
    return new_notebook(cells=[new_code_cell(source, outputs=[output])])


@pytest.mark.parametrize(
    "code",
    [
        "from data_prep.ckplus import load_ckplus",
        "from data_prep import ckplus",
        "import os; folder = os.environ['DUET_CKPLUS']",
        "open('cohn-kanade-images/S005/001/S005_001_00000001.png')",
        "videos = vision_experiments.load('ckplus', 224)",
        "videos = load(dataset='ckplus')",
        "for name in ('faces', 'ckplus'):\n    load(name)",
        "name = 'ckplus'",
        "plot.sheet(load('ckplus (not whole)'))",
    ],
)
def test_a_cell_that_opens_ck_plus_is_found(code):
    assert opens_ckplus(code) and notebook_leaks(notebook(code))


@pytest.mark.parametrize(
    "code",
    [
        "records = load_records(dataset='ckplus')",
        "chosen = [r for r in records if r['dataset'] == 'ckplus']",
        "chosen = [r for r in records if r['dataset'].startswith('ckplus')]",
        "tables.table_2(load_records(), 'ckplus')",
        "!pip install faces\n%matplotlib inline\nload_faces(64)",
        "print('CK+ is read by python -m data_prep ckplus')",
    ],
)
def test_a_cell_that_reads_records_is_left_alone(code):
    assert opens_ckplus(code) == []


def test_an_output_with_its_names_or_a_hidden_picture_is_found():
    assert notebook_leaks(notebook(text_plain="the numbers", image_png="eA==")) == []
    assert notebook_leaks(notebook(text_plain="worst: S005_001_00000011.png"))
    assert notebook_leaks(notebook(text_plain="ckplus: 327 videos of 118 people, 6 frames"))
    assert notebook_leaks(notebook(text_html="<img src='data:image/png;base64,iVBORw0K'>"))
    said = new_notebook(cells=[new_code_cell("", outputs=[new_output("stream", text="S010/004")])])
    assert notebook_leaks(said)
    attached = new_notebook(cells=[nbformat.v4.new_markdown_cell("![](attachment:a.png)")])
    attached.cells[0]["attachments"] = {"a.png": {"image/png": "eA=="}}
    assert notebook_leaks(attached)


def face() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)


@pytest.fixture
def site(tmp_path) -> tuple[Path, NotebookNode]:
    """A site with one figure, and the notebook that has made it."""
    (tmp_path / "_images").mkdir()
    figure = tmp_path / "_images" / "figure.png"
    Image.fromarray(face().T).save(figure)
    (tmp_path / "page.html").write_text('<img src="_images/figure.png">')
    return tmp_path, notebook(image_png=base64.b64encode(figure.read_bytes()).decode())


def leak_image(folder: Path) -> None:
    Image.fromarray(face()).save(folder / "_images" / "montage.jpg")


def leak_download(folder: Path) -> None:
    (folder / "_downloads").mkdir()
    Image.fromarray(face()).save(folder / "_downloads" / "crop.png")


def leak_inline(folder: Path) -> None:
    coded = base64.b64encode(face().tobytes()).decode()
    (folder / "page.html").write_text(f'<img src="data:image/png;base64,{coded}">')


def leak_svg(folder: Path) -> None:
    (folder / "a.svg").write_text('<svg><image href="crop.png"/></svg>')


def leak_array(folder: Path) -> None:
    np.savez(folder / "frames.npz", frames=face())


@pytest.mark.parametrize("leak", [leak_image, leak_download, leak_inline, leak_svg, leak_array])
def test_a_picture_in_the_site_is_found(site, leak):
    folder, made_by = site
    assert site_leaks(folder, [made_by]) == []
    leak(folder)
    assert len(site_leaks(folder, [made_by])) == 1


@pytest.mark.parametrize("name", ["results/face.png", "book/a.JPG", "tests/crop.npz", "frames.npy"])
def test_a_picture_among_the_files_is_found(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    (path.parent / "notes.md").write_text("text")
    assert file_leaks(tmp_path) == []
    path.write_bytes(b"")
    assert file_leaks(tmp_path) == [f"{name} holds pictures or arrays"]


def record(**fields: object) -> str:
    curve = [{"loss": 1 / (i + 1), "accuracy": 0.5} for i in range(100)]
    whole = {"dataset": "ckplus (not whole: 4 of 327 videos)", "metrics": {"accuracy": 0.9}}
    return json.dumps(whole | {"curve": curve, "confusion": np.eye(8).tolist()} | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"frame": face().tolist()},
        {"frame": face().ravel().tolist()},
        {"crop": base64.b64encode(face().tobytes()).decode()},
        {"crop": [row.tobytes().hex() for row in face()]},
        {"crop": {row.tobytes().hex(): 1 for row in face()}},
        {"worst": "S005_001_00000011"},
    ],
)
def test_a_face_in_a_record_is_found(fields):
    assert record_leaks(record()) == []
    assert record_leaks(record(**fields))
    assert record_leaks(record(**fields, dataset="faces (drawn stand-in)")) == []


def test_a_curve_is_no_face_and_a_face_is_no_curve():
    curve = [{"epoch": e, "loss": 0.1, **{str(n): 0.5 for n in range(8)}} for e in range(1, 401)]
    assert record_leaks(record(curve=curve)) == []
    assert record_leaks(record(curve=curve[1:]))
    assert record_leaks(record(curve=face().tolist()))


def test_a_figure_that_takes_the_frames_themselves_is_found():
    assert drawing_leaks("def sheet(videos):\n    return videos.pictures()[:8]") == []
    assert drawing_leaks("def sheet(videos):\n    return videos.frames[:8]")
    assert drawing_leaks("from data_prep.ckplus import load_ckplus")
