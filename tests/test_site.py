"""The built site: nothing loaded from elsewhere, nothing dead, everything legible to everybody."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from conftest import ROOT
from site_checks import (
    Visit,
    dead_links,
    html_files,
    missing_alternatives,
    new_context,
    parse,
    raw_markup,
    visit,
)

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


# --- without a browser -----------------------------------------------------------------------


def test_no_dead_link_or_fragment(html: Path) -> None:
    assert dead_links(html) == []


def test_every_image_has_an_alternative_text(html: Path) -> None:
    assert missing_alternatives(html) == []


def test_no_markup_shows_as_text(html: Path) -> None:
    assert raw_markup(html) == []


def repository_links(html: Path) -> set[str]:
    """All links into the repository's tree, from Colab or to the code host."""
    owner_and_name = CONFIG["repository"]["url"].removeprefix("https://github.com/")
    into_tree = re.compile(
        rf"https://(?:github\.com|colab\.research\.google\.com/github)/{owner_and_name}"
        r"/(?:blob|edit|tree|raw)/(?P<branch>[^/]+)/(?P<path>[^?#]+)"
    )
    return {
        f"{found['branch']}:{found['path']}"
        for page in html_files(html)
        for link in parse(page).links
        if (found := into_tree.match(link))
    }


def test_launch_and_edit_links_lead_to_files_of_the_tree(html: Path) -> None:
    links = {link.split(":", 1)[1] for link in repository_links(html)}
    assert len(links) > 5
    assert [path for path in sorted(links) if not (ROOT / path).is_file()] == []
    branches = {link.split(":", 1)[0] for link in repository_links(html)}
    assert branches == {CONFIG["repository"]["branch"]}


def chapters() -> list[Path]:
    return sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb"))


def test_each_chapter_of_the_site_opens_in_colab(html: Path) -> None:
    pages = [html / f"{path.stem}.html" for path in chapters()]
    pages = [page for page in pages if page.exists()]
    for page in pages:
        launches = {li for li in parse(page).links if li.startswith("https://colab.research")}
        assert len(launches) == 1, page.name  # the button and the line below the title agree
        assert launches.pop().endswith(f"/blob/main/book/{page.stem}.ipynb")


def test_each_page_describes_itself(html: Path) -> None:
    for name in ("index", "paper_map", "api/duetlib.swa", *(path.stem for path in chapters())):
        text = (html / f"{name}.html").read_text()
        (described,) = re.findall(r'<meta name="description" content="([^"]+)">', text)
        (shared,) = re.findall(r'<meta property="og:description" content="([^"]+)">', text)
        assert 60 < len(described) <= 230 and shared == described, name
        (canonical,) = re.findall(r'<link rel="canonical" href="([^"]+)"', text)
        (address,) = re.findall(r'<meta property="og:url" content="([^"]+)">', text)
        home = PROJECT["urls"]["Documentation"] + "/"
        assert canonical == address == f"{home}{name}.html", name


