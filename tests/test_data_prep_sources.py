"""Every way in, and every way to go wrong, on a tiny data set made here.

The registry's sums are replaced by those of the tiny files, so that a whole copy can be made.
"""

import builtins
import dataclasses
import errno
import gzip
import hashlib
import io
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from data_prep import DataError, load_movielens, places, sources
from data_prep.__main__ import main

RATINGS = b"".join(b"%d\t%d\t%d\t%d\n" % (u, i, u % 5 + 1, 880_000_000 + u * i)
                   for u in range(1, 9) for i in range(1, 9))  # fmt: skip
WHEEL_ITEMS = b"item_id\ttitle\tyear\tclass\n" + b"".join(
    b"%d\tFilm %d\t1995\tDrama\n" % (i, i) for i in range(1, 9)
)
U_ITEM = b"".join(
    b"%d|Film %d (1995)|01-Jan-1995||http://x|" % (i, i) + b"|".join([b"0"] * 8 + [b"1"])
    + b"|0" * 10 + b"\n" for i in range(1, 9)
)  # fmt: skip
WHEEL_FOLDER = "recbole/dataset_example/ml-100k/ml-100k"


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


ZIP = zipped({"ml-100k/README": b"read me", "ml-100k/u.data": RATINGS, "ml-100k/u.item": U_ITEM})
WHEEL = zipped(
    {f"{WHEEL_FOLDER}.inter": b"heading\n" + RATINGS, f"{WHEEL_FOLDER}.item": WHEEL_ITEMS}
)


