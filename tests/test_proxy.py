"""The cloud behind the proxy that is shipped with it: two workers, and two attacks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import small_cloud
from conftest import missing

from duetlib.serving.cloud import PROXY, Settings
from duetlib.serving.device import Device
from duetlib.serving.transport import Http

FILES = 1024  # that a process may open, as on many systems
ATTACKER = "127.0.0.2"  # another address than the devices', on this machine too


class Served(NamedTuple):
    """A proxy, the workers behind it, and what the workers wrote."""

    proxy: str
    workers: list[str]
    logs: list[Path]


def free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


def token() -> str:
    return json.loads((small_cloud.folder() / "cloud" / "secret.json").read_text())["token"]


def wait_for(url: str) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(url)
            return
        time.sleep(0.05)
    pytest.fail(f"nothing answers at {url}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two workers and HAProxy, as `haproxy.cfg` says, but on ports that are free here."""
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if haproxy is None:
        missing("no HAProxy on this machine: the README says how to install it")
    folder, ports = tmp_path_factory.mktemp("proxy"), free_ports(3)
    config = PROXY.read_text().replace("127.0.0.1:8765", f"127.0.0.1:{ports[0]}")
    (folder / "haproxy.cfg").write_text(config.replace("127.0.0.1:8766", f"127.0.0.1:{ports[1]}"))
    logs = [folder / f"{n}.log" for n in (1, 2)]
    started = []
    for port, log in zip(ports, logs, strict=False):
        command = [sys.executable, "-m", "duetlib.serving.cloud", "--port", str(port)]
        command += ["--folder", str(small_cloud.folder())]
        started.append(
            subprocess.Popen(command, stderr=log.open("w"), preexec_fn=few_files)  # noqa: PLW1509
        )
    workers = [f"http://127.0.0.1:{port}" for port in ports[:2]]
    for url in workers:
        wait_for(f"{url}/health")
    started.append(
        subprocess.Popen(
            [haproxy, "-db", "-f", str(folder / "haproxy.cfg")],
            env={**os.environ, "DUET_PROXY": f"127.0.0.1:{ports[2]}"},
            preexec_fn=few_files,
        )
    )
    proxy = f"http://127.0.0.1:{ports[2]}"
    wait_for(proxy)
    yield Served(proxy, workers, logs)
    for process in started:
        process.terminate()
    for process in started:
        process.wait(20)


def phone(served: Served) -> Device:
    return Device(small_cloud.folder() / "device", Http(served.proxy, token(), timeout=10.0))


def counts(worker: str) -> dict[str, int]:
    return httpx.get(f"{worker}/health").json()["counts"]


def test_two_workers_share_key_and_version_and_say_whose_the_counters_are(served: Served) -> None:
    before = [counts(worker).get("answered", 0) for worker in served.workers]
    devices = [phone(served) for _ in range(6)]
    assert [one.start_session([3, 4]).source for one in devices] == ["fresh"] * 6
    about = [httpx.get(f"{worker}/health").json() for worker in served.workers]
    assert about[0]["worker"] != about[1]["worker"]
    assert about[0]["model"] == about[1]["model"] and about[0]["version"] == about[1]["version"]
    more = [each["counts"]["answered"] - n for each, n in zip(about, before, strict=True)]
    assert sum(more) == 6 and min(more) > 0


def test_counters_are_for_this_machine_alone(served: Served) -> None:
    assert httpx.get(f"{served.proxy}/health").status_code == 404


@contextlib.contextmanager
def connections(url: str, n: int, first_bytes: bytes, addresses: int = 1) -> Iterator[None]:
    """So many connections of the attacker's that send so much and then nothing."""
    port = int(url.rsplit(":")[-1])
    with contextlib.ExitStack() as held:
        for number in range(n):
            one = held.enter_context(socket.socket())
            one.settimeout(2)
            address = ATTACKER if addresses == 1 else f"127.0.1.{1 + number % addresses}"
            one.bind((address, 0))
            with contextlib.suppress(OSError):  # the proxy has had enough of this address
                one.connect(("127.0.0.1", port))
                one.sendall(first_bytes)
        yield


HALF = b"POST /weights HTTP/1.1\r\nHost: cloud\r\nContent-Length: 9\r\nX-Half: "


@pytest.mark.parametrize(
    ("n", "first_bytes", "addresses"),
    [
        pytest.param(511, HALF, 1, id="half-sent heads"),
        pytest.param(511, HALF[:-8] + b"\r\n", 1, id="half-sent bodies"),
        pytest.param(1100, b"", 1, id="silent"),
        pytest.param(1100, b"", 30, id="silent, from thirty addresses"),
    ],
)
def test_an_attack_keeps_nobody_from_their_weights(
    served: Served, n: int, first_bytes: bytes, addresses: int
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # of the attacker's
    written = [log.stat().st_size for log in served.logs]
    with connections(served.proxy, n, first_bytes, addresses):
        for _ in range(3):
            session = phone(served).start_session([3, 4])
            assert session.source == "fresh", session.why
    for log, before in zip(served.logs, written, strict=True):
        assert "Traceback" not in log.read_text()
        assert log.stat().st_size - before < 1000


def test_without_the_proxy_one_attack_locks_all_out(served: Served) -> None:
    """Why it is there: the very attack that the test above is about, on a worker itself."""
    ask = Http(served.workers[0], token(), timeout=1.0)
    alone = Device(small_cloud.folder() / "device", ask, wait=0.0)
    with connections(served.workers[0], Settings().max_connections - 1, HALF):
        assert alone.start_session([3, 4]).source == "shipped"


def test_ctrl_c_ends_the_cloud_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "duetlib.serving.cloud", "--port", "0"]
    command += ["--folder", str(small_cloud.folder())]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        first = next(line for line in lines if "for this machine alone" in line)
        assert str(PROXY) in first
        next(line for line in lines if "running" in line)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert "Traceback" not in rest and "KeyboardInterrupt" not in rest
    assert process.returncode == 130


def test_what_the_cloud_is_told_is_checked_before_it_serves(capfd: pytest.CaptureFixture) -> None:
    for wrong in (
        {"max_body": 0},
        {"max_batch": 1.5},
        {"max_connections": -1},
        {"body_seconds": 0},
        {"batch_seconds": float("nan")},
        {"lifetime": 1e9},
        {"lifetime": float("inf")},
    ):
        (name,) = wrong
        with pytest.raises(ValueError, match=rf"^{name} is .*it must be"):
            Settings(**wrong)
    for more, told in (
        (["--port", "70000"], "port is 70000"),
        (["--port", "x"], "port is 'x'"),
        (["--batch", "0"], "max_batch is 0"),
        (["--folder", "/nowhere"], "no model in /nowhere"),
    ):
        given = ["--folder", str(small_cloud.folder()), *more]
        done = subprocess.run(
            [sys.executable, "-m", "duetlib.serving.cloud", *given], capture_output=True, text=True
        )
        assert done.returncode and told in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"key": "00", "token": "secret-one"}'])
def test_a_damaged_secret_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    from duetlib.serving.cloud import create_app

    folder = shutil.copytree(small_cloud.folder(), tmp_path / "served")
    (folder / "cloud" / "secret.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape("secret.json holds no key")) as told:
        create_app(folder)
    assert "secret-one" not in str(told.value)
