"""Every fault and every attack: the counter that it names rises, and the user has an answer."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import small_cloud
from duetbook.faults import (
    ATTACKS,
    FAULTS,
    Attack,
    Fault,
    Forger,
    hostile,
    try_attack,
    try_fault,
    try_loss,
)

from duetlib.serving.device import Device, NoClicks, NoTime
from duetlib.serving.payload import Refused
from duetlib.serving.transport import Declined, Http, TransportFailed

FUZZED = 2_000


@pytest.fixture(scope="module")
def forger() -> Forger:
    return Forger(small_cloud.folder())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_counted_and_the_last_good_weights_serve(fault: Fault, forger: Forger) -> None:
    row = try_fault(fault, small_cloud.folder(), forger)
    assert row["sources"] == ["fresh", "last good", "fresh"]
    assert row["counted"] == (1 if fault.counter == "status_401" else 2)  # "no" is not asked again
    assert row["unverified"] == 0


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_counted_and_honest_devices_are_served(attack: Attack) -> None:
    row = try_attack(attack, small_cloud.folder())
    assert (row["status"], row["counted"]) == (attack.status, 1)
    assert row["sources"] == ["fresh", "fresh"]


def test_who_connects_and_hangs_up_leaves_no_thread_behind(forger: Forger) -> None:
    with hostile(forger) as serving:
        ours, theirs = socket.socketpair()
        ours.sendall(b"POST / HTTP/1.1\r\nHost: a")
        ours.close()
        handle = serving.RequestHandlerClass
        thread = threading.Thread(target=handle, args=(theirs, ("", 0), serving), daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()


def test_every_way_to_be_refused_has_a_fault() -> None:
    counters = {error().counter for error in Refused.__subclasses__() if error is not Declined}
    its_own = {error().counter for error in (NoClicks, NoTime, TransportFailed)}  # no cloud's
    assert counters - its_own <= {fault.counter for fault in FAULTS}
    names = [each.name for each in (*FAULTS, *ATTACKS)]
    assert len(set(names)) == len(names)


def test_a_device_that_skips_a_check_is_found_out(
    forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table can fail: a device that believes any signature uses a wrongly signed message."""
    monkeypatch.setattr("duetlib.serving.payload._verified", lambda message, key: message[72:])
    fault = next(fault for fault in FAULTS if fault.name == "wrongly signed")
    row = try_fault(fault, small_cloud.folder(), forger)
    assert (row["sources"], row["unverified"], row["counted"]) == (["fresh"] * 3, 1, 0)


# ---- fuzz


def fuzz(count: int, forger: Forger, seed: int) -> Counter[str]:
    """So many mutated messages to one device: what it uses is what a second reading accepts."""
    dice, forger = random.Random(seed), forger.marked()
    sent: list[tuple[bytes, bytes]] = []

    def mutated(request: bytes, limit: int) -> bytes:
        message = forger.message(request, age=dice.choice((0.0, 0.0, 0.0, 4000.0)))
        sent.append((small_cloud.mutant(dice, message, forger.cloud.key), request))
        return sent[-1][0]

    device = Device(small_cloud.folder() / "device", mutated, wait=0.0, skew=0.0)
    shipped = {name: array.copy() for name, array in device.shipped.items()}
    while len(sent) < count:
        device.last_good = None
        before, session = len(sent), device.start_session((1, 2, 3))
        assert np.isfinite(device.rank((1, 2, 3), (1, 2, 3)).scores).all()
        read = [
            small_cloud.by_hand(message, device.contract, request, device.key, time.time())
            for message, request in sent[before:]
        ]
        expected = read[-1] if session.source == "fresh" else shipped
        assert expected is not None, "used, though the second reading finds a flaw"
        assert all(np.array_equal(session.layers[name], expected[name]) for name in shipped)
        good = [layers is not None for layers in read]
        assert good == [False] * (len(read) - 1) + [session.source == "fresh"], "refused when good"
    assert device.counts["sessions"] == device.counts["fresh"] + device.counts["shipped"]
    return device.counts


def test_of_2000_fuzzed_messages_none_is_used_that_should_not_be(forger: Forger) -> None:
    counts = fuzz(FUZZED, forger, seed=0)
    reached = {name for name, n in counts.items() if n}
    assert {"too_large", "malformed", "wrong_signature", "wrong_request", "expired"} <= reached
    assert {"wrong_names", "wrong_type", "wrong_shape", "not_finite", "too_huge"} <= reached


# ---- a cloud that dies, a link that loses


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_cloud(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """`python -m duetlib.serving.cloud`, from its first answer on."""
    command = [
        sys.executable,
        "-m",
        "duetlib.serving.cloud",
        "--folder",
        str(folder),
        "--port",
        str(port),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.02)
    raise OSError(f"the cloud did not start: {process.communicate()[1]!r}")


def test_a_cloud_killed_in_the_middle_of_a_load_and_started_again(forger: Forger) -> None:
    folder, port = small_cloud.folder(), free_port()
    ask = Http(f"http://127.0.0.1:{port}", forger.cloud.token.decode(), timeout=5.0)
    devices = [Device(folder / "device", ask, wait=0.01) for _ in range(3)]
    sources: list[list[str]] = [[] for _ in devices]
    stop = threading.Event()

    def use(n: int) -> None:
        while not stop.is_set():
            devices[n].start_session((n + 1, n + 2))
            sources[n].append(devices[n].rank((n + 1, n + 2), (1, 2, 3)).source)
            time.sleep(0.001)

    def wait_for(source: str) -> None:
        seen, until = [len(of_one) for of_one in sources], time.monotonic() + 30
        while not all(source in of[k:] for of, k in zip(sources, seen, strict=True)):
            assert time.monotonic() < until, f"no device came to {source!r}"
            time.sleep(0.01)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(len(devices))]
    cloud = start_cloud(folder, port)
    [thread.start() for thread in threads]
    try:
        wait_for("fresh")
        os.kill(cloud.pid, signal.SIGKILL)
        wait_for("last good")
        cloud.communicate()
        cloud = start_cloud(folder, port)
        wait_for("fresh")
    finally:
        stop.set()
        [thread.join() for thread in threads]
        cloud.terminate()
        log = cloud.communicate()[1].decode()
    assert cloud.returncode in (0, -signal.SIGTERM)  # uvicorn ends, then passes the signal on
    assert "Finished server process" in log
    assert "Traceback" not in log
    for device, answered in zip(devices, sources, strict=True):
        assert device.counts["sessions"] == len(answered)
        assert device.counts["no_connection"] > 0
        assert set(answered) == {"fresh", "last good"}


def test_exchanges_lost_at_random_are_tried_once_more(forger: Forger) -> None:
    """One exchange in twenty: about 50 of 1,000 are asked for again, 2 or 3 of them in vain."""
    row = try_loss(small_cloud.folder(), forger, n=1000)
    assert 30 < row["counted"] < 75
    assert set(row["sources"]) <= {"fresh", "last good"}
    assert row["unverified"] == 0
    every = try_loss(small_cloud.folder(), forger, share=1.0, n=3)
    assert (every["counted"], every["unverified"]) == (3, 0)
    assert set(every["sources"]) == {"shipped"}