class Server(BaseHTTPRequestHandler):
    """Serves `server.body` as `server.how` says."""

    def do_GET(self):
        body, how = self.server.body, self.server.how
        if how == "silent":
            self.server.waited_for = not self.server.release.wait(20)
            return
        self.send_response(404 if how == "missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if how in ("breaks off", "stalls"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if how == "stalls":
                self.server.release.wait(20)
            return
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def host():
    """A host in GroupLens's place."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.body, server.how, server.release = ZIP, "whole", threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path, host):
    """The registry with the tiny data set in it; a cache of its own; no wheel unless asked."""
    dataset = dataclasses.replace(
        sources.DATASETS["ml-100k"],
        url=f"http://127.0.0.1:{host.server_port}/ml-100k.zip",
        zip_bytes=len(ZIP),
        zip_sha256=sha(ZIP),
        ratings_sha256=sha(RATINGS),
    )
    monkeypatch.setitem(sources.DATASETS, "ml-100k", dataset)
    monkeypatch.setitem(sources.ITEM_SHA256, "ml-100k.item", sha(WHEEL_ITEMS))
    monkeypatch.setenv("DUET_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("DUET_ML100K", raising=False)

    def no_index(requirement, folder):
        raise DataError("no index can be reached")

    monkeypatch.setattr(sources, "_pip_download", no_index)
    return dataset


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def files(folder) -> list[str]:
    """All that lies in a folder, hidden files too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def give_wheel(monkeypatch, data=WHEEL):
    def download(requirement, folder):
        (folder / "recbole-1.2.1-py3-none-any.whl").write_bytes(data)

    monkeypatch.setattr(sources, "_pip_download", download)


def check(data, label="ml-100k"):
    assert (data.n_users, data.n_items, len(data)) == (8, 8, 64)
    assert data.label == label and data.sha256 == sha(RATINGS)
    assert data.titles[3] == "Film 3 (1995)"
    assert [data.genre_names[g] for g in data.genres[3].nonzero()[0]] == ["Drama"]


# --- the sources in their order --------------------------------------------------------------


def test_grouplens_then_the_cache(host, cache, capfd):
    check(load_movielens())
    assert files(cache) == ["ml-100k.zip"]
    host.how = "missing"
    check(load_movielens())  # from the cache now
    assert capfd.readouterr() == ("", "")  # nothing that would stay in a notebook's output


def test_the_wheel_where_grouplens_is_away(host, cache, monkeypatch):
    host.how = "missing"
    give_wheel(monkeypatch)
    check(load_movielens())
    assert files(cache) == ["ml-100k/ml-100k.item", "ml-100k/u.data"]
    monkeypatch.setattr(sources, "_pip_download", None)
    check(load_movielens())  # from the cache now


def test_the_wheel_on_the_index_is_the_pinned_one(monkeypatch, tmp_path):
    """The real wheel, by the real command: the sums in the registry are those of its files."""
    monkeypatch.undo()
    raw = sources.from_wheel(sources.DATASETS["ml-100k"], tmp_path)
    assert raw.verified and len(raw.ratings) == 1_979_173
    assert files(tmp_path) == ["ml-100k/ml-100k.item", "ml-100k/u.data"]


def test_a_lapsed_certificate_is_no_hindrance(monkeypatch):
    """The sum is pinned: what comes over an untrusted line is as good, or refused."""
    fetch, asked = sources._retrieve, []

    def retrieve(dataset, cache, verify):
        asked.append(verify)
        if verify:
            raise requests.exceptions.SSLError("certificate has expired")
        return fetch(dataset, cache, verify)

    monkeypatch.setattr(sources, "_retrieve", retrieve)
    check(load_movielens())
    assert asked == [True, False]


def test_a_silent_host_is_given_up(host, monkeypatch, cache):
    host.how = "silent"
    assert sum(sources.GROUPLENS_TIMEOUT) <= 15
    monkeypatch.setattr(sources, "GROUPLENS_TIMEOUT", (0.2, 0.2))
    give_wheel(monkeypatch)
    check(load_movielens())
    assert not getattr(host, "waited_for", False)


def test_when_all_fail_each_is_named(host, cache, tiny, monkeypatch):
    host.how = "missing"
    with pytest.raises(DataError) as caught:
        load_movielens()
    message = str(caught.value)
    for part in (
        f"cache {cache}: {cache} does not exist",
        f"GroupLens {tiny.url}: 404 Client Error",
        "PyPI recbole==1.2.1: no index can be reached",
        f"Fetch {tiny.url}",
        tiny.zip_sha256,
        f"save it as {cache / 'ml-100k.zip'}",
        "pass path=",
        "DUET_ML100K",
    ):
        assert part in message
    assert files(cache) == []


def test_what_pip_says_is_passed_on(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DataError, match="pip download failed: .*recbole"):
        sources.from_wheel(sources.DATASETS["ml-100k"], tmp_path)
    assert files(tmp_path) == []


def test_no_such_data_set():
    with pytest.raises(DataError, match="'ml-20m'.*ml-100k, ml-1m"):
        load_movielens("ml-20m")


# --- a local copy ----------------------------------------------------------------------------


def folder_with(path, **more):
    path.mkdir(parents=True)
    (path / "u.data").write_bytes(RATINGS)
    for name, data in more.items():
        (path / name.replace("_", ".")).write_bytes(data)
    return path


def test_a_zip(tmp_path, cache):
    path = tmp_path / "Downloads.zip"
    path.write_bytes(ZIP)
    check(load_movielens(path=path))
    assert not cache.exists()  # nothing was fetched


def test_a_variable_names_it(tmp_path, monkeypatch, host):
    path = tmp_path / "copy.zip"
    path.write_bytes(ZIP)
    host.how = "missing"
    monkeypatch.setenv("DUET_ML100K", str(path))
    check(load_movielens())
    monkeypatch.setenv("DUET_ML100K", str(tmp_path / "nowhere.zip"))
    with pytest.raises(DataError, match="nowhere.zip .DUET_ML100K.: .* does not exist"):
        load_movielens()


@pytest.mark.parametrize("asked", ["", "ml-100k"])
def test_a_folder_or_the_one_above(tmp_path, asked):
    folder_with(tmp_path / "in" / "ml-100k")
    data = load_movielens(path=tmp_path / "in" / asked)
    assert data.label == "ml-100k" and data.titles[3] == "item 3"


def test_titles_beside_the_ratings(tmp_path):
    """No sum of u.item is known: it is read line by line, and must name every rated film once."""
    path = folder_with(tmp_path / "in", u_item=U_ITEM)
    check(load_movielens(path=path))
    check(load_movielens(path=path / "u.data"))
    lines = U_ITEM.splitlines(keepends=True)
    for bad, why in (
        (U_ITEM[:-30], "u.item, line 8 is not a film"),
        (b"".join(lines[:5]), "u.item lacks 3 of the films in .*u.data, the first is 6"),
        (U_ITEM + lines[2], "u.item, line 9 names film 3 again"),
        (b"", "u.item, line 1 is not a film"),
        (b"<html>404</html>\n", "u.item, line 1 is not a film"),
    ):
        (path / "u.item").write_bytes(bad)
        with pytest.raises(DataError, match=why):
            load_movielens(path=path)
    (path / "ml-100k.item").write_bytes(WHEEL_ITEMS)  # the one whose sum is known comes first
    check(load_movielens(path=path))
    (path / "ml-100k.item").write_bytes(flipped(WHEEL_ITEMS, 40))
    with pytest.raises(DataError, match="ml-100k.item has SHA-256"):
        load_movielens(path=path)


@pytest.mark.parametrize("kept", ["zip", "wheel"])
def test_titles_of_lone_ratings_come_from_the_cache(tmp_path, host, cache, monkeypatch, kept):
    path = tmp_path / "u.data"
    path.write_bytes(RATINGS)
    if kept == "wheel":
        host.how = "missing"
        give_wheel(monkeypatch)
    load_movielens()
    host.how = "missing"
    check(load_movielens(path=path))
    other = tmp_path / "other"
    other.write_bytes(RATINGS[: RATINGS.rindex(b"8\t8\t")])  # not MovieLens: nor need its films be
    assert load_movielens(path=other, allow_unverified=True).titles[3] == "item 3"


@pytest.mark.parametrize("name", ["u.data", "u.data.gz"])
def test_the_ratings_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(RATINGS) if name.endswith("gz") else RATINGS)
    data = load_movielens(path=path)
    assert data.label == "ml-100k" and data.sha256 == sha(RATINGS) and data.titles[3] == "item 3"
    assert load_movielens(path=tmp_path).sha256 == data.sha256


