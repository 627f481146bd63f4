"""From the plain Markdown of the sources to the MyST that the site is built from.

The sources hold no directive and no role, so that they read well in Colab and in plain Jupyter.
Each function here turns one plain habit into what Sphinx can number, check and style.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

LEADS = {
    "Differs from the paper": "differs",
    "Paper says": "paper",
    "We found": "found",
    "Predict": "predict",
    "What you can do afterwards": "goal",
    "Facts": "facts",
}
_FENCE = re.compile(r"^(?P<mark>```+|~~~+).*?^(?P=mark)[ \t]*$", re.MULTILINE | re.DOTALL)
_TARGET = re.compile(r'^<a id="(?P<id>[\w-]+)"></a>[ \t]*$', re.MULTILINE)
_CITATION = re.compile(r"\[(?P<text>[^\]]+)\]\(references\.md#(?P<key>[\w-]+)\)")
_ANCHOR_LINK = re.compile(r"\]\((?P<page>[\w/-]+\.(?:ipynb|md))?#(?P<id>[\w-]+)\)")
_QUOTE = re.compile(r"^>.*(?:\n>.*)*", re.MULTILINE)
_LEAD = re.compile(
    rf"\*\*(?P<title>{'|'.join(LEADS)}|Exercise \d+(?: · [^*]+?)?)\.?\*\*[ ]*(?P<rest>.*)"
)
_DISPLAY = re.compile(r"\$\$.+?\$\$", re.DOTALL)
_DEFINITION = re.compile(r"^(?P<term>\S.*)\n: (?P<says>.+(?:\n  .*)*)\n?", re.MULTILINE)
_CODE_NAME = re.compile(r"(?<=[|,·] )`(?P<name>tests/[\w/]+\.py|(?:\w+\.)+\w+)`")
_HEADING = re.compile(r"^# .+$", re.MULTILINE)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Apply `change` to everything but fenced code."""
    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(text[end:])])


def citations(text: str) -> str:
    """`[Ha et al., 2017](references.md#ha2017)` becomes a citation of `ha2017`.

    Written with the year in brackets, `[Ha et al. (2017)](...)`, it stays part of the sentence.
    """

    def cite(link: re.Match[str]) -> str:
        role = "cite:t" if "(" in link["text"] else "cite:p"
        return f"{{{role}}}`{link['key']}`"

    return _CITATION.sub(cite, text)


def anchors(texts: Iterable[str]) -> set[str]:
    """The ids of all lines `<a id="..."></a>` in the sources."""
    return {target["id"] for text in texts for target in _TARGET.finditer(text)}


def targets(text: str) -> str:
    """A line `<a id="eq-6"></a>` becomes the target `(eq-6)=` of what follows it."""
    return _TARGET.sub(lambda target: f"({target['id']})=", text)


def anchor_links(text: str, known: set[str]) -> str:
    """`(04_name.ipynb#eq-6)` becomes `(#eq-6)`, if `eq-6` is a target and no heading."""

    def link(match: re.Match[str]) -> str:
        return f"](#{match['id']})" if match["id"] in known else match[0]

    return _ANCHOR_LINK.sub(link, text)


def admonitions(text: str) -> str:
    """A block quote with a bold lead, `> **We found.** ...`, becomes a box of that kind."""

    def box(quote: re.Match[str]) -> str:
        first, *others = [re.sub(r"^> ?", "", line) for line in quote[0].split("\n")]
        lead = _LEAD.match(first)
        if lead is None:
            return quote[0]
        kind = LEADS.get(lead["title"], "exercise")
        body = "\n".join([lead["rest"], *others]).strip("\n")
        return f"::::{{admonition}} {lead['title']}\n:class: {kind}\n\n{body}\n::::"

    return _QUOTE.sub(box, text)


def numbered_rows(text: str) -> str:
    r"""In an equation with a `\tag`, rows end in `\cr`: it means what `\\` does.

    An equation that holds `\\` Sphinx wraps into `split`, in which MathJax allows no `\tag`.
    """

    def rows(equation: re.Match[str]) -> str:
        return equation[0].replace(r"\\", r"\cr ") if r"\tag" in equation[0] else equation[0]

    return _DISPLAY.sub(rows, text)


def glossary(text: str) -> str:
    """A list of definitions (`Term`, then `: what it is`) becomes one whose terms have anchors."""

    def indent(entry: re.Match[str]) -> str:
        return f"{entry['term']}\n  {entry['says']}\n"

    first = _DEFINITION.search(text)
    if first is None:
        return text
    listed = _DEFINITION.sub(indent, text[first.start() :]).rstrip()
    return f"{text[: first.start()]}::::{{glossary}}\n{listed}\n::::\n"


def code_links(text: str, repository: dict[str, str]) -> str:
    """Code in a table leads to its page in the reference (`swa.blend`), a test to its source."""

    def link(code: re.Match[str]) -> str:
        name = code["name"]
        if name.endswith(".py"):
            url = f"{repository['url'].rstrip('/')}/blob/{repository['branch']}/{name}"
            return f"[`{name}`]({url})"
        whole = name if name.startswith(("data_prep.", "duetbook.")) else f"duetlib.{name}"
        return f"{{py:obj}}`{name} <{whole}>`"

    return _CODE_NAME.sub(link, text)


def enrich(text: str, known: set[str]) -> str:
    """All of the above. `known`: what `anchors` found in all sources."""
    return outside_code(
        text,
        lambda prose: admonitions(anchor_links(targets(citations(numbered_rows(prose))), known)),
    )


def after_heading(text: str, line: str) -> str:
    """Insert a paragraph after the first heading of level one.

    Raises:
        ValueError: if there is none.
    """
    heading = _HEADING.search(text)
    if heading is None:
        raise ValueError("no heading of level one (`# Title`) to put a line after")
    return f"{text[: heading.end()]}\n\n{line}\n{text[heading.end() :]}"


def colab_url(repository: dict[str, str], name: str) -> str:
    """Where Colab opens the source of a notebook. `repository`: that part of _config.yml."""
    owner_and_name = repository["url"].removeprefix("https://github.com/").rstrip("/")
    path = f"{repository['path_to_book'].strip('/')}/{name}.ipynb"
    return (
        f"https://colab.research.google.com/github/{owner_and_name}"
        f"/blob/{repository['branch']}/{path}"
    )
