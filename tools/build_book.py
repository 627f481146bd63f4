"""Build the site: run the chapters that have changed, prepare their pages, call Jupyter Book.

python tools/build_book.py            build _build/html
python tools/build_book.py --store    then also keep the new outputs in book/*.ipynb
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any

import nbformat
import yaml
from enrich import after_heading, anchors, code_links, colab_url, enrich, glossary
from execute import (
    NotebookError,
    Run,
    change_key,
    digest,
    dumps,
    execute,
    library_digest,
    tree_digest,
    with_outputs,
    write_if_changed,
)
from nbformat import NotebookNode

from data_prep.command import run_command

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ("run_times", "api/*")  # entries of _toc.yml that this file writes
MATHJAX = ("es5/tex-mml-chtml.js", "es5/output/chtml/fonts/woff-v2/")
TITLE = re.compile(r"^# (?P<title>.+)$", re.MULTILINE)
GOAL = re.compile(r"^> \*\*What you can do afterwards\.?\*\* *(?P<goal>.*(?:\n>.*)*)", re.MULTILINE)
FIRST_RUN = re.compile(r"\*\*Facts\.\*\* (?P<time>[^,]+?) on two CPU cores")
NAME_ALL = (
    "The chapters need ratings, titles and genres. Where they cannot be fetched, let DUET_ML100K "
    "name ml-100k.zip, or the folder ml-100k with u.data and u.item in it."
)
TOOLS = ("jupyter-book", "sphinx", "sphinx-book-theme", "myst-nb", "sphinxcontrib-bibtex")


class BuildError(Exception):
    """What stops the build, in words for the person who started it."""


def say(name: str, what: str, end: str = "\n") -> None:
    """One line of progress. With `end=""` the next line takes its place on a terminal."""
    if end == "" and not sys.stdout.isatty():
        end = "\n"
    start = "\r\033[K" if sys.stdout.isatty() else ""
    print(f"{start}{name:<40} {what}", end=end, flush=True)


# --- what the book consists of ---------------------------------------------------------------


def entries(toc: Any) -> Iterator[str]:
    """All files and globs of a table of contents, in reading order."""
    if isinstance(toc, list):
        for part in toc:
            yield from entries(part)
    elif isinstance(toc, dict):
        yield from (toc[key] for key in ("root", "file", "glob") if key in toc)
        for key in ("parts", "chapters", "sections"):
            yield from entries(toc.get(key))


def sources(book: Path) -> list[Path]:
    """The source file of each page.

    Raises:
        BuildError: if the table of contents names a page that is not there.
    """
    found = []
    for name in entries(yaml.safe_load((book / "_toc.yml").read_text())):
        if name in GENERATED:
            continue
        candidates = [book / f"{name}{suffix}" for suffix in (".ipynb", ".md")]
        page = next((path for path in candidates if path.exists()), None)
        if page is None:
            raise BuildError(f"book/_toc.yml names {name}, but neither .ipynb nor .md is there")
        found.append(page)
    return found


def read_notebook(path: Path) -> NotebookNode:
    """A notebook in the current format, whatever ids its file has."""
    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"cell-{number}"
    notebook.nbformat_minor = 5
    return notebook


def markdown_of(path: Path) -> str:
    """All the Markdown of a page."""
    if path.suffix == ".md":
        return path.read_text()
    cells = read_notebook(path).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


# --- running the chapters --------------------------------------------------------------------


def get_data() -> str:
    """Have ratings, titles and genres fetched, if they are not there yet; a hash of them all.

    Raises:
        BuildError: if they cannot be had, with what was tried.
    """
    from data_prep import DataError, load_movielens
    from data_prep.sources import DATASETS, default_cache, from_wheel

    say("data", "ml-100k ...", end="")
    try:
        ratings = load_movielens("ml-100k")
        if not ratings.genre_names:  # u.data alone was named: the wheel's titles go to the cache
            from_wheel(DATASETS["ml-100k"], default_cache())
            ratings = load_movielens("ml-100k")
    except (DataError, OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{error}\n{NAME_ALL}") from error
    if not ratings.genre_names:
        raise BuildError(NAME_ALL)
    say("data", f"{ratings.label}: {ratings.n_users} users, {ratings.n_items} films")
    return digest([ratings.sha256, *ratings.titles, ratings.genres.tobytes()])


def run_chapters(chapters: list[Path], executed: Path) -> None:
    """Run each chapter whose key has changed; keep the outcome in `executed`.

    Raises:
        BuildError: after the last chapter, if some of them failed, with all the reasons.
    """
    if not chapters:
        return
    library, data = library_digest(ROOT), get_data()
    failures = []
    for path in chapters:
        name, kept = path.stem, executed / path.name
        notebook = read_notebook(path)
        key = change_key(notebook, library, data)
        if kept.exists() and run_of(read_notebook(kept)).key == key:
            say(name, "unchanged")
            continue
        say(name, "running ...", end="")
        try:
            ran = execute(name, notebook, key)
        except NotebookError as error:
            say(name, "FAILED")
            failures.append(str(error))
            continue
        write_if_changed(kept, dumps(ran))
        run = run_of(ran)
        say(name, f"executed  {run.seconds:6.1f} s  {run.peak_gb:.1f} GB peak")
    if failures:
        raise BuildError("\n\n".join(failures))


def run_of(notebook: NotebookNode) -> Run:
    """How an executed notebook was run."""
    return Run(**notebook.metadata["duet"])


# --- the pages -------------------------------------------------------------------------------


def run_card(run: Run) -> str:
    """The box that closes a chapter."""
    return (
        "::::{admonition} This page was run\n:class: runcard\n\n"
        f"on {run.date} in {run.seconds:.0f} seconds (the first time longer: models are trained), "
        f"with {run.peak_gb:.1f} GB of memory at most, "
        f"on {run.machine}; Python {run.python}, PyTorch {run.torch}. "
        "[All chapters](run_times.md).\n::::"
    )


def chapter_page(source: NotebookNode, ran: NotebookNode, known: set[str], url: str) -> str:
    """A chapter as the site shows it: outputs, enriched text, the Colab link and the run card."""
    notebook = with_outputs(source, ran)
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    for cell in prose:
        cell.source = enrich(cell.source, known)
    prose[0].source = after_heading(prose[0].source, f"[Open in Colab]({url}){{.colab}}")
    card = nbformat.v4.new_markdown_cell(run_card(run_of(ran)), id="run-card")
    notebook.cells.append(card)
    return dumps(notebook)


def run_times(runs: dict[str, Run], first: dict[str, str]) -> str:
    """The page that says how long each chapter takes. `first`: what a chapter says of itself."""
    rows = [
        f"| []({name}.ipynb) | {first[name]} | {run.seconds:.0f} s | {run.peak_gb:.1f} GB "
        f"| {run.date} |"
        for name, run in runs.items()
    ]
    machines = sorted({f"- {run.machine}; PyTorch {run.torch}" for run in runs.values()})
    return "\n".join(
        [
            "# Execution times",
            "",
            "The build runs a chapter again when its code, the library, the records or the",
            "data change. The *first* run is the long one: it trains, on two CPU cores here.",
            "After that, as in most of the *last* runs, what was trained is read from disk.",
            "Memory is the peak of the chapter's own process.",
            "",
            "| chapter | first run | last run | memory | on |",
            "| :-- | :-- | --: | --: | :-- |",
            *rows,
            "",
            "Run on:",
            "",
            *machines,
            "",
        ]
    )


def in_order(path: Path) -> list[str | int]:
    """A key that sorts chapter10 behind chapter2."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def modules(root: Path) -> dict[str, str]:
    """The public modules of the three packages, each with the first line of its docstring."""
    found = {}
    for package in (root / "duetlib", root / "data_prep", root / "book/duetbook"):
        for path in sorted(package.rglob("*.py"), key=in_order):
            inside = path.relative_to(package.parent).with_suffix("").parts
            parts = inside[:-1] if inside[-1] == "__init__" else inside
            if len(parts) == 1 or any(part.startswith("_") for part in parts):
                continue
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            found[".".join(parts)] = docstring.split("\n\n")[0].replace("\n", " ")
    return found