@pytest.mark.parametrize("path", chapters(), ids=lambda path: path.stem)
def test_sources_are_plain_markdown(path: Path) -> None:
    """In Colab and in plain Jupyter a directive or a role would show as it is."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"^\s*:::|^```\{|\{[a-z:]+\}`|^\([\w-]+\)=$", cell.source, re.M)


# --- in a browser ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def axe() -> str:
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    opened = new_context(browser)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def visits(html: Path, context: Any, serve: Any, axe: str) -> dict[str, Visit]:
    """Every page, opened once."""
    base = serve(html)
    names = [path.relative_to(html).as_posix() for path in html_files(html)]
    return {name: visit(context, base, name, axe) for name in names}


def wrong(visits: dict[str, Visit], what: str) -> dict[str, Any]:
    """The pages on which something was seen, and what."""
    return {name: found for name, seen in visits.items() if (found := getattr(seen, what))}


@pytest.mark.browser
def test_nothing_is_loaded_from_another_host(visits: dict[str, Visit]) -> None:
    assert wrong(visits, "requests_elsewhere") == {}


@pytest.mark.browser
def test_no_error_in_the_console(visits: dict[str, Visit]) -> None:
    assert wrong(visits, "errors") == {}


@pytest.mark.browser
def test_no_accessibility_violation_in_light_or_dark(visits: dict[str, Visit]) -> None:
    assert wrong(visits, "violations") == {}


@pytest.mark.browser
def test_every_equation_is_typeset(visits: dict[str, Visit]) -> None:
    assert wrong(visits, "unrendered") == {}
    for path in chapters():
        if f"{path.stem}.html" in visits:
            assert visits[f"{path.stem}.html"].equations > 0


@pytest.mark.browser
def test_no_page_scrolls_sideways_on_a_phone(visits: dict[str, Visit]) -> None:
    assert wrong(visits, "overflow") == {}


@pytest.mark.browser
def test_equations_begin_on_a_phone_s_screen(visits: dict[str, Visit]) -> None:
    assert wrong(visits, "cut") == {}


@pytest.mark.browser
def test_a_dark_page_is_printed_light(html: Path, browser: Any, serve: Any) -> None:
    tab = browser.new_page()
    tab.goto(f"{serve(html)}/notation.html")
    theme = lambda: tab.evaluate("document.documentElement.dataset.theme")  # noqa: E731
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert theme() == "light"
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert theme() == "dark"
    tab.close()


def test_search_finds_a_page(html: Path, browser: Any, serve: Any) -> None:
    tab = browser.new_page()
    tab.goto(f"{serve(html)}/search.html?q=generator")
    tab.wait_for_selector("#search-results li a", timeout=10_000)
    tab.close()


@pytest.mark.browser
def test_the_site_works_from_the_file_system(html: Path, browser: Any) -> None:
    """`make book` prints a file:// address."""
    tab = browser.new_page()
    errors: list[str] = []
    tab.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    tab.goto((html / "index.html").as_uri())
    assert tab.title().startswith(CONFIG["title"])
    assert errors == []
    tab.close()


# --- the checks themselves -------------------------------------------------------------------


def write(folder: Path, body: str) -> Path:
    head = '<!doctype html><html lang="en"><head><title>t</title></head>'
    (folder / "index.html").write_text(f"{head}<body><main><h1 id='top'>t</h1>{body}</main></body>")
    return folder


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('<a href="#top">a</a> <a href="index.html#top">b</a> <a href="https://x.y">c</a>', 0),
        ('<a href="gone.html">a</a>', 1),
        ('<a href="#gone">a</a>', 1),
        ('<a href="index.html#gone">a</a>', 1),
        ('<img src="gone.png" alt="two words">', 1),
    ],
)
def test_dead_links_are_seen(tmp_path: Path, body: str, expected: int) -> None:
    assert len(dead_links(write(tmp_path, body))) == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ('<img src="index.html" alt="a falling line">', 0),
        ('<img src="index.html">', 1),
        ('<img src="index.html" alt="">', 1),
        ('<img src="index.html" alt="_images/4f2a.png">', 1),
    ],
)
def test_missing_alternatives_are_seen(tmp_path: Path, image: str, expected: int) -> None:
    assert len(missing_alternatives(write(tmp_path, image))) == expected


@pytest.mark.parametrize("text", ["::: note", "{cite:p}`x`", "[a](b.md)", "> **We found.** x"])
def test_raw_markup_is_seen(tmp_path: Path, text: str) -> None:
    assert len(raw_markup(write(tmp_path, f"<p>\n{text}</p>"))) == 1
    assert raw_markup(write(tmp_path, f"<pre>{text}</pre>")) == []


@pytest.mark.browser
@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("<p>fine</p>", None),
        ('<img alt="a dot" src="http://127.0.0.2:9/dot.png">', "requests_elsewhere"),
        ("<script>console.error('no')</script>", "errors"),
        ("<script>undefinedFunction()</script>", "errors"),
        ('<p style="color:#bbb;background:#fff">too pale</p>', "violations"),
        ("<style>[data-theme=dark] p{color:#222;background:#000}</style><p>dark</p>", "violations"),
        ('<p class="math">\\(x\\)</p>', "unrendered"),
        ('<div style="width:900px">wide</div>', "overflow"),
        ('<div style="overflow:hidden"><mjx-math style="margin-left:-99px">x</mjx-math>', "cut"),
    ],
)
def test_faults_are_seen_in_the_browser(
    tmp_path: Path, context: Any, serve: Any, axe: str, body: str, what: str | None
) -> None:
    seen = visit(context, serve(write(tmp_path, body)), "index.html", axe)
    seen.errors = [error for error in seen.errors if "favicon" not in error]
    for name in ("requests_elsewhere", "errors", "violations", "unrendered", "overflow", "cut"):
        if name == what:
            assert getattr(seen, name)
        elif what is None:
            assert not getattr(seen, name), (name, getattr(seen, name))
