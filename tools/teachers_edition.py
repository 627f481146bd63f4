"""The chapters for a class: without solutions, without outputs, ready to be run.

python tools/teachers_edition.py OUT/

Hints and self-checks stay, and each Predict box gets room for a guess. What a chapter links to
beside the other chapters leads to the repository, so that the folder can be handed out as it is.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nbformat
import yaml
from execute import METADATA, dumps, write_if_changed
from nbformat import NotebookNode

from data_prep.command import run_command

ROOT = Path(__file__).resolve().parent.parent
_SOLUTION = re.compile(
    r"^<details>\s*<summary>\s*Solution\b.*?^</details>[ \t]*\n?",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
GUESS = "**My guess:**\n\n**What came out, and what I believe now:**"
_PAGE_LINK = re.compile(r"\]\((?P<page>(?!\d\d_)[\w-]+\.(?:md|ipynb))(?P<anchor>#[\w-]+)?\)")


def without_solutions(text: str) -> str:
    """Markdown less its folded solutions."""
    return _SOLUTION.sub("", text).strip()


def absolute_links(text: str, pages: str) -> str:
    """Links to the book's other pages, `(setup.md)`, lead to where `pages` is."""
    return _PAGE_LINK.sub(lambda link: f"]({pages}/{link['page']}{link['anchor'] or ''})", text)


def teachers_edition(notebook: NotebookNode, pages: str) -> NotebookNode:
    """A chapter as a class gets it.

    Raises:
        ValueError: if a solution is still there, because it is not folded as the others are.
    """
    out = nbformat.v4.new_notebook(metadata=METADATA)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = absolute_links(without_solutions(cell.source), pages)
            if re.search(r"summary>\s*Solution", text, re.IGNORECASE):
                raise ValueError(f"a solution that could not be taken out: {text[:80]!r}")
            new = nbformat.v4.new_markdown_cell(text)
        else:
            new = nbformat.v4.new_code_cell(cell.source)
        new.id = f"cell-{len(out.cells) + 1}"
        if new.source:
            out.cells.append(new)
        if "> **Predict.**" in new.source:
            out.cells.append(nbformat.v4.new_markdown_cell(GUESS, id=f"cell-{len(out.cells) + 1}"))
    return out


def write(out: Path, book: Path) -> list[Path]:
    """Write the teacher's edition of every chapter in `book` to the folder `out`.

    Raises:
        ValueError: if `out` is the book's own folder, or lies in it; or if there are no chapters.
    """
    if out.resolve().is_relative_to(book.resolve()):
        raise ValueError(f"{out} is in the book's own folder: name another, outside of {book}")
    chapters = sorted(book.glob("[0-9][0-9]_*.ipynb"))
    if not chapters:
        raise ValueError(f"no chapters in {book}")
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    pages = f"{repository['url']}/blob/{repository['branch']}/{repository['path_to_book']}"
    for path in chapters:
        edition = teachers_edition(nbformat.read(path, as_version=4), pages)
        write_if_changed(out / path.name, dumps(edition))
    return [out / path.name for path in chapters]


def main() -> int:
    """Write them, and say where; 0 if it went well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder to write to; made if it is not there")
    try:
        for path in write(parser.parse_args().out, ROOT / "book"):
            print(path)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main)