def api_page(module: str) -> str:
    """The reference page of a module: everything public in it that has a docstring."""
    return f"# {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n```\n"


def with_modules(toc: str, names: Iterable[str]) -> str:
    """The table of contents with a line for each module, in order: a glob sorts 10 before 2."""
    return re.sub(
        r"^( *)- glob: api/\*$",
        lambda glob: "\n".join(f"{glob[1]}- file: api/{name}" for name in names),
        toc,
        flags=re.MULTILINE,
    )


def api_table(found: dict[str, str]) -> str:
    """The table of modules that the reference opens with."""
    rows = [f"| [{name}](api/{name}.md) | {line} |" for name, line in found.items()]
    return "\n".join(["| module | purpose |", "| :-- | :-- |", *rows])


def chapter_list(chapters: list[Path]) -> str:
    """The chapters in order, each with what its readers can do afterwards.

    Raises:
        BuildError: if a chapter does not say so.
    """
    lines = []
    for path in chapters:
        text = markdown_of(path)
        title, goal = TITLE.search(text), GOAL.search(text)
        if title is None or goal is None:
            raise BuildError(f"{path.name} lacks a title or a box `What you can do afterwards`")
        sentence = " ".join(goal["goal"].replace("\n>", " ").split())
        lines.append(f"- **[{title['title']}]({path.name})**  \n  {sentence}")
    return "\n".join(lines)


