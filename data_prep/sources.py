"""Where the raw bytes come from: a cache, a local path, GroupLens, or a wheel on PyPI.

Whatever the source, the bytes are compared with a pinned SHA-256 before anything reads them.
The cache holds raw, verified files alone, and each is written aside and moved into place.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import logging
import lzma
import os
import stat
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pooch
import requests

from data_prep.places import CacheWarning, absolute, named, optional

MAX_BYTES = 64 * 2**20  # the largest raw file has 25 MB: more than this is not MovieLens
GROUPLENS_TIMEOUT = (4, 10)  # seconds to connect, and to wait for the next bytes
PIP_TIMEOUT = 120  # seconds for the whole download of a wheel of 2 MB
WHEEL = "recbole==1.2.1"


class DataError(ValueError):
    """The data cannot be had, or is not what it should be; the message says what to do."""


class NotThereError(DataError):
    """A place holds no copy of the data set: neither a whole one nor a damaged one."""


@dataclass(frozen=True)
class Dataset:
    """The files of one data set, and the SHA-256 sums by which they are known."""

    name: str
    url: str
    zip_bytes: int | None  # None: size not known
    zip_sha256: str
    ratings: str  # file name in the data set's folder
    ratings_sha256: str
    separator: bytes  # between the columns of a row
    items: tuple[str, ...]  # file names that may hold titles and genres, the best first
    wheel: bool  # can also be had from the RecBole wheel

    @property
    def variable(self) -> str:
        """The environment variable that names a local copy: DUET_ML100K or DUET_ML1M."""
        return "DUET_" + self.name.replace("-", "").upper()


DATASETS = {
    "ml-100k": Dataset(
        name="ml-100k",
        url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        zip_bytes=4_924_029,
        zip_sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        ratings="u.data",
        ratings_sha256="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
        separator=b"\t",
        items=("ml-100k.item", "u.item"),
        wheel=True,
    ),
    "ml-1m": Dataset(
        name="ml-1m",
        url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        zip_bytes=None,
        zip_sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        ratings="ratings.dat",
        ratings_sha256="506d64ca44484487c11dc2d9a28de5c54948213e6b96285e298afe28d6ea4e0f",
        separator=b"::",
        items=("movies.dat",),
        wheel=False,
    ),
}

# Item files that are known by their own sum. The one here was measured from the wheel
# recbole-1.2.1-py3-none-any.whl as PyPI gives it. GroupLens publishes none for u.item and
# movies.dat: beside ratings whose sum is right they are read, but every rated film must be in them.
ITEM_SHA256 = {
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}


@dataclass(frozen=True)
class Raw:
    """The raw files of one data set, as bytes."""

    ratings: bytes
    items: bytes | None  # None: no item file at hand
    items_name: str
    verified: bool
    origin: str  # where the ratings were read, for messages


def default_cache() -> Path:
    """The folder that verified files are kept in: DUET_DATA, or the user's cache folder."""
    return named("DUET_DATA") or Path(pooch.os_cache("duet-by-hand"))


def fetch(
    name: str,
    *,
    path: str | os.PathLike[str] | None = None,
    allow_unverified: bool = False,
) -> Raw:
    """Return the raw files of a data set from the first source that gives them whole.

    A `path` (or the data set's environment variable) is the only source when it is given: who
    names a file wants that file or an error. Of verified ratings without an item file, titles and
    genres may come from the cache. Without a `path`: cache, GroupLens, and for ml-100k the wheel.
    `allow_unverified` is for the `path` alone.

    Raises DataError, which names every source with its error and the file to fetch by hand.
    Warns when a damaged copy in the cache was replaced, and when the cache cannot be written to.
    """
    dataset = find_dataset(name)
    cache = default_cache()
    errors: dict[str, Exception] = {}
    for source, read in _sources(dataset, path, allow_unverified, cache):
        try:
            raw = read()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            errors[source] = error
        else:
            _warn_of_damage(errors, source)
            return raw
    raise DataError(_all_failed(dataset, errors, cache))


def _warn_of_damage(errors: dict[str, Exception], source: str) -> None:
    for place, error in errors.items():
        if place.startswith("cache") and not isinstance(error, NotThereError):
            warnings.warn(
                f"{place}: {error}. Fetched again from {source}", CacheWarning, stacklevel=4
            )


def find_dataset(name: str) -> Dataset:
    """The data set of that name; DataError if there is none."""
    if name not in DATASETS:
        known = ", ".join(DATASETS)
        raise DataError(f"no data set is called {name!r}: take one of {known}")
    return DATASETS[name]


def _sources(
    dataset: Dataset, path: str | os.PathLike[str] | None, allow_unverified: bool, cache: Path
) -> list[tuple[str, Callable[[], Raw]]]:
    """The sources to try, in order, each with a name for the reader."""
    place = named(dataset.variable) if path is None else absolute(path)
    if place:
        source = f"path {place}" + (f" ({dataset.variable})" if path is None else "")
        return [(source, lambda: _read_named(dataset, place, allow_unverified, cache))]
    sources: list[tuple[str, Callable[[], Raw]]] = [
        (f"cache {cache}", lambda: _read_cache(dataset, cache)),
        (f"GroupLens {dataset.url}", lambda: from_grouplens(dataset, cache)),
    ]
    if dataset.wheel:
        sources.append((f"PyPI {WHEEL}", lambda: from_wheel(dataset, cache)))
    return sources


