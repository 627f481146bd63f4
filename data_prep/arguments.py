"""Arguments that are wrong are said to be: at once, with the name, the value and what is allowed.

Each check takes what the caller was given by name, so that a message names it as the caller does:
``whole(1, batch_size=batch_size, patience=patience)``.
"""

from __future__ import annotations

import argparse
import math
import operator
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

MOST_SEED = 10**13  # training multiplies it by a million, and PyTorch takes 64 bits
TRUTH = (bool, np.bool_)


def refuse(name: str, value: Any, allowed: str) -> ValueError:
    """The error for one argument: what it is called, what was given, what is allowed."""
    return ValueError(f"{name} is {plain(value)!r}: it must be {allowed}")


def of_type(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """For `argparse`, `type=of_type(check)`: the command line says what a ValueError says."""

    def checked(text: str) -> Any:
        try:
            return check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


def whole(least: int = 0, most: int | None = None, **given: Any) -> None:
    """Refuse what is no whole number from `least` to `most` (with no end where that is None).

    Raises ValueError for the first of the named values that is none; True is not a number here.
    """
    allowed = f"a whole number, {least} or more"
    if most is not None:
        allowed = f"a whole number from {least} to {most}"
    for name, value in given.items():
        try:
            number = operator.index(value)
        except TypeError:
            raise refuse(name, value, allowed) from None
        if isinstance(value, TRUTH) or number < least or (most is not None and number > most):
            raise refuse(name, value, allowed)


def plain(value: Any) -> Any:
    """A number of NumPy as one of Python, which can be written as JSON; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def check_seed(seed: int) -> None:
    """Refuse what not everything that draws could take as its seed."""
    whole(0, MOST_SEED, seed=seed)


def number(
    least: float = 0.0, most: float = math.inf, *, above: bool = False, **given: Any
) -> None:
    """Refuse what is no finite number from `least` to `most`; with `above`, `least` itself too.

    Raises ValueError for the first of the named values that is none; True is not a number here.
    """
    allowed = f"a number {'above' if above else 'from'} {least:g}"
    if most < math.inf:
        allowed += f" to {most:g}"
    elif not above:
        allowed = "a number" if least == -math.inf else f"a number, {least:g} or more"
    for name, value in given.items():
        try:
            real = float(value) if not isinstance(value, (*TRUTH, str)) else math.nan
        except (TypeError, ValueError, OverflowError):
            real = math.nan
        # a comparison with nan is false
        if not (least < real if above else least <= real) or not real <= most or math.isinf(real):
            raise refuse(name, value, allowed)


def one_of(choices: Collection[Any], **given: Any) -> None:
    """Refuse what is not among `choices`.

    Raises ValueError for the first of the named values that is none of them.
    """
    for name, value in given.items():
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise refuse(name, value, "one of " + ", ".join(map(repr, choices)))
