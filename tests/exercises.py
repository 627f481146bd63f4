"""The exercises of a chapter as its notebook has them: stubs, and solutions folded under hints."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
from duetbook.checks import Verdict

BOOK = Path(__file__).resolve().parent.parent / "book"
CHAPTERS = sorted(path.stem for path in BOOK.glob("[0-9]*.ipynb"))


@cache
def sources(chapter: str, kind: str) -> list[str]:
    """The texts of a chapter's cells of one kind; `chapter` is its file's name without an end."""
    cells = nbformat.read(BOOK / f"{chapter}.ipynb", as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == kind]


def defined(code: str, name: str, **space: Any) -> Any:
    """Run code on its own, and take a function from it."""
    exec(code, space)
    return space[name]


def defining(texts: list[str], name: str) -> list[str]:
    """The texts that define a function of this name."""
    return [text for text in texts if f"def {name}(" in text]


def solution_text(chapter: str, name: str) -> str:
    """The code of a chapter's one solution of this name."""
    blocks = re.findall(r"```python\n(.*?)```", "\n".join(sources(chapter, "markdown")), re.DOTALL)
    (code,) = defining(blocks, name)
    return code


def solution(chapter: str, name: str) -> Any:
    """The function that a chapter's one solution of this name defines."""
    return defined(solution_text(chapter, name), name)


def stub(chapter: str, name: str) -> Any:
    """The function that a reader finds and is to write, without what stands around it."""
    pattern = re.compile(rf"^def {name}\([^\n]*\):\n    \.\.\.$", re.MULTILINE)
    (code,) = pattern.findall("\n".join(sources(chapter, "code")))
    return defined(code, name)


def first_cell(chapter: str) -> str:
    """The code cell that each chapter begins with."""
    return sources(chapter, "code")[0]


def cells(chapter: str) -> dict[str, tuple[str, str]]:
    """The two code cells of each exercise, by the function's name: with its stub, and its check."""
    code = sources(chapter, "code")
    calls = [re.search(r"^check\.\w+\((\w+)\)$", text, re.MULTILINE) for text in code]
    return {call[1]: (code[n - 1], code[n]) for n, call in enumerate(calls) if call}


def checks(chapter: str) -> dict[str, Callable[[Any], Verdict]]:
    """The checks that a chapter calls, by the name of the function that is handed to each."""
    module = import_module(f"duetbook.checks.chapter{int(chapter[:2])}")
    code = "\n".join(sources(chapter, "code"))
    calls = re.findall(r"^check\.(\w+)\((\w+)\)$", code, re.MULTILINE)
    return {name: getattr(module, check) for check, name in calls}
