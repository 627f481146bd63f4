"""Have a data set at hand, and see that it is whole: ``python -m data_prep ml-100k``."""

from __future__ import annotations

import argparse
import sys
import warnings

from data_prep.command import run_command
from data_prep.movielens import Interactions, load_movielens
from data_prep.sources import DATASETS


def main(arguments: list[str] | None = None) -> int:
    """Print one line of counts, or one error; return the exit status."""
    options = _parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_, **__: print(message, file=sys.stderr)
    try:
        print(options.load(options))
    except ValueError as error:  # DataError is one; an argument that cannot be is another
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_prep", description=__doc__)
    commands = parser.add_subparsers(dest="dataset", required=True)
    for name in sorted(DATASETS):
        command = commands.add_parser(name, help="fetch and verify the ratings")
        command.add_argument("--path", help="a zip, a folder or the ratings file; only source then")
        command.add_argument("--k-core", type=int, default=5, help="default: 5; 1 keeps every row")
        command.add_argument("--allow-unverified", action="store_true", help="take another SHA-256")
        command.set_defaults(load=_movielens)
    command = commands.add_parser("ckplus", help="read a licensed copy of CK+")
    command.add_argument("--path", help="its folder; else DUET_CKPLUS names it")
    command.add_argument("--size", type=int, default=224, help="of a frame in pixels; default: 224")
    command.set_defaults(load=_ckplus)
    command = commands.add_parser("faces", help="draw the stand-in for CK+")
    command.add_argument("--size", type=int, default=64, help="of a frame in pixels; default: 64")
    command.add_argument("--strength", type=float, default=1.0, help="of what is personal; 0: none")
    command.add_argument("--seed", type=int, default=0, help="of people and videos; default: 0")
    command.add_argument("--write", metavar="FOLDER", help="write PNG files in CK+'s layout there")
    command.set_defaults(load=_faces)
    return parser


def _movielens(options: argparse.Namespace) -> Interactions:
    return load_movielens(
        options.dataset,
        path=options.path,
        k_core=options.k_core,
        allow_unverified=options.allow_unverified,
    )


# What faces need is imported when they are asked for: torch alone takes seconds.


def _ckplus(options: argparse.Namespace) -> object:
    from data_prep.ckplus import load_ckplus

    return load_ckplus(options.path, size=options.size)


def _faces(options: argparse.Namespace) -> object:
    from data_prep.faces import load_faces, write_ckplus

    if options.write:
        size = options.size, options.size * 4 // 3
        folder = write_ckplus(
            options.write, size=size, strength=options.strength, seed=options.seed
        )
        return f"drawn faces in CK+'s layout: {folder}"
    return load_faces(options.size, strength=options.strength, seed=options.seed)


if __name__ == "__main__":
    run_command(main)