def mathjax() -> dict[str, bytes]:
    """MathJax, as much of it as the site needs, from the wheel that holds it.

    Raises:
        BuildError: if the wheel is not installed.
    """
    try:
        held = files("django-static-mathjax") or []
    except PackageNotFoundError:
        raise BuildError(
            "MathJax is missing: pip install --no-deps django-static-mathjax"
        ) from None
    return {
        "_extra/vendor/mathjax/" + path.as_posix().split("/es5/")[1]: Path(
            str(path.locate())
        ).read_bytes()
        for path in held
        if path.as_posix().startswith(tuple(f"mathjax/static/mathjax/{part}" for part in MATHJAX))
    }


def pages(book: Path, executed: Path, config: dict[str, Any]) -> dict[str, str | bytes]:
    """Every file that Sphinx gets to see: path under the source folder, and content."""
    paths = sources(book)
    chapters = [path for path in paths if path.suffix == ".ipynb"]
    known = anchors(markdown_of(path) for path in paths)
    api = modules(ROOT)
    out: dict[str, str | bytes] = {}
    runs = {}
    first = {}
    for path in paths:
        if path.suffix == ".ipynb":
            facts = FIRST_RUN.search(markdown_of(path))
            first[path.stem] = facts["time"].lower() if facts else "the same"
            ran = read_notebook(executed / path.name)
            runs[path.stem] = run_of(ran)
            url = colab_url(config["repository"], path.stem)
            out[path.name] = chapter_page(read_notebook(path), ran, known, url)
        else:
            text = path.read_text().replace("<!-- modules -->", api_table(api))
            text = text.replace(
                "<!-- chapters -->", chapter_list([p for p in chapters if p.name[:2].isdigit()])
            )
            text = text.replace("<!-- references -->", "```{bibliography}\n:all:\n```")
            if path.stem == "paper_map":
                text = code_links(text, config["repository"])
            if path.stem == "glossary":
                text = glossary(text)
            out[path.name] = enrich(text, known)
    out["run_times.md"] = run_times(runs, first)
    out["_toc.yml"] = with_modules((book / "_toc.yml").read_text(), api)
    out |= {f"api/{name}.md": api_page(name) for name in api}
    others = [book / "references.bib", *(f for f in (book / "_static").rglob("*") if f.is_file())]
    out |= {path.relative_to(book).as_posix(): path.read_bytes() for path in others}
    return out | mathjax()


