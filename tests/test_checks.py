"""How the self-checks compare answers: whatever a reader returns, they tell and never stop."""

from __future__ import annotations

import functools
import inspect
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from duetbook.checks import verdict
from duetbook.checks.verdict import Verdict, draws, judge, normal, same

VECTOR = torch.tensor([0.5, 2.0])
MASK = torch.tensor([True, False])


@pytest.mark.parametrize(
    ("given", "right", "agree"),
    [
        (VECTOR.double(), VECTOR, True),
        (VECTOR.numpy(), VECTOR, True),
        (VECTOR.tolist(), VECTOR, True),
        (VECTOR + 2e-6, VECTOR, True),
        (VECTOR + 1e-3, VECTOR, False),
        (VECTOR.clone().requires_grad_(), VECTOR, True),
        (torch.tensor([[1, 2]]), torch.tensor([[1.0, 2.0]]), True),  # whole numbers
        (0.25, torch.tensor(0.25), True),
        (torch.tensor([0.25]), 0.25, True),
        (np.float64(0.25), 0.25, True),
        (VECTOR, 0.25, False),  # several where one is wanted
        (VECTOR.unsqueeze(0), VECTOR, False),  # another shape
        ("0.25", 0.25, False),
        (float("nan"), 0.25, False),
        (torch.tensor(float("nan")), float("nan"), True),
        (MASK, MASK, True),
        (MASK.float(), MASK, False),  # a mask is True and False
        ([1, 2.0], (1, 2.0), True),
        ([1], (1, 2), False),
        (VECTOR, [1, 2], False),
        (VECTOR, [0.5, 2], True),  # a list may come as a tensor
        (VECTOR.numpy(), [0.5, 2], True),
        (VECTOR, "nan", False),
        (2, 2, True),
        (VECTOR, 2, False),
        (MagicMock(__eq__=MagicMock(side_effect=KeyError)), 2, False),  # cannot be compared
        (torch.zeros(2, device="meta"), VECTOR, False),
    ],
    ids=str,
)
def test_same(given: Any, right: Any, agree: bool) -> None:
    assert same(given, right) is agree


def judged(answer: Any, right: Any = VECTOR, given: Any = (1,)) -> Verdict:
    """What is said of an answer to an exercise that asks for `right`."""
    return judge(answer, [(given,)], lambda _: right, {}, "right", "look again")


def test_a_mask_of_numbers_is_said_so() -> None:
    found = judged(lambda x: MASK.float(), MASK)
    assert found.name == "wrong" and "yours torch.float32" in found.message
    assert judged(lambda x: MASK, MASK).passed
    assert judged(lambda x: [True, True], MASK).message == "look again"  # boolean, and wrong
    assert judged(lambda x: VECTOR + 1).message == "look again"


def untouched(x: Any) -> Any: ...


def untouched_but_described(x: Any) -> Any:
    """What it should do."""
    ...


def half_done(x: Any) -> Any:
    y = x + x  # noqa: F841
    ...


def prints(x: Any) -> None:
    print(VECTOR)


def sorts(x: list[int]) -> None:
    x.sort()


def returns_what_it_changed(x: list[int]) -> list[int]:
    x.sort()
    return x


def never_ends(x: Any) -> Any:
    while True:
        try:
            x = x
        except Exception:  # it must not catch the alarm
            return x


def fails(x: Any) -> Any:
    def inner(y: torch.Tensor) -> torch.Tensor:
        return y.reshape(3, 4)

    return inner(VECTOR)


@pytest.mark.parametrize(
    ("answer", "name", "said"),
    [
        (untouched, "blank", "not attempted yet"),
        (untouched_but_described, "blank", "not attempted yet"),
        (functools.wraps(untouched)(lambda x: untouched(x)), "blank", "not attempted yet"),
        (lambda x: ..., "blank", "not attempted yet"),
        (half_done, "none", "returned None: is a `return` missing?"),
        (prints, "none", "returned None: to print a result is not to `return` it"),
        (sorts, "none", "returned None: it changed its input in place"),
        (returns_what_it_changed, "changed", "changes its input in place"),
        (fails, "error", "(line {line}: `return y.reshape(3, 4)`)"),
        (eval("lambda x: 1 / 0"), "error", "ZeroDivisionError: division by zero (line 1)"),
        (int, "error", "TypeError"),  # not written in Python: no line
        (VECTOR, "error", "give the check your function itself"),
    ],
)
def test_what_was_seen_is_said(answer: Any, name: str, said: str) -> None:
    found = judged(answer, given=[3, 1, 2])
    line = inspect.getsourcelines(fails)[1] + 2
    assert (found.name, found.passed) == (name, False)
    assert said.format(line=line) in found.message


def test_none_for_some_input_is_said_so() -> None:
    cases = [(1,), (-1,)]
    found = judge(lambda x: x if x > 0 else None, cases, abs, {}, "right", "look again")
    assert found.name == "none" and "for some input" in found.message


def test_a_loop_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "LIMIT_S", 0.2)
    before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    found = judged(never_ends)
    assert found.name == "slow" and "0.2 seconds" in found.message
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)) == before


def test_a_reader_who_interrupts_is_heard() -> None:
    def interrupted(x: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(interrupted)


def test_outside_the_main_thread_there_is_no_limit_and_no_error() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(judged, lambda x: VECTOR).result().passed


def test_edges_are_tried_once_the_answer_is_right_otherwise() -> None:
    usual = {"no sign": (lambda x: x, "negative numbers too"), "one": (lambda x: 1, "all are 1")}

    def of(answer: Any) -> str:
        return judge(answer, [(2,), (3,)], abs, usual, "right", "look again", [(-4,)]).name

    assert [of(abs), of(lambda x: x), of(lambda x: 1)] == ["right", "no sign", "one"]
    assert of(lambda x: x if x != 2 else -2) == "wrong"  # its edge is as in "no sign"


def test_draws_differ_and_leave_the_seed_of_a_chapter_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    (first,), (second,) = draws(lambda rng: (normal(rng, 2, 3),))
    assert first.shape == (2, 3) and not (first == second).any()
    assert torch.equal(torch.get_rng_state(), state)
