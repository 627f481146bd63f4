"""What is looked for on a page, without a browser and in one. Each check returns what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

AXE_ALL = {
    "preload": False,
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
}
AXE_CONTRAST = {"preload": False, "runOnly": ["color-contrast"]}


class Page(HTMLParser):
    """The links, targets, images and text of an HTML file."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.targets: set[str] = set()
        self.images: list[dict[str, str]] = []
        self.text: list[str] = []
        self._skip = 0  # depth inside of code, which may show what text may not
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Collect what the tag points to and can be pointed to by."""
        values = {name: value or "" for name, value in attributes}
        self.targets |= {values[name] for name in ("id", "name") if name in values}
        if tag in ("a", "link") and "href" in values:
            self.links.append(values["href"])
        if tag in ("img", "script", "source", "iframe") and "src" in values:
            self.links.append(values["src"])
        if tag == "img":
            self.images.append(values)
        self._skip += tag in ("pre", "code", "script", "style")

    def handle_endtag(self, tag: str) -> None:
        """Leave code."""
        self._skip -= tag in ("pre", "code", "script", "style")

    def handle_data(self, data: str) -> None:
        """Collect text outside of code."""
        if not self._skip:
            self.text.append(data)


@cache
def _parse(path: Path, modified: int) -> Page:
    return Page(path)


def parse(path: Path) -> Page:
    """A page, read once."""
    return _parse(path, path.stat().st_mtime_ns)


def html_files(folder: Path) -> list[Path]:
    """All pages of a site, less the theme's building blocks."""
    return sorted(p for p in folder.rglob("*.html") if "_static" not in p.parts)


def dead_links(folder: Path) -> list[str]:
    """Links to pages, files or fragments that are not there. Other hosts are not asked."""
    return [f"{p.relative_to(folder)}: {link}" for p in html_files(folder) for link in _dead(p)]


def _dead(path: Path) -> Iterator[str]:
    for link in parse(path).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if target.is_dir():
            target = target / "index.html"
        if not target.exists():
            yield link
        elif parts.fragment and target.suffix == ".html":
            if unquote(parts.fragment) not in parse(target).targets:
                yield link


def missing_alternatives(folder: Path) -> list[str]:
    """Images without a text that says what they show (a file's name does not)."""
    return [
        f"{path.relative_to(folder)}: {image.get('src')}"
        for path in html_files(folder)
        for image in parse(path).images
        if not re.search(r"\w+\W+\w+", text := image.get("alt", "")) or re.search(r"_images/", text)
    ]


def raw_markup(folder: Path) -> list[str]:
    """Directives, roles or links that were not understood, and stand in the text as they are."""
    raw = re.compile(r"(?m)^\s*:::|\{(?:cite|ref|eq|math|doc|numref)\b|\]\(|<!--|^> |\*\*[A-Z]")
    return [
        f"{path.relative_to(folder)}: {found[0]!r}"
        for path in html_files(folder)
        if (found := raw.search("".join(parse(path).text)))
    ]


@dataclass
class Visit:
    """What was seen when a page was opened in a browser."""

    requests_elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    equations: int = 0
    unrendered: int = 0
    overflow: int = 0  # pixels that a phone would have to scroll sideways
    cut: int = 0  # equations whose left end a phone cannot show


def new_context(browser: Any) -> Any:
    """What pages are opened in. It holds a cache, so that MathJax is read once."""
    return browser.new_context(color_scheme="light", reduced_motion="reduce")


def visit(context: Any, base: str, page: str, axe: str) -> Visit:
    """Open a page: light and wide with all of axe's rules, dark with that for contrast, narrow.

    Args:
        context: of `new_context`. base: `http://127.0.0.1:port`. page: path of the page.
        axe: source of axe-core.
    """
    seen = Visit()
    tab = context.new_page()
    tab.set_viewport_size({"width": 1280, "height": 900})

    def request(r: Any) -> None:
        if not r.url.startswith((base, "data:", "blob:")):
            seen.requests_elsewhere.append(r.url)

    def console(message: Any) -> None:
        if message.type == "error":
            seen.errors.append(f"{message.text} ({message.location.get('url', '')})")

    tab.on("request", request)
    tab.on("console", console)
    tab.on("pageerror", lambda error: seen.errors.append(str(error)))
    tab.goto(f"{base}/{page}", wait_until="load")
    tab.evaluate("window.MathJax?.startup?.promise")
    seen.equations = tab.locator("mjx-container").count()
    seen.unrendered = tab.locator(".math:not(:has(mjx-container)), mjx-merror").count()

    tab.evaluate("document.querySelectorAll('article details').forEach(d => d.open = true)")
    tab.add_style_tag(content="* { transition: none !important; }")
    tab.evaluate(axe)
    seen.violations += _violations(tab, "light", AXE_ALL)
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    seen.violations += _violations(tab, "dark", AXE_CONTRAST)
    tab.set_viewport_size({"width": 390, "height": 844})
    seen.overflow = tab.evaluate("document.documentElement.scrollWidth - 390")
    left = "[...document.querySelectorAll('mjx-math')].map(e => e.getBoundingClientRect().left)"
    seen.cut = tab.evaluate(f"{left}.filter(x => x < 0).length")
    tab.close()
    return seen


def _violations(tab: Any, theme: str, options: dict[str, Any]) -> list[str]:
    found = tab.evaluate("options => axe.run(document, options)", options)["violations"]
    return [
        f"{theme}: {v['id']}: {node['html'][:160]} ({node['failureSummary'][:240]})"
        for v in found
        for node in v["nodes"]
    ]
