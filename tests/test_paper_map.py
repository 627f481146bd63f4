"""The paper-to-code map names everything once, and nothing that is not there."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from duetbook.verdicts import VERDICTS, WORDS, counts

ROOT = Path(__file__).resolve().parent.parent
MAP = ROOT / "book" / "paper_map.md"
NUMBERED = [
    *(f"Eq. {n}" for n in range(1, 10)),
    "Algorithm 1",
    *(f"Table {n}" for n in range(1, 6)),
    *(f"Figure {n}" for n in range(1, 9)),
]
SECTIONS = (
    "Abstract",
    "Section 1",
    *("Section 2", "Section 3.1", "Section 3.2", "Section 3.3.1", "Section 3.3.2", "Section 3.3.3"),
    *("Section 4.1", "Section 4.2", "Section 4.3", "Section 5"),
    *("Appendix A.1", "Appendix A.2", "Appendix A.3", "Appendix A.4"),
)
STATUS = re.compile(r"done|(?:partly|none): \S.+")
VERDICTS_OF_THE_MAP = (
    *("Holds in part", "Holds", "Does not hold", "Undecided"),
    *("Not tested", "Not judged", "Definition", "Taken over"),
)
VERDICT = re.compile(rf"<br>\*({'|'.join(VERDICTS_OF_THE_MAP)})\b[^*]*[.]\*$")
ROW = re.compile(r"^\| \*\*(?P<name>[^*]+)\*\* (?P<rest>.*) \|$")
LINK = re.compile(r"\]\((?P<page>[\w-]+\.(?:ipynb|md))?(?:#(?P<anchor>[\w-]+))?\)")


class Row(NamedTuple):
    name: str
    says: str
    book: str
    code: str
    status: str

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`(tests/[\w/]+\.py)`", self.code)

    @property
    def functions(self) -> list[str]:
        return [name for name in re.findall(r"`([^`]+)`", self.code) if name not in self.tests]


def rows(text: str) -> list[Row]:
    found = filter(None, map(ROW.match, text.splitlines()))
    return [Row(row["name"], *(c.strip() for c in row["rest"].split(" | "))) for row in found]


ROWS = rows(MAP.read_text())
BY_NAME = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def test_each_number_of_the_paper_is_there_once() -> None:
    named = [row.name for row in ROWS if not row.name.startswith("C")]
    assert sorted(named) == sorted(NUMBERED)


def test_claims_are_counted_from_1_and_come_from_every_section() -> None:
    claims = [row.name for row in ROWS if row.name.startswith("C")]
    assert claims == [f"C{n}" for n in range(1, len(claims) + 1)]
    parts = re.split(r"^### ", MAP.read_text(), flags=re.MULTILINE)[1:]
    assert [part.split("\n")[0].split(":")[0] for part in parts] == list(SECTIONS)
    assert all(rows(part) for part in parts)


def test_every_line_of_a_table_is_understood() -> None:
    lines = [line for line in MAP.read_text().splitlines() if line.startswith("| **")]
    assert len(lines) == len(ROWS) > len(NUMBERED)


@BY_NAME
def test_the_status_is_one_of_three(row: Row) -> None:
    assert STATUS.fullmatch(row.status), row.status
    has = [bool(row.book), bool(row.functions), bool(row.tests)]
    assert has == [not row.status.startswith("none")] * 3


def test_each_claim_has_a_verdict_and_they_are_counted() -> None:
    found = Counter(VERDICT.search(row.says)[1] for row in ROWS if row.name.startswith("C"))  # type: ignore[index]
    counted = re.findall(r"^\| (\w[\w ]+) \| [^|*]+ \| (\d+) \|$", MAP.read_text(), re.MULTILINE)
    assert {name: int(n) for name, n in counted} == found


def test_the_board_of_chapter_12_says_what_the_map_says() -> None:
    sections: dict[str, dict[str, tuple[int, ...]]] = {}
    for part in re.split(r"^### ", MAP.read_text(), flags=re.MULTILINE)[1:]:
        of = sections.setdefault(part.split("\n")[0].split(":")[0], {})
        for row in rows(part):
            verdict = VERDICT.search(row.says)[1]  # type: ignore[index]
            of[verdict] = (*of.get(verdict, ()), int(row.name[1:]))
    assert sections == VERDICTS
    assert tuple(WORDS) == tuple(counts()) and set(WORDS) == set(VERDICTS_OF_THE_MAP)
    assert sum(counts().values()) == sum(row.name.startswith("C") for row in ROWS)


def named(path: str) -> Any:
    """What `swa.StableWeightAdapter.p` or `data_prep.faces.film` stands for."""
    parts = path.split(".")
    if parts[0] not in ("data_prep", "duetbook"):
        parts = ["duetlib", *parts]
    for n in range(len(parts), 1, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"there is no {path}")


@BY_NAME
def test_code_and_tests_are_there_and_the_tests_are_of_the_code(row: Row) -> None:
    missing = [test for test in row.tests if not (ROOT / test).is_file()]
    assert missing == []
    for path in row.functions:
        assert named(path) is not None
    # a figure is tested by the chapter that draws it: chapters are run by the tests
    files = [ROOT / test for test in row.tests]
    chapters = [ROOT / "book" / link["page"] for link in LINK.finditer(row.book)]
    for path in row.functions:
        where = chapters if path.startswith("duetbook.plots.") else files
        words = {word for file in where for word in re.findall(r"\w+", file.read_text())}
        assert path.split(".")[-1] in words, f"{path} is not in {[file.name for file in where]}"


def dead_links(text: str, book: Path) -> Iterator[str]:
    """Links to a page that the table of contents lacks, or to an anchor that its page lacks."""
    toc = yaml.safe_load((book / "_toc.yml").read_text())
    listed = {f["file"] for part in toc["parts"] for f in part["chapters"]}
    for link in LINK.finditer(text):
        page = book / (link["page"] or "paper_map.md")
        if page.stem not in listed or not page.exists():
            yield link[0]
        elif (link["anchor"] or "").startswith("eq-"):
            if f'<a id=\\"{link["anchor"]}\\"></a>' not in page.read_text():
                yield link[0]


@pytest.mark.parametrize("page", ["paper_map", "notation", "glossary", "teach", "index", "setup"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / "book" / f"{page}.md").read_text().replace("run_times.md", "setup.md")
    assert list(dead_links(text, ROOT / "book")) == []


# --- the checks themselves -------------------------------------------------------------------


@pytest.mark.parametrize("status", ["", "nearly", "partly", "partly: ", "none", "not yet: soon"])
def test_another_status_is_refused(status: str) -> None:
    assert not STATUS.fullmatch(status)


@pytest.mark.parametrize("says", ["It helps.", "It helps.<br>*Perhaps.*", "It helps.<br>*Holds*"])
def test_another_verdict_is_refused(says: str) -> None:
    assert not VERDICT.search(says)


@pytest.mark.parametrize("path", ["ppg.NoSuchThing", "no_such_file.PPG"])
def test_a_name_that_is_not_there_is_seen(path: str) -> None:
    with pytest.raises((AttributeError, AssertionError)):
        named(path)


@pytest.mark.parametrize(
    "link", ["[a](06_fine_tuning.ipynb)", "[a](paper.md)", "[a](notation.md#eq-1)"]
)
def test_a_dead_link_is_seen(link: str) -> None:
    assert len(list(dead_links(link, ROOT / "book"))) == 1
