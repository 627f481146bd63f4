"""Every way to name a local copy of MovieLens-100k carries the chapters, wherever they run.

The ratings are the genuine ones, through the usual sources. GroupLens's zip and its u.item are made
here, in its layout, from the wheel's titles and genres; the zip's sum is pinned for the test.
"""

from __future__ import annotations

import dataclasses
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import build_book
import nbformat
import numpy as np
import pytest
from build_book import BuildError
from execute import execute, kernel_environment

from data_prep import DataError, Interactions, load_movielens, places, sources
from data_prep.movielens import GENRES

BOOK = Path(__file__).resolve().parent.parent / "book"
FORMS = ["ml-100k.zip", "ml-100k", "ml-100k/u.data", "alone/u.data"]


def u_item(of_wheel: bytes) -> bytes:
    """GroupLens's u.item from the wheel's ml-100k.item."""
    lines = []
    for line in of_wheel.decode().splitlines()[1:]:
        film, title, year, genres = line.split("\t")
        name = "unknown" if title == "unkonwn" else f"{title} ({year})"
        flags = "|".join(str(int(genre in genres.split())) for genre in GENRES)
        lines.append(f"{film}|{name}|01-Jan-1995||http://us.imdb.com/{film}|{flags}\n")
    return "".join(lines).encode("latin-1")


@pytest.fixture(scope="module")
def truth() -> Interactions:
    return load_movielens("ml-100k")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds all forms, and a cache as the wheel fills it."""
    here = tmp_path_factory.mktemp("my copies")
    raw = sources.fetch("ml-100k")
    if raw.items_name != "ml-100k.item":
        raw = sources.from_wheel(sources.DATASETS["ml-100k"], here / "unused")
    of_wheel = raw.items or b""
    for file, data in {
        "ml-100k/u.data": raw.ratings,
        "ml-100k/u.item": u_item(of_wheel),
        "alone/u.data": raw.ratings,
        "cache/ml-100k/u.data": raw.ratings,
        "cache/ml-100k/ml-100k.item": of_wheel,
    }.items():
        sources.write_aside(here / file, data)
    with zipfile.ZipFile(here / "ml-100k.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(here / "ml-100k" / "u.data", "ml-100k/u.data")
        archive.write(here / "ml-100k" / "u.item", "ml-100k/u.item")
    return here


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shell's folder: there is no network, the zip's sum is pinned, nothing is named yet."""
    dataset = dataclasses.replace(
        sources.DATASETS["ml-100k"],
        url="http://127.0.0.1:9/ml-100k.zip",
        zip_sha256=sources.sha256((made / "ml-100k.zip").read_bytes()),
    )
    monkeypatch.setitem(sources.DATASETS, "ml-100k", dataset)

    def no_index(requirement: str, folder: Path) -> None:
        raise DataError("no index can be reached")

    monkeypatch.setattr(sources, "_pip_download", no_index)
    for variable in places.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(made)
    return made


def start_elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path, **named: str) -> None:
    """Name places in the shell's folder, then be where a kernel is, with its environment."""
    for variable, value in named.items():
        monkeypatch.setenv(variable, value)
    for variable, value in kernel_environment().items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(folder)


def cells(chapter: str, first: str, last: str) -> list[str]:
    """The code from the cell that holds `first` to the one that holds `last`, figures left out."""
    found = [
        cell.source
        for cell in nbformat.read(next(BOOK.glob(f"{chapter}_*.ipynb")), 4).cells
        if cell.cell_type == "code"
    ]
    start, end = (next(i for i, code in enumerate(found) if part in code) for part in (first, last))
    return [code for code in found[start : end + 1] if f"chapter{int(chapter)}" not in code]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", ["from the root", "relative", "from home"])
