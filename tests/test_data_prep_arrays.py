"""From rows to arrays: counts of the real data, and rules on examples made by hand."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from data_prep import DataError, Interactions, load_movielens, sources
from data_prep.movielens import GENRES, core_mask, parse_items, parse_ratings, readable_title


def write(path, rows, separator="\t"):
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows))
    return path


def load_rows(tmp_path, rows, k_core=1) -> Interactions:
    path = write(tmp_path / "u.data", rows)
    return load_movielens(path=path, k_core=k_core, allow_unverified=True)


# --- the real data ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ml_100k() -> Interactions:
    """All rows, through the usual sources: where none gives them, these tests fail."""
    return load_movielens("ml-100k", k_core=1)


@pytest.fixture(scope="module")
def ml_1m_path() -> str:
    if "DUET_ML1M" not in os.environ:
        pytest.skip("ml-1m: DUET_ML1M names no local copy")
    return os.environ["DUET_ML1M"]


def test_ml_100k_is_whole(ml_100k):
    assert (ml_100k.n_users, ml_100k.n_items, len(ml_100k)) == (943, 1682, 100_000)
    assert ml_100k.label == "ml-100k"
    assert ml_100k.raw_user.tolist() == list(range(944))  # nothing dropped: ids stay as they are
    assert ml_100k.raw_item.tolist() == list(range(1683))


@pytest.mark.parametrize(
    "k, counts",
    [
        (5, (943, 1349, 99_287)),
        (10, (943, 1152, 97_953)),
        (20, (917, 937, 94_443)),
        (30, (720, 795, 86_295)),
    ],
)
def test_ml_100k_cores(k, counts):
    data = load_movielens("ml-100k", k_core=k)
    assert (data.n_users, data.n_items, len(data)) == counts


@pytest.mark.parametrize(
    "k, counts",
    [
        (5, (6040, 3416, 999_611)),
        (10, (6040, 3260, 998_539)),
        (20, (6022, 3043, 995_154)),
        (30, (5278, 2830, 971_992)),
    ],
)
def test_ml_1m_cores(ml_1m_path, k, counts):
    data = load_movielens("ml-1m", path=ml_1m_path, k_core=k, allow_unverified=True)
    assert (data.n_users, data.n_items, len(data)) == counts
    assert data.label in ("ml-1m", "ml-1m (order only)")


def test_ties_are_as_many_as_is_known(ml_100k):
    same_user = np.diff(ml_100k.user) == 0
    tie = np.diff(ml_100k.time) == 0
    assert round(tie[same_user].mean() * 100, 1) == 51.0
    last_pair = np.append(np.flatnonzero(~same_user) - 1, len(tie) - 1)
    assert round(tie[last_pair].mean() * 100, 1) == 44.0


def test_real_users_are_in_the_order_of_a_plain_sort(ml_100k):
    lines = sources.fetch("ml-100k").ratings.decode().splitlines()
    rows = [tuple(map(int, line.split("\t"))) for line in lines]
    rows.sort(key=lambda row: (row[0], row[3]))  # Python's sort is stable
    got = zip(ml_100k.user, ml_100k.item, ml_100k.rating, ml_100k.time, strict=True)
    assert [tuple(map(int, row)) for row in got] == rows


def test_titles_and_genres_of_known_films(ml_100k):
    film = {title: number for number, title in enumerate(ml_100k.titles)}
    assert ml_100k.titles[:3] == ("", "Toy Story (1995)", "GoldenEye (1995)")
    assert film["The Usual Suspects (1995)"] == 12
    assert film["unknown"] == 267
    assert film["Les Misérables (1995)"] == 543

    def genres(number):
        return [ml_100k.genre_names[place] for place in ml_100k.genres[number].nonzero()[0]]

    assert genres(1) == ["Animation", "Children's", "Comedy"]
    assert genres(50) == ["Action", "Adventure", "Romance", "Sci-Fi", "War"]  # Star Wars
    assert not ml_100k.genres[0].any() and ml_100k.genres[1:].any(axis=1).all()


def test_titles_follow_their_items_through_a_core(ml_100k):
    core = load_movielens("ml-100k", k_core=30)
    for number in (1, 400, core.n_items):
        assert core.titles[number] == ml_100k.titles[core.raw_item[number]]
        assert (core.genres[number] == ml_100k.genres[core.raw_item[number]]).all()


# --- sorting, numbering, cores ---------------------------------------------------------------


def test_ties_keep_file_order(tmp_path):
    rows = [(7, 50, 3, 9), (7, 40, 3, 9), (3, 60, 3, 5), (7, 45, 3, 8), (3, 10, 3, 5)]
    data = load_rows(tmp_path, rows)
    # user 3 first; its tie keeps 60 before 10; user 7: time 8, then the tie 50, 40
    assert data.raw_item[data.item].tolist() == [60, 10, 45, 50, 40]
    assert data.item.tolist() == [5, 1, 3, 4, 2]  # 10, 40, 45, 50, 60 are 1 to 5
    assert data.user.tolist() == [1, 1, 2, 2, 2]
    assert data.raw_user.tolist() == [0, 3, 7]
    assert data.rating.dtype == np.float32 and data.item.dtype == np.int64


def test_order_is_that_of_a_plain_loop(tmp_path):
    random = np.random.default_rng(0)
    pairs = random.permutation(30 * 40)[:600]
    rows = [(int(p) // 40 + 1, int(p) % 40 + 1, 3, int(random.integers(5))) for p in pairs]
    expected = []
    for user in sorted({row[0] for row in rows}):
        mine = [row for row in rows if row[0] == user]
        for time in range(5):  # one pass of the file per second: ties in file order
            expected += [row for row in mine if row[3] == time]
    data = load_rows(tmp_path, rows)
    got = zip(data.raw_user[data.user], data.raw_item[data.item], data.time, strict=True)
    assert [(u, i, t) for u, i, t in got] == [(u, i, t) for u, i, _, t in expected]


def naive_core(pairs, k):
    while True:
        users, items = [u for u, _ in pairs], [i for _, i in pairs]
        left = [(u, i) for u, i in pairs if users.count(u) >= k and items.count(i) >= k]
        if left == pairs:
            return left
        pairs = left


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_core_is_that_of_a_plain_loop(k):
    random = np.random.default_rng(k)
    cells = np.unique(random.geometric(0.12, size=(250, 2)), axis=0)
    keep = core_mask(cells[:, 0], cells[:, 1], k)
    left = naive_core([tuple(row) for row in cells.tolist()], k)
    assert [tuple(row) for row in cells[keep].tolist()] == left
    assert 0 < len(left) and (k == 1 or len(left) < len(cells))


def test_core_is_repeated():
    """Item 9 has one row; without it user 1 falls below 2, and then so does item 8."""
    user = np.array([1, 1, 2, 2, 3, 3, 2])
    item = np.array([9, 8, 5, 6, 5, 6, 8])
    assert core_mask(user, item, 2).tolist() == [False, False, True, True, True, True, False]


def test_core_that_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="k_core=3 leaves no row"):
        load_rows(tmp_path, [(1, 1, 3, 0), (2, 2, 3, 0)], k_core=3)
    for k_core in (0, 2.5, True, "5"):
        with pytest.raises(ValueError, match=f"k_core is {k_core!r}: .* 1 or more"):
            load_movielens(k_core=k_core)
    with pytest.raises(ValueError, match="allow_unverified is 'no': .* False, True"):
        load_movielens(allow_unverified="no")


# --- labels ----------------------------------------------------------------------------------


def test_unverified_is_said(tmp_path):
    data = load_rows(tmp_path, [(1, 5, 3, 0), (1, 6, 3, 2)])
    assert data.label == "ml-100k (unverified)" and data.label in repr(data)
    assert data.titles == ("", "item 5", "item 6")
    assert data.genre_names == () and data.genres.shape == (3, 0)


def test_ranks_for_times_are_said(tmp_path):
    rows = [(2, 5, 3, 1), (1, 5, 3, 0), (2, 6, 3, 0), (1, 6, 3, 1), (1, 7, 3, 2)]
    assert load_rows(tmp_path, rows).label == "ml-100k (order only)"
    rows[-1] = (1, 7, 3, 3)  # a gap: these are times
    assert load_rows(tmp_path, rows).label == "ml-100k (unverified)"


# --- rows that are no rows -------------------------------------------------------------------

GOOD = b"1\t2\t3\t4\n"


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (GOOD + b"1\t3\t3\n", "line 2 is not four"),
        (b"1\t3\t3\n1\t4\t3\n", "line 1 is not four"),
        (GOOD + b"1\t3\t3\t4\t5\n", "line 2 is not four"),
        (b"1\t3\t3\t4\t5\n", "line 1 is not four"),
        (GOOD + b"\n" + GOOD, "line 2 is not four"),
        (GOOD + b"1\tx\t3\t4\n", "line 2 is not four"),
        (GOOD + b"1\t3\t3.5\t4\n", "line 2 is not four"),
        (GOOD + b"1\t3\t3\t99999999999999999999\n", "line 2 is not four"),
        (GOOD + b"1\t3\t\t4\n", "line 2 is not four"),
        (b'"' + GOOD, "line 1 is not four"),
        (b"user\titem\trating\ttime\n" + GOOD, "line 1 is not four"),
        (b"1::2::3::4\n", "line 1 is not four"),
        (b"\x00\xff\xfe binary", "line 1 is not four"),
        (GOOD + b"0\t3\t3\t4\n", "line 2 has a user or item id below 1"),
        (GOOD + b"1\t3\t6\t4\n", "line 2 has a rating that is not from 1 to 5"),
        (GOOD + b"1\t3\t0\t4\n", "line 2 has a rating"),
        (GOOD + b"1\t3\t3\t-4\n", "line 2 has a negative time"),
        (GOOD + b"1\t3\t3\t4\n" + b"1\t2\t5\t9\n", "line 3 rates an item that its user"),
    ],
)
def test_bad_rows_are_named(data, message):
    with pytest.raises(DataError, match=f"u.data.*{message}"):
        parse_ratings(data, b"\t", "u.data")


def test_both_separators_and_line_ends():
    expected = [[1, 1193, 5, 978300760], [2, 661, 3, 978302109]]
    by_colons = b"1::1193::5::978300760\n2::661::3::978302109"
    by_tabs = by_colons.replace(b"::", b"\t").replace(b"\n", b"\r\n")
    assert parse_ratings(by_colons, b"::", "ratings.dat").tolist() == expected
    assert parse_ratings(by_tabs, b"\t", "u.data").tolist() == expected
    with pytest.raises(DataError, match="line 1 is not four"):
        parse_ratings(by_tabs, b"::", "ratings.dat")  # ml-100k's rows are not ml-1m's


# --- films -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "title, readable",
    [
        ("Toy Story (1995)", "Toy Story (1995)"),
        ("Usual Suspects, The (1995)", "The Usual Suspects (1995)"),
        ("American in Paris, An (1951)", "An American in Paris (1951)"),
        ("Uomo delle stelle, L' (1995)", "L'Uomo delle stelle (1995)"),
        ("Hate (Haine, La) (1995)", "Hate (La Haine) (1995)"),
        ("Big Blue, The (Grand bleu, Le) (1988)", "The Big Blue (Le Grand bleu) (1988)"),
        ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly (1966)"),
        ("Paris, Texas (1984)", "Paris, Texas (1984)"),
        ("Mrs. Brown (Her Majesty, Mrs. Brown) (1997)",) * 2,
        ("unknown", "unknown"),
    ],
)
def test_articles_come_first(title, readable):
    assert readable_title(title) == readable


def test_the_three_item_files_say_the_same():
    flags = "|".join("1" if genre in ("Comedy", "Drama") else "0" for genre in GENRES)
    u_item = f"7|Misérables, Les (1995)|01-Jan-1995||http://x|{flags}\n".encode("latin-1")
    movies = "7::Misérables, Les (1995)::Comedy|Drama\n".encode("latin-1")
    wheel = "a\tb\tc\td\n7\tMisérables, Les\t1995\tComedy Drama\n".encode()
    films = {7: ("Les Misérables (1995)", [GENRES.index("Comedy"), GENRES.index("Drama")])}
    assert parse_items(u_item, "u.item", GENRES) == films
    assert parse_items(movies, "movies.dat", GENRES) == films
    assert parse_items(wheel, "ml-100k.item", GENRES) == films


@pytest.mark.parametrize(
    "data, name",
    [
        (b"1::A (1990)::Drama\n2::B (1990)::Opera\n", "movies.dat"),
        (b"1::A (1990)::Drama\nx::B (1990)::Drama\n", "movies.dat"),
        (b"1::A (1990)::Drama\n2::B (1990)\n", "movies.dat"),
        (b"heading\n1\tA\xff\t1990\tDrama\n", "ml-100k.item"),
    ],
)
def test_bad_films_are_named(data, name):
    with pytest.raises(DataError, match=f"{name}, line 2 is not a film"):
        parse_items(data, name, GENRES)


# --- speed and memory ------------------------------------------------------------------------


def test_a_million_rows_fit_in_memory(tmp_path):
    """As many rows as ml-1m has, in a fresh process: under 1.5 GB."""
    cell = np.arange(1_000_209) * 7919 % (6040 * 3700)  # distinct: the two have no common factor
    columns = [cell // 3700 + 1, cell % 3700 + 1, cell % 5 + 1, 978_300_760 + cell % 10**6]
    path = tmp_path / "ratings.dat"
    lines = pd.DataFrame(np.stack(columns, axis=1)).to_csv(sep="\t", header=False, index=False)
    path.write_text(lines.replace("\t", "::"))
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from data_prep import load_movielens\n"
        "from duetlib.peak_memory import peak_mb\n"
        "data = load_movielens('ml-1m', path=sys.argv[1], allow_unverified=True)\n"
        "print(len(data), time.perf_counter() - start, peak_mb() / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    rows, _, gigabytes = map(float, done.stdout.split())
    assert rows > 999_000 and gigabytes < 1.5, done.stdout