def test_a_path_is_the_only_source(tmp_path):
    """Who names a file wants that file: a good copy in the cache does not hide a bad one."""
    load_movielens()
    path = tmp_path / "bad.zip"
    path.write_bytes(ZIP[:-1])
    for bad in (path, tmp_path / "not there"):
        with pytest.raises(DataError, match=f"path {bad}"):
            load_movielens(path=bad)


# --- corruption ------------------------------------------------------------------------------


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_truncated_zip(tmp_path):
    path = tmp_path / "ml-100k.zip"
    path.write_bytes(ZIP[:-100])
    with pytest.raises(DataError, match=f"it ends after {len(ZIP) - 100:,} of {len(ZIP):,} bytes"):
        load_movielens(path=path)
    with pytest.raises(DataError, match="no whole zip file"):
        load_movielens(path=path, allow_unverified=True)


def test_flipped_byte(tmp_path):
    path = tmp_path / "ml-100k.zip"
    path.write_bytes(flipped(ZIP, ZIP.index(b"u.data") + 40))
    with pytest.raises(DataError, match=f"SHA-256 .*, expected {sha(ZIP)}"):
        load_movielens(path=path)
    with pytest.raises(DataError, match="no whole zip file"):  # the member's own checksum
        load_movielens(path=path, allow_unverified=True)
    loose = tmp_path / "u.data"
    loose.write_bytes(flipped(RATINGS, 4))
    with pytest.raises(DataError, match=f"u.data has SHA-256 .*, expected {sha(RATINGS)}"):
        load_movielens(path=loose)


def test_any_damage_is_a_data_error(tmp_path):
    """With the flag, nothing but a DataError comes out of a damaged zip, whatever was hit."""
    dice = random.Random(0)
    path = tmp_path / "ml-100k.zip"
    failed = 0
    for _ in range(300):
        data = bytearray(ZIP)
        for place in dice.sample(range(len(ZIP)), dice.choice([1, 3, 30])):
            data[place] = dice.randrange(256)
        path.write_bytes(data[: dice.choice([len(ZIP), dice.randrange(1, len(ZIP))])])
        try:
            load_movielens(path=path, allow_unverified=True)
        except DataError:
            failed += 1
    assert failed > 200


def test_truncated_gzip(tmp_path):
    path = tmp_path / "u.data.gz"
    path.write_bytes(gzip.compress(RATINGS)[:-20])
    with pytest.raises(DataError, match="u.data.gz is no whole gzip file"):
        load_movielens(path=path, allow_unverified=True)