def test_each_form_gives_the_same_from_another_folder(
    here: Path,
    truth: Interactions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    way: str,
) -> None:
    monkeypatch.setenv("HOME", str(here))
    before = {"from the root": f"{here}/", "relative": "", "from home": "~/"}[way]
    start_elsewhere(monkeypatch, tmp_path, DUET_ML100K=before + form, DUET_DATA=before + "cache")
    data = load_movielens("ml-100k")
    assert (data.label, data.sha256, data.titles) == ("ml-100k", truth.sha256, truth.titles)
    assert np.array_equal(data.genres, truth.genres) and data.genre_names == truth.genre_names


@pytest.mark.parametrize("form", FORMS)
def test_each_form_carries_the_cells_that_read_titles_and_genres(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    start_elsewhere(monkeypatch, tmp_path, DUET_ML100K=form, DUET_DATA="cache")
    scope: dict[str, Any] = {}
    for code in cells("01", "import tiny", "genre_windows(data.user"):
        exec(code, scope)
    assert len(scope["gone"]) and scope["windows"].sum() == pytest.approx(len(scope["windows"]))
    (years,) = cells("04", "mean_year = ", "mean_year = ")
    scope |= {"interactions": scope["data"], "history": scope["split"].test.history}
    exec(re.split(r"(?m)^for ", years)[0], scope)
    assert 1922 < scope["mean_year"].min() and scope["mean_year"].max() < 1999


def test_a_kernel_of_the_build_gets_places_from_the_root(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUET_ML100K", "ml-100k/u.data")
    code = "import warnings; warnings.simplefilter('ignore')  # tqdm's, about widgets\n"
    code += "from data_prep import load_movielens; load_movielens('ml-100k').titles[50]"
    ran = execute("01_x", nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), "key")
    assert ran.cells[0].outputs[0].data["text/plain"] == "'Star Wars (1977)'"


# --- before a build ---------------------------------------------------------------------------


def test_the_build_fetches_what_lone_ratings_lack(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUET_ML100K", "ml-100k")
    whole = build_book.get_data()
    monkeypatch.setenv("DUET_ML100K", "alone/u.data")
    monkeypatch.setenv("DUET_DATA", str(tmp_path / "cache"))

    def download(requirement: str, folder: Path) -> None:
        names = {"inter": b"heading\n" + (here / "alone" / "u.data").read_bytes()}
        names["item"] = (here / "cache" / "ml-100k" / "ml-100k.item").read_bytes()
        with zipfile.ZipFile(folder / "recbole.whl", "w") as archive:
            for name, data in names.items():
                archive.writestr(f"recbole/dataset_example/ml-100k/ml-100k.{name}", data)

    monkeypatch.setattr(sources, "_pip_download", download)
    assert build_book.get_data() == whole
    monkeypatch.setattr(sources, "_pip_download", None)
    assert build_book.get_data() == whole  # from the cache now


@pytest.mark.parametrize("cache", ["empty", "a file in its place"])
def test_the_build_refuses_lone_ratings_before_it_starts(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    monkeypatch.setenv("DUET_ML100K", "alone/u.data")
    monkeypatch.setenv("DUET_DATA", str(tmp_path / "cache"))
    if cache == "a file in its place":
        (tmp_path / "cache").write_bytes(b"")
    monkeypatch.setattr(build_book, "execute", lambda *_: pytest.fail("a chapter was started"))
    with pytest.raises(BuildError, match=r"(?s)no index.*DUET_ML100K name ml-100k.zip, or"):
        build_book.run_chapters([BOOK / "01_one_model_many_devices.ipynb"], tmp_path / "executed")


def test_the_hash_of_the_data_sees_a_title(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUET_ML100K", "ml-100k")
    before = build_book.get_data()
    for name in ("u.data", "u.item"):
        data = (here / "ml-100k" / name).read_bytes().replace(b"|Star Wars", b"|Stars War")
        sources.write_aside(tmp_path / name, data)
    monkeypatch.setenv("DUET_ML100K", os.fspath(tmp_path))
    assert build_book.get_data() != before