def _all_failed(dataset: Dataset, errors: dict[str, Exception], cache: Path) -> str:
    tried = "\n".join(
        f"  - {source}: {str(error) or type(error).__name__}" for source, error in errors.items()
    )
    return (
        f"{dataset.name} could not be had:\n{tried}\n"
        f"Fetch {dataset.url}\n"
        f"  (SHA-256 {dataset.zip_sha256})\n"
        f"by hand, and save it as {cache / (dataset.name + '.zip')},\n"
        f"or pass path=..., or set {dataset.variable} to where it is."
    )


# --- a local zip, folder or file -------------------------------------------------------------


def read_local(dataset: Dataset, path: Path, allow_unverified: bool = False) -> Raw:
    """Read a data set from a zip, a folder (its own or the one above) or its ratings file."""
    if path.is_dir():
        return _read_first(dataset, path, allow_unverified)
    if not path.exists():
        raise NotThereError(f"{path} does not exist")
    if path.suffix.lower() == ".zip":
        return _read_zip(dataset, path, allow_unverified)
    return _read_loose(dataset, path, allow_unverified)


def _read_cache(dataset: Dataset, cache: Path) -> Raw:
    """Read a data set from the cache."""
    if cache.exists() and not cache.is_dir():
        raise NotThereError(f"{cache} is no folder")
    return read_local(dataset, cache)


def _read_named(dataset: Dataset, path: Path, allow_unverified: bool, cache: Path) -> Raw:
    """Read what the user names; where verified ratings lie alone, with the cache's item file."""
    raw = read_local(dataset, path, allow_unverified)
    if raw.items is None and raw.verified:
        with contextlib.suppress(DataError, OSError):
            kept = _read_cache(dataset, cache)
            return replace(raw, items=kept.items, items_name=kept.items_name)
    return raw


def _read_first(dataset: Dataset, folder: Path, allow_unverified: bool) -> Raw:
    """Read the first whole copy in a folder: the zip, the data set's folder, the folder itself."""
    errors = []
    places = [folder / f"{dataset.name}.zip"]
    for place in (folder / dataset.name, folder):
        places += [place / dataset.ratings, place / f"{dataset.ratings}.gz"]
    for place in filter(Path.is_file, places):
        try:
            if place.suffix == ".zip":
                return _read_zip(dataset, place, allow_unverified)
            return _read_loose(dataset, place, allow_unverified)
        except (DataError, OSError) as error:
            errors.append(str(error))
    if errors:
        raise DataError("; ".join(errors))
    raise NotThereError(f"no {dataset.name}.zip and no {dataset.ratings} there")


def _read_loose(dataset: Dataset, ratings: Path, allow_unverified: bool) -> Raw:
    """Read a ratings file that lies open, and the item file beside it, if there is one."""
    items = next(filter(Path.is_file, (ratings.with_name(name) for name in dataset.items)), None)
    raw_ratings = _read_file(ratings)
    problems = _mismatch(dataset, ratings.name, raw_ratings, dataset.ratings_sha256)
    raw_items = None
    if items is not None:
        raw_items = _read_file(items)
        if items.name in ITEM_SHA256:
            problems += _mismatch(dataset, items.name, raw_items, ITEM_SHA256[items.name])
    if problems and not allow_unverified:
        raise DataError(_refusal(problems))
    name = items.name if items else ""
    return Raw(raw_ratings, raw_items, name, verified=not problems, origin=str(ratings))


# What zipfile raises for a broken archive.
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,
    struct.error,
    lzma.LZMAError,
    zlib.error,
)


