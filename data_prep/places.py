"""Places that the environment names, and files there that may fail to be written.

A variable means what a shell user means by it: `~` is home, and a relative path starts where the
command was typed. A notebook's kernel runs in another folder: what starts one passes `resolved()`.
"""

from __future__ import annotations

import builtins
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLES = (
    "DUET_DATA",
    "DUET_CACHE",
    "DUET_SERVED",
    "DUET_ML100K",
    "DUET_ML1M",
    "DUET_CKPLUS",
)


class CacheWarning(UserWarning):
    """What is kept to save time is damaged, or cannot be kept: work goes on, and takes longer."""


def absolute(path: str | os.PathLike[str]) -> Path:
    """A path from the root, `~` written out; a relative one is taken from the current folder."""
    return Path(os.path.expanduser(path)).absolute()


def resolved() -> dict[str, str]:
    """The variables that are set, as paths from the root: for a process that runs elsewhere."""
    return {name: str(absolute(os.environ[name])) for name in VARIABLES if os.environ.get(name)}


def named(variable: str) -> Path | None:
    """The path that a variable names, from the root; None where it is not set.

    Warns in a notebook of a relative one, once: it says from which folder it was taken.
    """
    value = os.environ.get(variable)
    if not value:
        return None
    path = absolute(value)
    if not os.path.isabs(os.path.expanduser(value)):
        if hasattr(builtins, "__IPYTHON__"):  # elsewhere it starts where the command was typed
            warnings.warn(
                f"{variable} is {value!r}, a relative path, and this notebook runs in "
                f"{Path.cwd()}: taken as {path}. Write it from the root, if you mean another",
                stacklevel=3,
            )
        os.environ[variable] = str(path)  # from now on that one, also after a change of folder
    return path


@contextmanager
def optional(file: Path, variable: str) -> Iterator[None]:
    """Let the writing of `file` fail: a warning names its folder, and the variable that moves it.

    For what is kept to save time alone, and can be made again.
    """
    try:
        yield
    except OSError as error:
        warnings.warn(
            f"{file.parent} cannot be written to ({error}): {file.name} is not kept. "
            f"Set {variable} to move the cache",
            CacheWarning,
            stacklevel=3,
        )
