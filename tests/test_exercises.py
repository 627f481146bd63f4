"""Every exercise of the book: its check passes the folded solution, and no answer right by luck."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any
from unittest.mock import MagicMock

import matplotlib
import pytest
import torch
from exercises import CHAPTERS, cells, checks, first_cell, solution, solution_text, stub
from IPython.core.inputtransformer2 import TransformerManager
from wrong_answers import WRONG

EXERCISES = [(chapter, name) for chapter in CHAPTERS for name in checks(chapter)]
each_exercise = pytest.mark.parametrize(("chapter", "name"), EXERCISES)


def test_each_of_twelve_chapters_has_four_exercises() -> None:
    assert len(CHAPTERS) == 12
    assert [chapter for chapter, _ in EXERCISES] == [each for each in CHAPTERS for _ in range(4)]


def calls_of(chapter: str, name: str) -> list[tuple[Any, ...]]:
    """The arguments of each call that a check makes to a right answer."""
    calls, right = [], solution(chapter, name)

    def recorded(*arguments: Any) -> Any:
        calls.append(copy.deepcopy(arguments))
        return right(*arguments)

    state = torch.get_rng_state()
    verdict = checks(chapter)[name](recorded)
    assert verdict.passed, verdict
    assert torch.equal(torch.get_rng_state(), state)  # what a chapter draws next is the same
    return calls


@each_exercise
def test_the_stub_is_blank(chapter: str, name: str) -> None:
    assert checks(chapter)[name](stub(chapter, name)).name == "blank"


@each_exercise
def test_each_usual_mistake_is_told_apart_from_the_others(
    chapter: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = checks(chapter)[name]
    module = import_module(check.__module__)
    given = MagicMock(wraps=module.judge)
    with monkeypatch.context() as context:
        context.setattr(module, "judge", given)
        assert check(solution(chapter, name)).passed
    usual = given.call_args_list[0].args[3]
    for mistake, (answer, _) in usual.items():
        assert check(answer).name == mistake


@each_exercise
def test_no_answer_that_is_right_by_luck_passes(chapter: str, name: str) -> None:
    answers = WRONG[int(chapter[:2]), name]
    assert len(answers) >= 3
    check = checks(chapter)[name]
    assert [n for n, answer in enumerate(answers) if check(answer).passed] == []


@each_exercise
def test_no_argument_can_be_ignored(chapter: str, name: str) -> None:
    """Nor all of them at once, as a constant does."""
    calls, right, check = calls_of(chapter, name), solution(chapter, name), checks(chapter)[name]
    assert not check(lambda *_: right(*copy.deepcopy(calls[0]))).passed
    assert not check(lambda *_: right(*copy.deepcopy(calls[-1]))).passed
    for n, always in enumerate(calls[0]):

        def ignoring(*given: Any, n: int = n, always: Any = always) -> Any:
            return right(*given[:n], copy.deepcopy(always), *given[n + 1 :])

        assert not check(ignoring).passed, f"argument {n} is ignored"


@each_exercise
def test_none_and_a_changed_input_are_seen(chapter: str, name: str) -> None:
    right, check = solution(chapter, name), checks(chapter)[name]

    def returns_nothing(*arguments: Any) -> None:
        right(*arguments)

    def changing(*arguments: Any) -> Any:
        found, first = right(*copy.deepcopy(arguments)), arguments[0]
        if isinstance(first, torch.Tensor):
            first.logical_not_()
        elif isinstance(first, dict | list):
            first.clear()
        return found

    assert check(returns_nothing).name == "none"
    if isinstance(calls_of(chapter, name)[0][0], torch.Tensor | dict | list):
        assert check(changing).name == "changed"


@pytest.fixture(scope="module")
def after_first_cell() -> Iterator[Callable[[str], dict[str, Any]]]:
    """What a chapter's names are after its first cell, which installs nothing here."""
    spaces: dict[str, dict[str, Any]] = {}

    def of(chapter: str) -> dict[str, Any]:
        if chapter not in spaces:
            spaces[chapter] = {"get_ipython": MagicMock()}
            code = TransformerManager().transform_cell(first_cell(chapter))
            exec(code, spaces[chapter])
        return dict(spaces[chapter])

    with matplotlib.rc_context():  # the first cell sets the style of all figures
        yield of


@each_exercise
def test_an_exercise_runs_after_the_first_cell_alone(
    chapter: str, name: str, after_first_cell: Callable[[str], dict[str, Any]]
) -> None:
    """Untouched, and with the solution's function, whose imports have to be the cell's."""
    untouched, check = cells(chapter)[name]
    code = solution_text(chapter, name)
    code = "\n".join(row for row in code.splitlines() if not row.startswith(("import ", "from ")))
    body = untouched[untouched.index(f"def {name}(") :]
    for answer, expected in ((body, "blank"), (code, "right")):
        space = after_first_cell(chapter)
        exec(untouched.replace(body, answer), space)
        before, call = check.rsplit("\n", 1)
        exec(before, space)
        assert eval(call, space).name == expected
