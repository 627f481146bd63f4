"""The build of the book: what is made of the plain Markdown, and when a chapter is run again."""

from __future__ import annotations

import sys
from pathlib import Path

import build_book
import nbformat
import pytest
from build_book import BuildError, chapter_list, entries, prepare, run_chapters, sources
from enrich import (
    admonitions,
    after_heading,
    anchor_links,
    anchors,
    citations,
    code_links,
    colab_url,
    enrich,
    glossary,
    numbered_rows,
    outside_code,
    targets,
)
from execute import (
    NotebookError,
    change_key,
    dumps,
    execute,
    library_digest,
    with_outputs,
    write_if_changed,
)
from nbformat import NotebookNode


def notebook(*code: str, title: str = "# A title") -> NotebookNode:
    cells = [nbformat.v4.new_markdown_cell(title)]
    return nbformat.v4.new_notebook(cells=cells + [nbformat.v4.new_code_cell(c) for c in code])


# --- the enrichments -------------------------------------------------------------------------


def test_citations_are_bracketed_or_part_of_the_sentence() -> None:
    text = (
        "see [Ha et al., 2017](references.md#ha2017) and [Ha et al. (2017)](references.md#ha2017)"
    )
    assert citations(text) == "see {cite:p}`ha2017` and {cite:t}`ha2017`"


def test_other_links_stay() -> None:
    text = "[a](setup.md) [b](references.md) [c](https://x.org/references.md#d) [e](setup.md#f)"
    assert enrich(text, {"eq-6"}) == text


def test_anchors_become_targets_and_links_to_them_become_references() -> None:
    text = '<a id="eq-6"></a>\n$$x \\tag{6}$$\n[Eq. 6](04_ppg.ipynb#eq-6), [here](#eq-6)'
    known = anchors([text])
    assert known == {"eq-6"}
    assert targets(text).startswith("(eq-6)=\n$$x")
    assert anchor_links(text, known).endswith("[Eq. 6](#eq-6), [here](#eq-6)")


def test_links_to_headings_of_another_page_stay() -> None:
    assert anchor_links("[a](setup.md#a-gpu)", {"eq-6"}) == "[a](setup.md#a-gpu)"


@pytest.mark.parametrize(
    ("lead", "kind"),
    [
        ("Differs from the paper", "differs"),
        ("Paper says", "paper"),
        ("We found", "found"),
        ("Predict", "predict"),
        ("What you can do afterwards", "goal"),
        ("Facts", "facts"),
        ("Exercise 2 · Count the numbers", "exercise"),
        ("Exercise 12", "exercise"),
    ],
)
def test_a_quote_with_a_bold_lead_becomes_a_box(lead: str, kind: str) -> None:
    text = f"before\n\n> **{lead}.** One\n> two.\n>\n> - three\n\nafter"
    assert admonitions(text) == (
        f"before\n\n::::{{admonition}} {lead}\n:class: {kind}\n\n"
        "One\ntwo.\n\n- three\n::::\n\nafter"
    )


@pytest.mark.parametrize("text", ["> A quotation.", "> **Bold** but no lead", "a > **Facts.** b"])
def test_other_quotes_stay(text: str) -> None:
    assert admonitions(text) == text


def test_rows_of_a_numbered_equation_end_in_what_sphinx_leaves_alone() -> None:
    numbered, plain = r"$$a \\ b \tag{4}$$", r"$$a \\ b$$"
    assert numbered_rows(f"{numbered} x {plain}") == rf"$$a \cr  b \tag{{4}}$$ x {plain}"


def test_code_is_left_alone() -> None:
    code = '```md\n> **Facts.** [a](references.md#b)\n<a id="c"></a>\n```'
    assert enrich(f"{code}\n\n> **Facts.** d", {"c"}).startswith(code + "\n\n::::{admonition}")
    assert outside_code("a\n```\na\n```\na", str.upper) == "A\n```\na\n```\nA"


def test_definitions_become_a_glossary_and_other_text_stays() -> None:
    text = (
        "# Words\n\nIntro.\n\nApex\n: The height.\n  Of a face.\n\nBase: plain\n: Without DUET.\n"
    )
    assert glossary(text) == (
        "# Words\n\nIntro.\n\n::::{glossary}\nApex\n  The height.\n  Of a face.\n\n"
        "Base: plain\n  Without DUET.\n::::\n"
    )
    assert glossary("No list.\n: is here\n"[:9]) == "No list.\n"


def test_code_in_a_table_leads_to_its_page_and_a_test_to_its_source() -> None:
    repository = {"url": "https://github.com/o/n", "branch": "main"}
    row = "| **C1** `x` | `swa.blend`, `data_prep.faces.film` · `tests/test_swa.py` | done |"
    assert code_links(row, repository) == (
        "| **C1** `x` | {py:obj}`swa.blend <duetlib.swa.blend>`, "
        "{py:obj}`data_prep.faces.film <data_prep.faces.film>` · "
        "[`tests/test_swa.py`](https://github.com/o/n/blob/main/tests/test_swa.py) | done |"
    )
    assert code_links("A `swa.blend` in a sentence.", repository) == "A `swa.blend` in a sentence."


