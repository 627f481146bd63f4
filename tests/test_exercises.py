"""Every exercise of the book: its check passes the folded solution, and knows a stub as blank."""

from __future__ import annotations

import pytest
from exercises import CHAPTERS, checks, solution, stub

EXERCISES = [(chapter, name) for chapter in CHAPTERS for name in checks(chapter)]


def test_each_of_twelve_chapters_has_four_exercises() -> None:
    assert len(CHAPTERS) == 12
    assert [chapter for chapter, _ in EXERCISES] == [each for each in CHAPTERS for _ in range(4)]


@pytest.mark.parametrize(("chapter", "name"), EXERCISES)
def test_the_folded_solution_passes(chapter: str, name: str) -> None:
    verdict = checks(chapter)[name](solution(chapter, name))
    assert verdict.passed, verdict


@pytest.mark.parametrize(("chapter", "name"), EXERCISES)
def test_the_stub_is_blank(chapter: str, name: str) -> None:
    assert checks(chapter)[name](stub(chapter, name)).name == "blank"
