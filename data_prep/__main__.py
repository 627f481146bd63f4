"""Fetch and verify a data set: ``python -m data_prep ml-100k``."""

from __future__ import annotations

import argparse
import sys

from data_prep.movielens import load_movielens
from data_prep.sources import DATASETS, DataError


def main(arguments: list[str] | None = None) -> int:
    """Print one line of counts, or one error; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m data_prep", description=__doc__)
    parser.add_argument("dataset", choices=sorted(DATASETS))
    parser.add_argument("--path", help="a zip, a folder or the ratings file; the only source then")
    parser.add_argument("--k-core", type=int, default=5, help="default: 5; 1 keeps every row")
    parser.add_argument("--allow-unverified", action="store_true", help="take another SHA-256")
    options = parser.parse_args(arguments)
    try:
        data = load_movielens(
            options.dataset,
            path=options.path,
            k_core=options.k_core,
            allow_unverified=options.allow_unverified,
        )
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    print(data)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