def test_a_line_goes_after_the_first_heading() -> None:
    assert after_heading("# T\n\ntext", "LINE") == "# T\n\nLINE\n\n\ntext"
    with pytest.raises(ValueError, match="level one"):
        after_heading("## T", "LINE")


def test_colab_opens_the_source() -> None:
    repository = {"url": "https://github.com/a/b", "branch": "main", "path_to_book": "book"}
    expected = "https://colab.research.google.com/github/a/b/blob/main/book/01_x.ipynb"
    assert colab_url(repository, "01_x") == expected


# --- when a chapter is run again -------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("duetlib/ppg.py", "data_prep/movielens.py", "results/runs.jsonl", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    return tmp_path


@pytest.mark.parametrize("name", ["duetlib/ppg.py", "data_prep/movielens.py", "results/runs.jsonl"])
def test_the_key_sees_library_and_records(tree: Path, name: str) -> None:
    before = library_digest(tree)
    (tree / name).write_text("x = 2\n")
    assert library_digest(tree) != before


def test_the_key_sees_a_new_file_and_a_renamed_one(tree: Path) -> None:
    keys = [library_digest(tree)]
    (tree / "duetlib/new.py").write_text("")
    keys.append(library_digest(tree))
    (tree / "duetlib/new.py").rename(tree / "duetlib/newer.py")
    keys.append(library_digest(tree))
    assert len(set(keys)) == 3


def test_the_key_does_not_see_what_no_chapter_reads(tree: Path) -> None:
    before = library_digest(tree)
    (tree / "README.md").write_text("other")
    assert library_digest(tree) == before


def test_the_key_sees_code_and_data_but_not_text(monkeypatch: pytest.MonkeyPatch) -> None:
    key = change_key(notebook("a = 1"), "library", "data")
    assert change_key(notebook("a = 1", title="# Other"), "library", "data") == key
    assert change_key(notebook("a = 2"), "library", "data") != key
    assert change_key(notebook("a = 1", ""), "library", "data") != key
    assert change_key(notebook("a = 1"), "other", "data") != key
    assert change_key(notebook("a = 1"), "library", "other") != key
    assert change_key(notebook("ab", "c"), "", "") != change_key(notebook("a", "bc"), "", "")
    monkeypatch.setattr("execute.version", lambda package: "0.0")
    assert change_key(notebook("a = 1"), "library", "data") != key


def test_outputs_are_kept_and_text_is_the_sources() -> None:
    ran = notebook("1 + 1", title="# Old")
    ran.cells[1].outputs = [
        nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=7)
    ]
    ran.cells[1].metadata["execution"] = {"iopub.status.busy": "2026-01-01"}
    filled = with_outputs(notebook("1 + 1", title="# New"), ran)
    assert filled.cells[0].source == "# New"
    assert filled.cells[1].outputs[0].data == {"text/plain": "2"}
    assert filled.cells[1].execution_count == filled.cells[1].outputs[0].execution_count == 1
    assert "execution" not in filled.cells[1].metadata
    assert ran.cells[1].outputs[0].execution_count == 7
    for edited in (notebook("1 + 2"), notebook("1 + 1", "2")):
        with pytest.raises(NotebookError, match="edited meanwhile"):
            with_outputs(edited, ran)


# --- running ---------------------------------------------------------------------------------


def test_a_chapter_runs_in_an_empty_folder_with_its_own_python() -> None:
    code = ["import os, sys; os.listdir()", "!python -c 'import sys; print(sys.prefix)'"]
    ran = execute("01_x", notebook(*code, "os.environ['DUET_PROGRESS'], sys.prefix"), "key")
    assert ran.cells[1].outputs[0].data["text/plain"] == "[]"
    prefix = ran.cells[2].outputs[0].text.strip()
    assert ran.cells[3].outputs[0].data["text/plain"] == f"('0', '{prefix}')"
    assert len(ran.cells) == 4  # the cell that reads the peak of memory is not kept
    assert ran.metadata["duet"]["key"] == "key"
    assert 0.01 < ran.metadata["duet"]["peak_gb"] < 2


def test_a_raising_cell_is_named() -> None:
    with pytest.raises(NotebookError, match=r"(?s)01_x.ipynb, code cell 2: ZeroDivision.*1 / 0"):
        execute("01_x", notebook("a = 1", "1 / 0"), "key")


def test_words_on_stderr_fail() -> None:
    with pytest.raises(NotebookError, match=r"(?s)code cell 1: stderr holds.*careful"):
        execute("01_x", notebook("import warnings; warnings.warn('careful')"), "key")


def test_warnings_of_the_cache_are_said_by_the_build_and_stay_off_the_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = """
import pathlib, warnings; warnings.filterwarnings("ignore", message="IProgress")
from data_prep.places import CacheWarning, optional
warnings.warn("m.safetensors is damaged: made anew", CacheWarning)
print("lesson")
with optional(pathlib.Path("/a/m"), "DUET_CACHE"):
    raise OSError("full")
"""
    ran = execute("01_x", notebook(code), "key")
    assert [output.name for output in ran.cells[1].outputs] == ["stdout"]
    told = capsys.readouterr().err
    assert "m.safetensors is damaged" in told and "/a cannot be written to (full)" in told