def test_another_data_set(tmp_path, monkeypatch):
    other_zip = zipped({"ml-1m/ratings.dat": RATINGS.replace(b"\t", b"::")})
    other = dataclasses.replace(sources.DATASETS["ml-1m"], zip_sha256=sha(other_zip))
    monkeypatch.setitem(sources.DATASETS, "ml-1m", other)
    path = tmp_path / "some.zip"
    path.write_bytes(other_zip)
    with pytest.raises(DataError, match="this is ml-1m, not ml-100k"):
        load_movielens(path=path)
    with pytest.raises(DataError, match="holds no ml-100k/u.data .but ml-1m/ratings.dat"):
        load_movielens(path=path, allow_unverified=True)


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("ml-100k/u.user")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "member", ["../evil", "ml-100k/../../evil", "/etc/evil", "C:\\evil", "..\\evil", link()]
)
def test_unsafe_member(tmp_path, member):
    path = tmp_path / "ml-100k.zip"
    path.write_bytes(ZIP)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match="unsafe member"):
        load_movielens(path=path, allow_unverified=True)


@pytest.mark.parametrize("name", ["ml-100k.zip", "u.data.gz", "u.data"])
def test_more_than_any_movielens_file(tmp_path, monkeypatch, name):
    monkeypatch.setattr(sources, "MAX_BYTES", 2**20)
    bomb = bytes(2**20 + 1)
    path = tmp_path / name
    packed = {"zip": zipped({"ml-100k/u.data": bomb}), "gz": gzip.compress(bomb), "data": bomb}
    path.write_bytes(packed[name.rsplit(".")[-1]])
    with pytest.raises(DataError, match="more than 1,048,576 bytes"):
        load_movielens(path=path, allow_unverified=True)


# --- a cache is whole or empty ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["breaks off", "tampered", "missing"])
def test_a_bad_download_leaves_nothing(host, cache, how):
    host.how = how
    host.body = flipped(ZIP, 200) if how == "tampered" else ZIP
    with pytest.raises(DataError, match="GroupLens"):
        load_movielens()
    assert files(cache) == []
    host.how, host.body = "whole", ZIP
    check(load_movielens())


def test_a_killed_download_is_no_copy(host, cache, tiny, tmp_path):
    host.how = "stalls"
    code = (
        "import dataclasses, sys; from data_prep import load_movielens, sources\n"
        "real = sources.DATASETS['ml-100k']\n"
        "sources.DATASETS['ml-100k'] = dataclasses.replace("
        "real, url=sys.argv[1], zip_sha256=sys.argv[2])\n"
        "load_movielens()"
    )
    half = tmp_path / "half"  # where it is written aside
    half.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", code, tiny.url, tiny.zip_sha256],
        env={**os.environ, "TMPDIR": str(half)},
    )
    deadline = time.time() + 30
    while not files(half) and time.time() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert files(half) and not cache.exists()
    host.how = "whole"
    check(load_movielens())


@pytest.mark.parametrize("what", ["inter", "item", "cut"])
def test_a_changed_wheel_leaves_nothing(host, cache, monkeypatch, what):
    host.how = "missing"
    members = {f"{WHEEL_FOLDER}.inter": b"heading\n" + RATINGS, f"{WHEEL_FOLDER}.item": WHEEL_ITEMS}
    if what == "cut":
        give_wheel(monkeypatch, WHEEL[:-50])
    else:
        members[f"{WHEEL_FOLDER}.{what}"] = flipped(members[f"{WHEEL_FOLDER}.{what}"], 40)
        give_wheel(monkeypatch, zipped(members))
    with pytest.raises(DataError, match="PyPI recbole==1.2.1: .*(SHA-256|zip)"):
        load_movielens()
    assert files(cache) == []


