"""How a check answers: it tells, and never stops the notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        name: `right`, `blank`, `error`, `wrong`, or the name of a usual wrong answer.
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
    if isinstance(b, list | tuple):
        a = a.tolist() if isinstance(a, Tensor | np.ndarray) else a
        both = isinstance(a, list | tuple) and len(a) == len(b)
        return both and all(same(x, y) for x, y in zip(a, b, strict=True))
    try:
        if not isinstance(b, Tensor | float):
            return bool(a == b)
        a, b = (torch.as_tensor(x).detach().cpu() for x in (a, b))
        a = a.reshape(()) if b.ndim == 0 else a
    except (TypeError, ValueError, RuntimeError):  # no number, or several where one is wanted
        return False
    both_masks = (a.dtype == torch.bool) == (b.dtype == torch.bool)
    if not both_masks or a.shape != b.shape:
        return False
    return torch.allclose(a.double(), b.double(), atol=1e-5, equal_nan=True)


def judge(
    answer: Callable[[], Any],
    right: Any,
    usual: Mapping[str, tuple[Any, str]],
    praise: str,
    otherwise: str,
) -> Verdict:
    """Compare an answer with the right one and with the usual wrong ones.

    Args:
        answer: calls the reader's function on the check's own input. A result of None (a body of
            `...`) means that the exercise was not attempted yet.
        right: what it should give. usual: for each usual mistake its name, what it gives, and what
            to say. praise: said when right. otherwise: said when wrong in another way.
    """
    try:
        given = answer()
    except Exception as error:  # the reader's code may fail in any way
        return Verdict("error", f"your code raised {type(error).__name__}: {error}")
    if given is None or given is ...:
        return Verdict("blank", "not attempted yet: replace the `...` and run the cell again")
    if same(given, right):
        return Verdict("right", praise)
    for name, (wrong, message) in usual.items():
        if same(given, wrong):
            return Verdict(name, message)
    if isinstance(given, Tensor) and isinstance(right, Tensor):
        if given.shape != right.shape:
            shapes = f"{list(given.shape)}, expected {list(right.shape)}"
            return Verdict("wrong", f"the shape is {shapes}. {otherwise}")
        if right.dtype == torch.bool != given.dtype:
            told = f"a mask holds True and False, and yours {given.dtype}"
            return Verdict("wrong", f"{told}. {otherwise}")
    return Verdict("wrong", otherwise)