@contextlib.contextmanager
def _opened(data: bytes, path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive in `data`, its member names found safe; DataError for a broken one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _refuse_unsafe(archive, path)
            yield archive
    except _BROKEN_ZIP as error:
        raise DataError(f"{path.name} is no whole zip file ({error}): fetch it again") from error


def _read_zip(dataset: Dataset, path: Path, allow_unverified: bool) -> Raw:
    """Read the two files from a zip, in memory: nothing is unpacked to the disk."""
    data = _read_file(path)
    problems = _mismatch(dataset, path.name, data, dataset.zip_sha256)
    if problems and not allow_unverified:
        raise DataError(_refusal(problems))
    with _opened(data, path) as archive:
        ratings = _read_member(archive, path, f"{dataset.name}/{dataset.ratings}")
        inside = set(archive.namelist())
        here = (name for name in dataset.items if f"{dataset.name}/{name}" in inside)
        name = next(here, "")
        items = _read_member(archive, path, f"{dataset.name}/{name}") if name else None
    origin = f"{dataset.ratings} in {path}"
    return Raw(ratings, items, name, verified=not problems, origin=origin)


def _refuse_unsafe(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a zip with a member that could be written outside its folder."""
    for member in archive.infolist():
        name = PurePosixPath(member.filename.replace("\\", "/"))
        link = stat.S_ISLNK(member.external_attr >> 16)
        if link or name.is_absolute() or ".." in name.parts or ":" in member.filename:
            raise DataError(
                f"{path.name} holds the unsafe member {member.filename!r}: it is not GroupLens's "
                "file; fetch it again"
            )


def _read_member(archive: zipfile.ZipFile, path: Path, member: str) -> bytes:
    if member not in archive.namelist():
        some = ", ".join(archive.namelist()[:3])
        raise DataError(f"{path.name} holds no {member} (but {some}): is it another data set?")
    with archive.open(member) as stream:
        return _read_limited(stream.read, f"{member} in {path.name}")


def _read_file(path: Path) -> bytes:
    """Read a file whole, unpacking a .gz, and never more than MAX_BYTES."""
    if path.suffix != ".gz":
        with path.open("rb") as plain:
            return _read_limited(plain.read, path.name)
    try:
        with gzip.open(path) as packed:
            return _read_limited(packed.read, path.name)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path.name} is no whole gzip file ({error}): fetch it again") from error


def _read_limited(read: Callable[[int], bytes], name: str) -> bytes:
    data = read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise DataError(f"{name} holds more than {MAX_BYTES:,} bytes: it is not MovieLens")
    return data


# --- verification ----------------------------------------------------------------------------


def sha256(data: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _mismatch(dataset: Dataset, name: str, data: bytes, expected: str) -> list[str]:
    """What is wrong with a file's sum: an empty list, or one line that says it."""
    found = sha256(data)
    if found == expected:
        return []
    return [f"{name} has SHA-256 {found}, expected {expected}{_diagnosis(dataset, data, found)}"]


def _diagnosis(dataset: Dataset, data: bytes, found: str) -> str:
    """A guess at why the sum is another one."""
    for other in DATASETS.values():
        if other is not dataset and found in (other.zip_sha256, other.ratings_sha256):
            return f": this is {other.name}, not {dataset.name}"
    whole = dataset.zip_bytes
    if whole and data.startswith(b"PK") and len(data) < whole:
        return f": it ends after {len(data):,} of {whole:,} bytes"
    return ""


def _refusal(problems: list[str]) -> str:
    return (
        "; ".join(problems) + ". Take the file that GroupLens gives, or pass "
        "allow_unverified=True (--allow-unverified): all that is made from it is then labelled so"
    )


# --- GroupLens and the wheel -----------------------------------------------------------------


def from_grouplens(dataset: Dataset, cache: Path) -> Raw:
    """Fetch the data set's zip from GroupLens, read it, and keep it in the cache.

    The certificate of the host has lapsed more than once. What comes is public and must have the
    pinned sum, so then the second try does without the certificate.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = _retrieve(dataset, Path(folder), verify=True)
        except requests.exceptions.SSLError:
            path = _retrieve(dataset, Path(folder), verify=False)
        raw = _read_zip(dataset, path, allow_unverified=False)
        _keep(cache / path.name, path.read_bytes())
    return raw


def _retrieve(dataset: Dataset, folder: Path, verify: bool) -> Path:
    """Let pooch fetch the zip into a folder, and compare its sum."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # no lines about downloads in a notebook's output
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the certificate
            file = pooch.retrieve(
                dataset.url,
                known_hash=f"sha256:{dataset.zip_sha256}",
                fname=f"{dataset.name}.zip",
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=GROUPLENS_TIMEOUT, verify=verify),
            )
    finally:
        logger.setLevel(level)
    return Path(file)


def from_wheel(dataset: Dataset, cache: Path) -> Raw:
    """Take ml-100k from the RecBole wheel, let pip fetch it, and keep the two files in the cache.

    Without its first line the wheel's `ml-100k.inter` is byte for byte `u.data`.
    """
    with tempfile.TemporaryDirectory() as folder:
        _pip_download(WHEEL, Path(folder))
        wheel = next(Path(folder).glob("*.whl"))
        with _opened(_read_file(wheel), wheel) as archive:
            inside = "recbole/dataset_example/ml-100k/ml-100k"
            ratings = _read_member(archive, wheel, f"{inside}.inter").partition(b"\n")[2]
            items = _read_member(archive, wheel, f"{inside}.item")
    name = dataset.items[0]
    problems = _mismatch(dataset, "ml-100k.inter", ratings, dataset.ratings_sha256)
    problems += _mismatch(dataset, name, items, ITEM_SHA256[name])
    if problems:
        raise DataError("; ".join(problems))
    _keep(cache / dataset.name / name, items)
    _keep(cache / dataset.name / dataset.ratings, ratings)
    return Raw(ratings, items, name, verified=True, origin=f"ml-100k.inter in {wheel.name}")


def _pip_download(requirement: str, folder: Path) -> None:
    """Fetch one wheel with pip, which knows the user's index and proxy."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--timeout=10"]
    command += ["--retries=1", requirement, "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise DataError(f"pip download failed: {lines[-1]}")


def _keep(path: Path, data: bytes) -> None:
    with optional(path, "DUET_DATA"):
        write_aside(path, data)


def write_aside(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: to a file beside it, then moved into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(data)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)  # there only if it was not moved