def test_writing_stops_half_way(cache, monkeypatch):
    def full(source, target):
        raise OSError("No space left on device")

    monkeypatch.setattr(sources.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        sources.write_aside(cache / "u.data", RATINGS)
    assert files(cache) == []


def test_a_damaged_cache_is_fetched_again_and_said(cache):
    load_movielens()
    (cache / "ml-100k.zip").write_bytes(flipped(ZIP, 300))
    with pytest.warns(UserWarning, match="expected .* Fetched again from GroupLens"):
        check(load_movielens())
    assert (cache / "ml-100k.zip").read_bytes() == ZIP


def test_a_cache_is_never_unverified(host, cache):
    host.how = "missing"
    folder_with(cache / "ml-100k", u_item=U_ITEM)
    check(load_movielens())
    (cache / "ml-100k" / "u.data").write_bytes(RATINGS[:-1])
    with pytest.raises(DataError, match="u.data has SHA-256"):
        load_movielens(allow_unverified=True)


def make_unwritable(cache, how, monkeypatch):
    """A cache that cannot be written to, in one of the ways that also stop root."""
    if how == "a file in its place":
        cache.write_bytes(b"")
    elif how == "no folder can be there":
        monkeypatch.setenv("DUET_DATA", "/proc/no/such/folder")
    else:
        cache.mkdir()

        def write(path, data):
            raise OSError({"full": errno.ENOSPC, "read-only": errno.EROFS}[how], "no")

        monkeypatch.setattr(sources, "write_aside", write)


@pytest.mark.parametrize("source", ["GroupLens", "the wheel"])
@pytest.mark.parametrize(
    "how", ["a file in its place", "no folder can be there", "full", "read-only"]
)
def test_a_cache_that_cannot_be_written_stops_nothing(host, cache, monkeypatch, source, how):
    if source == "the wheel":
        host.how = "missing"
        give_wheel(monkeypatch)
    make_unwritable(cache, how, monkeypatch)
    with pytest.warns(UserWarning, match=r"cannot be written to.*Set DUET_DATA") as said:
        check(load_movielens())
    assert str(sources.default_cache()) in str(said[0].message)


# --- places ----------------------------------------------------------------------------------


def test_a_relative_place_is_taken_from_here_and_said_once(tmp_path, monkeypatch, host):
    (tmp_path / "copy.zip").write_bytes(ZIP)
    host.how = "missing"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUET_ML100K", "copy.zip")
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)  # as in a notebook
    with pytest.warns(UserWarning, match=f"DUET_ML100K is 'copy.zip'.*{tmp_path}/copy.zip"):
        check(load_movielens())
    monkeypatch.chdir("/")
    with warnings.catch_warnings(action="error"):
        check(load_movielens())  # still that one


def test_home_and_relative_paths(tmp_path, monkeypatch, host):
    (tmp_path / "copy.zip").write_bytes(ZIP)
    host.how = "missing"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    check(load_movielens(path="~/copy.zip"))
    check(load_movielens(path="copy.zip"))
    with pytest.raises(DataError, match=f"{tmp_path}/no.zip does not exist"):
        load_movielens(path="no.zip")
    monkeypatch.setenv("DUET_ML100K", "~/copy.zip")
    check(load_movielens())


def test_places_for_a_process_that_runs_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    given = {
        "DUET_DATA": "data dir",
        "DUET_CACHE": "../c",
        "DUET_SERVED": "~/s",
        "DUET_ML100K": "/a/u.data",
        "DUET_ML1M": "~",
    }
    for variable in places.VARIABLES:
        monkeypatch.setenv(variable, given.get(variable, ""))  # an empty one is not set
    assert places.resolved() == {
        "DUET_DATA": f"{tmp_path}/data dir",
        "DUET_CACHE": f"{tmp_path}/../c",
        "DUET_SERVED": "/home/me/s",
        "DUET_ML100K": "/a/u.data",
        "DUET_ML1M": "/home/me",
    }


# --- by hand ---------------------------------------------------------------------------------


def test_the_command_prints_one_line(capsys, tmp_path):
    assert main(["ml-100k"]) == 0
    assert (
        capsys.readouterr().out
        == f"ml-100k: 8 users, 8 items, 64 rows, SHA-256 {sha(RATINGS)[:12]}\n"
    )
    path = tmp_path / "u.data"
    path.write_bytes(RATINGS + b"9\t1\t3\t880000000\n")
    assert main(["ml-100k", "--path", str(path)]) == 1
    assert "expected" in capsys.readouterr().err
    assert main(["ml-100k", "--path", str(path), "--allow-unverified", "--k-core", "1"]) == 0
    assert capsys.readouterr().out.startswith("ml-100k (unverified): 9 users, 8 items, 65 rows")
