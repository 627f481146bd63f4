"""How a check answers: it tells, and never stops the notebook."""

from __future__ import annotations

import copy
import dis
import inspect
import random
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Arguments = tuple[Any, ...]
LIMIT_S = 5.0


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        name: `right`, `blank`, `error`, `slow`, `none` (nothing was returned), `changed` (the
            input was), `wrong`, or the name of a usual wrong answer.
        message: for the reader.
    """

    name: str
    message: str

    @property
    def passed(self) -> bool:
        """Whether the answer is right."""
        return self.name == "right"

    def __repr__(self) -> str:
        mark = {"right": "✓", "blank": "·"}.get(self.name, "✗")
        return f"{mark} {self.message}"


def same(a: Any, b: Any) -> bool:
    """Whether two answers agree: tensors and floats to 1e-5, all else exactly.

    Numbers may come as a float, an array or a tensor of any precision; a mask is True and False.
    """
    try:
        if isinstance(b, list | tuple):
            a = a.tolist() if isinstance(a, Tensor | np.ndarray) else a
            both = isinstance(a, list | tuple) and len(a) == len(b)
            return both and all(same(x, y) for x, y in zip(a, b, strict=True))
        if not isinstance(b, Tensor | float):
            return bool(a == b)
        a, b = (torch.as_tensor(x).detach().cpu() for x in (a, b))
        a = a.reshape(()) if b.ndim == 0 else a
        both_masks = (a.dtype == torch.bool) == (b.dtype == torch.bool)
        if not both_masks or a.shape != b.shape:
            return False
        return torch.allclose(a.double(), b.double(), atol=1e-5, equal_nan=True)
    except Exception:  # no number, several where one is wanted, or nothing that can be compared
        return False


def draws(one: Callable[[random.Random], Arguments], n: int = 2) -> list[Arguments]:
    """The arguments of `n` calls, each drawn by `one` from a seed of its own."""
    return [one(random.Random(seed)) for seed in range(1, n + 1)]


def normal(rng: random.Random, *shape: int) -> Tensor:
    """Standard normal numbers; PyTorch's own state, which chapters train from, stays as it is."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(rng.getrandbits(32)))


class OutOfTime(BaseException):
    """The limit is over. Not an Exception, so that the reader's own `except` lets it through."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in what runs too long.

    Python's own code alone: a single call into C (one huge product, say) is not interrupted. There
    is no limit on Windows, or outside the main thread, where no alarm can be set.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise OutOfTime

    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


BLANK = Verdict("blank", "not attempted yet: replace the `...` and run the cell again")


def _stub() -> None: ...


def _code(answer: Callable[..., Any]) -> Any:
    """The reader's code object; None for what was not written in Python."""
    return getattr(inspect.unwrap(answer), "__code__", None)


def _is_blank(answer: Callable[..., Any]) -> bool:
    """Whether the body is still `...`; it compiles to the same few steps as an empty one."""
    code, stub = _code(answer), _code(_stub)
    steps = [[(i.opname, i.argval) for i in dis.get_instructions(c)] for c in (code, stub) if c]
    return len(steps) == 2 and steps[0] == steps[1]


def _raised(error: Exception, answer: Callable[..., Any]) -> Verdict:
    """An error, with the line of the reader's own code at which it came up."""
    said = f"your code raised {traceback.format_exception_only(error)[-1].strip()}"
    code, frames = _code(answer), traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code and frame.filename == code.co_filename]
    if own:
        said += f" (line {own[-1].lineno}" + (f": `{own[-1].line}`)" if own[-1].line else ")")
    return Verdict("error", said)


def _given(answer: Callable[..., Any], calls: Sequence[Arguments]) -> list[Any] | Verdict:
    """What the reader's function gives at each call, or why there is nothing to compare."""
    found = []
    try:
        with time_limit(LIMIT_S):
            for arguments in calls:
                own = copy.deepcopy(arguments)
                found.append(answer(*own))
                changed = not same(own, arguments)
                if found[-1] is ...:
                    return BLANK
                if found[-1] is None:
                    told = "is a `return` missing?"
                    if changed:
                        told = "it changed its input in place; return a new value in its stead"
                    elif "print" in getattr(_code(answer), "co_names", ()):
                        told = "to print a result is not to `return` it"
                    some = " for some input" if len(found) > 1 else ""
                    return Verdict("none", f"your function returned None{some}: {told}")
                if changed:
                    told = "your function changes its input in place: work on a copy of it"
                    return Verdict("changed", told)
    except OutOfTime:
        told = f"your code ran for {LIMIT_S:g} seconds and was stopped: does a loop never end?"
        return Verdict("slow", told)
    except Exception as error:  # the reader's code may fail in any way
        return _raised(error, answer)
    return found


def judge(
    answer: Callable[..., Any],
    cases: Sequence[Arguments],
    right: Callable[..., Any],
    usual: Mapping[str, tuple[Callable[..., Any], str]],
    praise: str,
    otherwise: str,
    edges: Sequence[Arguments] = (),
) -> Verdict:
    """Compare an answer with the right one and with the usual wrong ones.

    Args:
        answer: the reader's function. Each call gets a copy of its arguments.
        cases: the arguments of each call. Right and usual wrong answers differ on them.
        right: what the function should do.
        usual: for each usual mistake its name, a function that makes it, and what to say.
        praise: said when right. otherwise: said when wrong in another way.
        edges: arguments of more calls, made once the answer is right on all cases.
    """
    if not callable(answer):
        return Verdict("error", "give the check your function itself: its name, without brackets")
    if _is_blank(answer):
        return BLANK
    given: list[Any] = []
    calls: list[Arguments] = []
    for more in (cases, edges):
        found = _given(answer, more)
        if isinstance(found, Verdict):
            return found
        given, calls = given + found, calls + list(more)
        wanted = [right(*call) for call in calls]
        if same(given, wanted):
            continue
        for name, (mistake, message) in usual.items():
            if all(same(mine, mistake(*call)) for mine, call in zip(given, calls, strict=True)):
                return Verdict(name, message)
        return Verdict("wrong", _seen(given, wanted) + otherwise)
    return Verdict("right", praise)


def _seen(given: Sequence[Any], wanted: Sequence[Any]) -> str:
    """What the first wrong result looks like from outside, where that is the matter."""
    mine, target = next(pair for pair in zip(given, wanted, strict=True) if not same(*pair))
    if isinstance(mine, Tensor) and isinstance(target, Tensor) and not mine.is_nested:
        if mine.shape != target.shape:
            return f"the shape is {list(mine.shape)}, expected {list(target.shape)}. "
        if target.dtype == torch.bool != mine.dtype:
            return f"a mask holds True and False, and yours {mine.dtype}. "
    return ""
