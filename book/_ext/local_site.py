"""What the site needs beyond the settings in _config.yml."""

from __future__ import annotations

import re
import shutil
import textwrap
from html import escape, unescape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
GENERATED = re.compile(r"run_times$|api/|_modules/|genindex$|py-modindex$|search$")


def load_nothing_from_elsewhere(app: Sphinx, page: str, template: str, context: Any, tree: Any):
    """Drop thebe, which Jupyter Book adds to every page with the address of a CDN."""

    def wanted(script: Any) -> bool:
        body = str(getattr(script, "attributes", {}).get("body", ""))
        return "thebe" not in str(getattr(script, "filename", script)) and "THEBE" not in body

    for kind in ("script_files", "css_files"):
        context[kind] = [script for script in context.get(kind) or [] if wanted(script)]


def no_edit_link_to_generated_pages(
    app: Sphinx, page: str, template: str, context: Any, tree: Any
) -> None:
    """Their source is not in the repository under the name that the theme would guess."""
    if not GENERATED.match(page):
        return
    for group in context.get("header_buttons", []):
        if "buttons" in group:
            group["buttons"] = [b for b in group["buttons"] if "/edit/" not in b.get("url", "")]


def no_field_numbers(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any):
    """Leave out "Alias for field number 0" of a NamedTuple: its docstring says more."""
    return True if (getattr(thing, "__doc__", "") or "").startswith("Alias for field") else None


def no_signature_of_fields(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: Any, returns: Any
) -> tuple[str, None] | None:
    """A pydantic model's is a page of metadata; its docstring names the fields."""
    return ("", None) if hasattr(thing, "model_fields") else None


def describe(app: Sphinx, page: str, template: str, context: Any, tree: Any) -> None:
    """What a search engine and a shared link say of a page: its title and its first sentences."""
    texts = [] if tree is None else [node.astext() for node in tree.findall(nodes.paragraph)]
    long = [" ".join(text.split()) for text in texts if len(text) > 60]
    if not long:
        return
    first = textwrap.shorten(long[0], 200, placeholder=" …")
    title = "DUET by Hand" if page == "index" else f"{context['title']} · DUET by Hand"
    said = {
        'name="description"': first,
        'property="og:title"': re.sub("<[^>]+>", "", title),
        'property="og:description"': first,
        'property="og:type"': "article",
        'property="og:url"': context["pageurl"],
    }
    context["metatags"] = context.get("metatags", "") + "".join(
        f'<meta {name} content="{escape(unescape(text))}">\n' for name, text in said.items()
    )


REPAIRS = (
    ("<title>DUET by Hand &#8212; DUET by Hand</title>", "<title>DUET by Hand</title>"),
    # the sidebar of the theme: its logo stands outside of any landmark, its arrows have no name
    ('<div id="pst-primary-sidebar" class', '<div id="pst-primary-sidebar" role="complementary" '
     'aria-label="The book" class'),
    ("<details><summary><span", '<details><summary aria-label="Show or hide its pages"><span'),
    ("<details open=\"open\"><summary><span",
     '<details open="open"><summary aria-label="Show or hide its pages"><span'),
    # the corner of a pandas table
    ("<th></th>", "<td></td>"),
    # a wide table scrolls: with the keyboard too
    ('<table border="1" class="dataframe">', '<table border="1" class="dataframe" tabindex="0">'),
    # sphinxcontrib-bibtex gives its entries a role that only list items may have
    (' role="doc-biblioentry"', ""),
    ('<div role="list" class="citation-list">', '<div class="citation-list">'),
)  # fmt: skip


def accessible(app: Sphinx, error: Exception | None) -> None:
    """Repair what the theme and its friends leave to trip over (axe finds it)."""
    for page in Path(app.outdir).rglob("*.html"):
        text = repaired = page.read_text()
        for wrong, right in REPAIRS:
            repaired = repaired.replace(wrong, right)
        if repaired != text:
            page.write_text(repaired)


def source_address(domain: str, info: dict[str, str]) -> str | None:
    """Where the repository shows the module of a documented object."""
    options = source_address.options  # type: ignore[attr-defined]
    path = info["module"].replace(".", "/")
    if path.startswith("duetbook"):
        path = f"book/{path}"
    file = f"{path}.py" if (ROOT / f"{path}.py").exists() else f"{path}/__init__.py"
    return f"{options['repository_url']}/blob/{options['repository_branch']}/{file}"


def plain_sources(app: Sphinx, error: Exception | None) -> None:
    """The download button gives the notebook as it is in the repository, without directives."""
    for page in (Path(app.outdir) / "_sources").glob("*.ipynb"):
        source = Path(__file__).parents[1] / page.name
        if source.exists():
            shutil.copyfile(source, page)


def pages_address(repository: str) -> str:
    """Where GitHub Pages shows a repository: what a page gives as its one true address."""
    owner, name = repository.rstrip("/").rsplit("/", 2)[1:]
    return f"https://{owner}.github.io/{name}/"


def setup(app: Sphinx) -> dict[str, bool | str]:
    """Register all of the above, after the theme's own handlers."""
    source_address.options = app.config.html_theme_options  # type: ignore[attr-defined]
    app.config.linkcode_resolve = source_address
    app.config.html_baseurl = pages_address(app.config.html_theme_options["repository_url"])
    app.connect("build-finished", accessible)
    app.connect("html-page-context", load_nothing_from_elsewhere, priority=999)
    app.connect("html-page-context", no_edit_link_to_generated_pages, priority=999)
    app.connect("html-page-context", describe, priority=999)
    app.connect("autodoc-skip-member", no_field_numbers)
    app.connect("autodoc-process-signature", no_signature_of_fields)
    app.connect("build-finished", plain_sources)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
