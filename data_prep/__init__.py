"""Raw data in, tidy arrays out: MovieLens-100k and MovieLens-1M.

The package knows no model and ships no data: it fetches the raw files, verifies them against
pinned SHA-256 sums, and turns their rows into arrays. ``python -m data_prep ml-100k`` does so
once by hand.
"""

from data_prep.movielens import Interactions, load_movielens
from data_prep.sources import DataError

__all__ = ["DataError", "Interactions", "load_movielens"]
