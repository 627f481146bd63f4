"""Raw data in, tidy arrays out: MovieLens-100k and MovieLens-1M, clicks of your own, CK+, faces.

The package knows no model and ships no data: it fetches the raw files, verifies them against
pinned SHA-256 sums, and turns their rows into arrays. ``python -m data_prep ml-100k`` does so
once by hand, and `from_clicks` takes your own. CK+ is read from a licensed copy, and its stand-in
is drawn: both give `Videos`, and are imported by name, from `data_prep.ckplus` and
`data_prep.faces`.
"""

from data_prep.clicks import from_clicks
from data_prep.movielens import Interactions, load_movielens
from data_prep.sources import DataError

__all__ = ["DataError", "Interactions", "from_clicks", "load_movielens"]
