"""Sections of docstrings (Args, Returns, Raises, Source) as the reference pages show them.

Ours name two arguments in one line where they are short, `x: [B, N]. y: [B]`, which the usual
extension for this style takes for one.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from sphinx.application import Sphinx

TITLES = {"Args": "Arguments", "Attributes": "Attributes", "Raises": "Raises"}
_SECTION = re.compile(r"^(?P<name>[A-Z][a-z]+):(?: (?P<rest>\S.*))?$")
_MAIL = re.compile(r"(?<=\w)@(?=\w)")  # HR@10 is nobody's address
_KEPT = ("Returns", "Yields", "Source", "Example")


def known_names(thing: Any) -> set[str]:
    """What an entry of `Args` or `Attributes` may be called: parameters and annotated names."""
    names = set(getattr(thing, "__annotations__", {}))
    try:
        names |= set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        pass
    return names


def entries(body: list[str], known: set[str]) -> list[tuple[str, str]]:
    """The entries of a section, as names and text."""
    text = "\n".join(body)
    names = "|".join(sorted(map(re.escape, known), key=len, reverse=True))
    one = rf"\*{{0,2}}(?:{names})" if names else r"(?!)"
    start = rf"(?:(?<=[.;)`])|(?<=[)`],))\s(?={one}(?:, {one})*: )|^(?=\S[^:\n]*: )"
    found = []
    for part in re.split(start, text, flags=re.MULTILINE):
        name, colon, meaning = part.strip().partition(": ")
        if colon:
            found.append((name, " ".join(meaning.rstrip(",;").split())))
    return found


def fields(lines: list[str], known: set[str]) -> list[str]:
    """The lines of a docstring, its sections turned into fields of reStructuredText."""
    out: list[str] = []
    rest = list(lines)
    while rest:
        line = rest.pop(0)
        section = _SECTION.match(line)
        if section is None or section["name"] not in (*TITLES, *_KEPT):
            out.append(line)
            continue
        body = [section["rest"]] if section["rest"] else []
        if section["rest"]:  # a section of one paragraph, begun on the line of its name
            while rest and rest[0].strip():
                body.append(rest.pop(0))
        else:
            while rest and (not rest[0].strip() or rest[0].startswith("    ")):
                body.append(rest.pop(0))
        while body and not body[-1].strip():
            body.pop()
        if section["name"] in _KEPT:
            out += ["", f":{section['name']}:", *(f"    {b.strip()}" for b in body), ""]
            continue
        out += ["", f":{TITLES[section['name']]}:"]
        for name, meaning in entries(inspect.cleandoc("\n".join(body)).split("\n"), known):
            bold = ", ".join(f"**{n}**" for n in name.replace("*", "").split(", "))
            out.append(f"    - {bold}: {meaning}")
        out.append("")
    return out


def process(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Replace the docstring's lines in place, as autodoc wants it."""
    lines[:] = [_MAIL.sub(r"\\@", line) for line in fields(lines, known_names(thing))]


def setup(app: Sphinx) -> dict[str, bool | str]:
    """Register with autodoc."""
    app.connect("autodoc-process-docstring", process)
    return {"version": "1", "parallel_read_safe": True}