def prepare(content: dict[str, str | bytes], folder: Path) -> None:
    """Bring a folder to hold `content` and nothing else; what is right already is left alone."""
    for path in list(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in content:
            path.unlink()
    for name, data in content.items():
        write_if_changed(folder / name, data)


# --- Jupyter Book ----------------------------------------------------------------------------


def site_keys(content: dict[str, str | bytes]) -> dict[str, str]:
    """Two keys: `all` changes with anything that the site shows, `frame` with what every page
    shares (the list of pages, the settings, extensions and tools)."""
    shared = [ROOT / "_config.yml", *(ROOT / "book/_ext").glob("*.py")]
    static = [name for name in content if name.startswith(("_static/", "_toc"))]
    frame = digest(
        [
            tree_digest(shared, ROOT),
            *sorted(content),
            *(content[name] for name in sorted(static)),
            *(version(tool) for tool in TOOLS),
        ]
    )
    everything = digest([frame, library_digest(ROOT), *(content[name] for name in sorted(content))])
    return {"frame": frame, "all": everything}


def complaints(output: str) -> str:
    """The warnings in what Jupyter Book printed, or its last lines if it did not get that far."""
    lines = re.sub(r"\x1b\[[\d;]*m", "", output).splitlines()
    warnings = [line for line in lines if "WARNING" in line or "ERROR" in line]
    return "\n".join(warnings or lines[-60:])


def build_site(source: Path, build: Path, keys: dict[str, str]) -> None:
    """Call Jupyter Book, unless nothing has changed since it last succeeded.

    Raises:
        BuildError: if it fails or warns.
    """
    kept, html = build / "site_keys.json", build / "html"
    before = json.loads(kept.read_text()) if kept.exists() else {}
    if before == keys and (html / "index.html").exists():
        say("site", "unchanged")
        return
    kept.unlink(missing_ok=True)
    if before.get("frame") != keys["frame"]:  # else pages that are gone would stay
        shutil.rmtree(html, ignore_errors=True)
        shutil.rmtree(build / ".doctrees", ignore_errors=True)
    say("site", "running jupyter-book ...", end="")
    started = time.perf_counter()
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(source)]
    command += ["--config", str(ROOT / "_config.yml"), "--path-output", str(build.parent)]
    command += ["-W", "-n", "--keep-going", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "book/_ext"), "MPLBACKEND": "agg"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        # pages without a warning would not be read again, nor would those with one
        shutil.rmtree(build / ".doctrees", ignore_errors=True)
        raise BuildError(complaints(done.stdout + done.stderr))
    drop_old_images(html)
    write_if_changed(kept, json.dumps(keys))
    say("site", f"built     {time.perf_counter() - started:6.1f} s")


def drop_old_images(html: Path) -> None:
    """Remove the figures of earlier builds, which no page shows any more: Sphinx keeps them."""
    shown = "".join(page.read_text() for page in html.rglob("*.html"))
    for image in (html / "_images").glob("*"):
        if image.name not in shown:
            image.unlink()


def store(chapters: list[Path], executed: Path) -> None:
    """Keep the outputs of the last runs in the sources."""
    for path in chapters:
        notebook = with_outputs(read_notebook(path), read_notebook(executed / path.name))
        if write_if_changed(path, dumps(notebook)):
            say(path.stem, "stored")


def main() -> int:
    """Build all; 0 if it went well."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--store", action="store_true", help="keep new outputs in book/*.ipynb")
    options = parser.parse_args()
    book, build = ROOT / "book", ROOT / "_build"
    try:
        config = yaml.safe_load((ROOT / "_config.yml").read_text())
        chapters = [path for path in sources(book) if path.suffix == ".ipynb"]
        run_chapters(chapters, build / "executed")
        if options.store:
            store(chapters, build / "executed")
        content = pages(book, build / "executed", config)
        prepare(content, build / "src")
        build_site(build / "src", build, site_keys(content))
    except (BuildError, NotebookError) as error:
        print(f"\nThe book was not built.\n{error}", file=sys.stderr)
        return 1
    count = sum(1 for _ in (build / "html").rglob("*.html"))
    say("", f"{count} pages  {(build / 'html/index.html').as_uri()}")
    return 0


if __name__ == "__main__":
    run_command(main)