def test_a_chapter_is_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build_book, "get_data", lambda: "sha")
    path, kept = tmp_path / "01_x.ipynb", tmp_path / "executed"
    path.write_text(dumps(notebook("print('a')")))
    run_chapters([path], kept)
    assert "executed" in capsys.readouterr().out
    run_chapters([path], kept)
    assert "unchanged" in capsys.readouterr().out
    path.write_text(dumps(notebook("1 / 0")))
    with pytest.raises(BuildError, match="ZeroDivisionError"):
        run_chapters([path], kept)
    assert "FAILED" in capsys.readouterr().out


# --- the pages -------------------------------------------------------------------------------


def test_entries_come_in_reading_order() -> None:
    toc = {
        "root": "index",
        "parts": [
            {"chapters": [{"file": "a", "sections": [{"glob": "api/*"}, {"file": "b"}]}]},
            {"chapters": [{"file": "c"}]},
        ],
    }
    assert list(entries(toc)) == ["index", "a", "api/*", "b", "c"]


def test_a_page_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "_toc.yml").write_text("root: index\nchapters:\n- file: run_times\n- file: gone\n")
    (tmp_path / "index.md").write_text("# I")
    with pytest.raises(BuildError, match="gone"):
        sources(tmp_path)


def test_the_list_of_chapters_says_what_each_is_good_for(tmp_path: Path) -> None:
    path = tmp_path / "01_x.ipynb"
    text = "# Title\n\n> **What you can do afterwards.** You can\n> count."
    path.write_text(dumps(notebook("a", title=text)))
    assert chapter_list([path]) == "- **[Title](01_x.ipynb)**  \n  You can count."
    path.write_text(dumps(notebook("a")))
    with pytest.raises(BuildError, match="01_x.ipynb"):
        chapter_list([path])


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    prepare({"a.md": "a", "api/b.md": "b"}, tmp_path)
    before = (tmp_path / "a.md").stat().st_mtime_ns
    prepare({"a.md": "a", "c.md": "c"}, tmp_path)
    assert (tmp_path / "a.md").stat().st_mtime_ns == before
    files = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()]
    assert sorted(files) == ["a.md", "c.md"]
    assert write_if_changed(tmp_path / "a.md", "b") and not write_if_changed(tmp_path / "a.md", "b")


def test_every_public_module_has_a_page() -> None:
    found = build_book.modules(build_book.ROOT)
    assert {"duetlib.ppg", "duetlib.swa", "duetlib.sessions"} <= set(found)
    assert all(found.values()), "a module without a docstring"


def test_modules_come_in_the_order_of_their_numbers() -> None:
    found = [name for name in build_book.modules(build_book.ROOT) if "checks.chapter" in name]
    assert [int(name.rpartition("chapter")[2]) for name in found] == list(range(1, 13))


def test_the_table_of_contents_names_every_module(tmp_path: Path) -> None:
    toc = build_book.with_modules("  sections:\n    - glob: api/*\n  - file: x\n", ["a", "b.c"])
    assert toc == "  sections:\n    - file: api/a\n    - file: api/b.c\n  - file: x\n"


# --- the reference ---------------------------------------------------------------------------


def test_arguments_named_in_one_line_are_told_apart() -> None:
    sys.path.insert(0, str(build_book.ROOT / "book/_ext"))
    from plain_docstrings import fields, known_names

    def documented(x: int, y: int, W_1: int, *, z: int = 0) -> None: ...

    docstring = (
        "Purpose.\n\nArgs:\n    x, y: of a point. W_1: `[B, N]`,\n        with a note: here.\n"
        "    z: depth.\n\nMore words.\n\nReturns:\n    `[B]`.\n\nSource: Chapter 4,\nEq. (6).\n"
    )
    assert [line for line in fields(docstring.split("\n"), known_names(documented)) if line] == [
        "Purpose.",
        ":Arguments:",
        "    - **x**, **y**: of a point.",
        "    - **W_1**: `[B, N]`, with a note: here.",
        "    - **z**: depth.",
        "More words.",
        ":Returns:",
        "    `[B]`.",
        ":Source:",
        "    Chapter 4,",
        "    Eq. (6).",
    ]


def test_a_figure_that_no_page_shows_any_more_is_removed(tmp_path: Path) -> None:
    images = tmp_path / "_images"
    (tmp_path / "api").mkdir()
    images.mkdir()
    for name in ("a.png", "b.png", "old.png"):
        (images / name).write_bytes(b"x")
    (tmp_path / "index.html").write_text('<img src="_images/a.png">')
    (tmp_path / "api" / "page.html").write_text('<img src="../_images/b.png">')
    build_book.drop_old_images(tmp_path)
    assert sorted(path.name for path in images.iterdir()) == ["a.png", "b.png"]
