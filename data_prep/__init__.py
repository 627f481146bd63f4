"""Raw data in, tidy arrays out: MovieLens-100k and MovieLens-1M, clicks of your own, CK+, faces.

The package knows no model and ships no data: it fetches the raw files, verifies them against
pinned SHA-256 sums, and turns their rows into arrays. ``python -m data_prep ml-100k`` does so
once by hand, and `from_clicks` takes your own. CK+ is read from a licensed copy, and its stand-in
is drawn: both give `Videos`, and are imported by name, from `data_prep.ckplus` and
`data_prep.faces`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_prep.clicks import from_clicks
    from data_prep.movielens import Interactions, load_movielens
    from data_prep.sources import DataError

__all__ = ["DataError", "Interactions", "from_clicks", "load_movielens"]
_HOMES = {
    "DataError": "sources",
    "Interactions": "movielens",
    "from_clicks": "clicks",
    "load_movielens": "movielens",
}


def __getattr__(name: str) -> Any:
    """Import each name at its first use: a device checks its `arguments` without pandas."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
