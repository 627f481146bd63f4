"""The emulated link: what it does to packets, on paper and for real, and that it leaves nothing."""

from __future__ import annotations

import http.client
import itertools
import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import link
import measure_link
import pytest
from link import PROFILES, Link, LinkError, Profile, Wire

REASON = link.why_not()
real = pytest.mark.skipif(bool(REASON), reason=f"no link can be made here: {REASON}")


class Arrivals:
    """A wire whose arrivals are kept."""

    def __init__(self, profile: Profile):
        self.packets: list[bytes] = []
        self.wire = Wire(profile, self.packets.append)

    def times(self) -> list[float]:
        return [due for due, _ in self.wire.travelling]


# --- on paper ------------------------------------------------------------------------------------


def test_packets_wait_for_each_other_and_then_travel() -> None:
    """By hand: 1,000 B/s, so 500 bytes take 0.5 s; then 0.1 s of way."""
    ends = Arrivals(Profile(rate=1000, rtt=0.2))
    for now in (0.0, 0.0, 0.2, 5.0):
        ends.wire.push(bytes(500), now)
    assert ends.times() == pytest.approx([0.6, 1.1, 1.6, 5.6])
    ends.wire.deliver(1.2)
    assert len(ends.packets) == 2
    assert ends.wire.wait(1.2, longest=9) == pytest.approx(0.4)


def test_a_full_buffer_loses_what_comes_on_top() -> None:
    ends = Arrivals(Profile(rate=1000, buffer=1000))
    for _ in range(5):
        ends.wire.push(bytes(500), 0.0)
    assert ends.wire.counts["overflowed"] == 2  # one leaves at once, two find 500 and 1,000 waiting
    assert ends.times() == pytest.approx([0.5, 1.0, 1.5])


def test_jitter_never_reorders() -> None:
    ends = Arrivals(Profile(rtt=0.1, jitter=0.2))
    for n in range(1000):
        ends.wire.push(b"%d" % n, n / 1000)
    times = ends.times()
    assert all(a <= b for a, b in itertools.pairwise(times))
    late = [due - n / 1000 for n, due in enumerate(times)]
    assert 0.05 <= min(late) and max(late) <= 0.15 and max(late) - min(late) > 0.05


def test_losses_are_the_same_again_and_as_many_as_asked_for() -> None:
    def lost(seed: int) -> list[bool]:
        wire = Wire(Profile(loss=0.05, seed=seed), len)
        counts = [0]
        for _ in range(20_000):
            wire.push(b"x", 0.0)
            counts.append(wire.counts["lost"])
        return [a != b for a, b in itertools.pairwise(counts)]

    first = lost(0)
    assert first == lost(0) != lost(1)
    assert statistics.mean(first) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 20_000))
    after_a_loss = [b for a, b in itertools.pairwise(first) if a]  # each by itself, not in bursts
    assert statistics.mean(after_a_loss) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"rate": 0}, {"rtt": -1}, {"loss": 1.1}, {"loss": -0.1}, {"send_buffer": 0}),
        *({name: math.nan} for name in ("rate", "rtt", "jitter", "loss", "buffer")),
        *({"rtt": math.inf}, {"jitter": math.inf}, {"congestion": "cubic dev lo"}),
    ],
)
def test_an_impossible_profile_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="loss <= 1"):
        Profile(**wrong)


def test_the_profiles_are_table_3s_bandwidths_and_three_round_trips() -> None:
    from duetlib.evidence.paper import BANDWIDTHS

    table = {(p.rate / 1e6, p.rtt * 1e3) for p in PROFILES.values() if p.rate < math.inf}
    assert table >= set(itertools.product(BANDWIDTHS, (10, 50, 100)))
    assert (PROFILES["lossy"].loss, PROFILES["dead"].loss) == (0.05, 1.0)


def test_no_root_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LinkError, match="need root"), Link(Profile()):
        pass


# --- measured and predicted ----------------------------------------------------------------------


def record(profile: str, connection: str, seconds: float, rate: float | None = 1e7) -> dict:
    times = {step: [seconds] * 3 for step in ("set_up_s", "first_byte_s", "last_byte_s")}
    how = {
        "what": "download",
        "profile": profile,
        "rate": rate,
        "rtt": 0.02,
        "connection": connection,
    }
    return {**how, "payload": "p", "bytes": 146_000, "request_bytes": 1000, **times}


def test_the_prediction_beside_the_measurement_by_hand() -> None:
    """At 10 MB/s and 20 ms: 1,000 bytes take 0.1 ms, 146,000 (100 segments) take 14.6.

    Slow start: 10 segments take 1.46 ms, so that TCP stands still for 20.146 - 1.46 after them; 20
    take 2.92, 40 take 5.84; the other 30 are the last.
    """
    rows = [record("free", c, 0.003, rate=None) for c in ("fresh", "kept", "warm")]
    rows += [record("x", "fresh", 0.11), record("x", "kept", 0.1), record("x", "warm", 0.04)]
    rows += [{**record("dead", "fresh", 9), "rtt": 0}, {"what": "check: loss"}]
    warm = 20 + 0.1 + 3 + 14.6
    kept = warm + 3 * 20.146 - 1.46 - 2.92 - 5.84
    table = measure_link.table(rows).set_index("connection")
    assert list(table["predicted_ms"]) == pytest.approx([kept + 20, kept, warm])
    assert list(table["measured_ms"]) == pytest.approx([110, 100, 40])
    assert table["off"]["warm"] == pytest.approx(40 / warm - 1)


def test_the_stored_records_bear_out_the_prediction_but_where_its_reasons_end() -> None:
    """More than 15 % off: with loss, and where a warm connection needs a larger send buffer."""
    file = Path(link.__file__).parent.parent / "results" / "link.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row.get("profile") for row in rows} == {None, *PROFILES}
    table = measure_link.table(rows)
    far = table[table["off"].abs() > measure_link.GOAL]
    lossless = far[far["profile"] != "lossy"]
    assert set(lossless["connection"] + ", " + lossless["payload"]) == {"warm, MobileNetV3 Large"}
    for profile in lossless["profile"]:  # the rate times the round trip is more than the buffer
        assert PROFILES[profile].rate * PROFILES[profile].rtt > PROFILES[profile].send_buffer
    assert len(far) < 0.1 * len(table)


def test_quartiles() -> None:
    assert measure_link.quartiles([5, 1, 2, 4, 3]) == [2, 3, 4]
    assert measure_link.quartiles([7]) == [7, 7, 7]


# --- for real ------------------------------------------------------------------------------------


def ours() -> set[str]:
    return {path.name for path in link.NETNS.glob("duetlink-*")} if link.NETNS.exists() else set()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test does: the namespaces that it made are gone, and we are back in our own."""
    home, before = os.readlink("/proc/thread-self/ns/net"), ours()
    yield
    assert os.readlink("/proc/thread-self/ns/net") == home
    assert ours() <= before


@real
def test_a_round_trip_takes_what_is_set() -> None:
    trips = measure_link.measured_trips(Profile(rtt=0.04), 12)
    assert 0.04 <= min(trips)
    assert statistics.median(trips) < 0.07


@real
def test_datagrams_are_lost_as_often_as_is_set() -> None:
    n, loss = 2000, 0.05
    found = measure_link.measured_loss(Profile(loss=loss), n)
    assert found == pytest.approx(loss, abs=4 * math.sqrt(loss * (1 - loss) / n))


@real
def test_a_long_transfer_runs_at_the_rate_that_is_set() -> None:
    found, _ = measure_link.measured_rate(Profile(rate=4e6, rtt=0.004), 2_000_000)
    assert 0.8 * 4e6 < found < 1.03 * 4e6


@real
def test_a_service_is_reached_over_the_link_and_times_follow_from_it() -> None:
    """At 5 MB/s and 30 ms: one trip to connect, one to ask, and the bytes."""
    service = measure_link.stand_in()
    with Link(Profile(rate=5e6, rtt=0.03)) as joined, measure_link.running(service, joined):
        with joined.inside("device"):
            times, received = measure_link.session(service, 8448, timeout=5)
    assert received == 8448
    set_up, first, last = times["fresh"]
    assert 0.03 <= set_up and 0.06 <= first <= last
    assert last < 0.12
    assert 0.03 + 8448 / 5e6 <= times["kept"][2] < times["fresh"][2]
    assert joined.counts["down"]["bytes"] > 3 * 8448


@real
def test_nothing_comes_through_a_dead_link() -> None:
    with Link(PROFILES["dead"]) as joined:
        device, cloud = measure_link.udp(joined)
        device.send(b"x")
        assert measure_link.received(cloud, 0.2) == 0
        device.close()
        cloud.close()
    assert joined.counts["up"]["lost"] == joined.counts["up"]["packets"] == 1


@real
def test_a_namespace_reaches_nothing_but_the_other_one() -> None:
    with Link(Profile()) as joined, joined.inside("device"):
        names = [name for _, name in socket.if_nameindex()]
        with pytest.raises(OSError, match="[Uu]nreachable"):
            socket.create_connection(("192.0.2.1", 80), timeout=1)  # kept for documentation
    assert sorted(names) == ["link0", "lo"]


@real
def test_an_error_inside_leaves_nothing_and_ends_what_was_started() -> None:
    with pytest.raises(http.client.HTTPException), Link(Profile()) as joined:
        with joined.inside("cloud"):
            process = subprocess.Popen(["sleep", "60"])
            raise http.client.HTTPException
    assert process.wait(timeout=5) == -signal.SIGKILL


KILLED = """
import os, signal, sys
from link import Link, Profile
link = Link(Profile()).__enter__()
print(*link.names.values(), link.process.pid, flush=True)
os.kill({who}, signal.SIGKILL)
link.process.wait()
"""


@real
def test_the_namespaces_go_when_the_caller_is_killed() -> None:
    caller = subprocess.run(
        [sys.executable, "-c", KILLED.format(who="os.getpid()")],
        capture_output=True, text=True, cwd=link.__file__.rpartition("/")[0],
    )  # fmt: skip
    assert caller.returncode == -signal.SIGKILL
    *names, _ = caller.stdout.split()
    until = time.monotonic() + 5
    while ours() & set(names) and time.monotonic() < until:
        time.sleep(0.02)
    assert len(names) == 2 and not ours() & set(names)


@real
def test_the_next_link_sweeps_up_after_a_killed_emulator() -> None:
    caller = subprocess.run(
        [sys.executable, "-c", KILLED.format(who="link.process.pid")],
        capture_output=True, text=True, cwd=link.__file__.rpartition("/")[0],
    )  # fmt: skip
    *names, _ = caller.stdout.split()
    assert ours() >= set(names)
    with Link(Profile()):
        assert not ours() & set(names)
