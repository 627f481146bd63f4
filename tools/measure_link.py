"""How long a device waits for its layers over each emulated link, measured and predicted.

    python tools/measure_link.py            as root: all, some minutes, into results/link.jsonl
    python tools/measure_link.py --table    anywhere: measured beside predicted, from the records

First the links themselves are checked: does one lose what it should, is it as far and as fast as it
says? Then a client asks a server for payloads of three sizes over each of them. Two 32x32 layers
come from the book's own cloud, also to its own device (untrained: that takes as long). It has no
MobileNet to serve: those payloads come from a stand-in that sends as many zeros. Client and server
run at real-time priority, so that a busy machine adds little. One JSON object a measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import math
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from link import ADDRESS, MTU, PROFILES, Link, Profile, why_not

from data_prep.command import run_command

if TYPE_CHECKING:  # imported where they are used: the server and the tests start sooner
    import pandas as pd

    from duetlib.serving.device import Device

Row = dict[str, Any]

SMALL, MIDDLE, LARGE = "two 32x32 layers", "MobileNetV3 Small", "MobileNetV3 Large"
PAYLOADS = {
    SMALL: 8_448,  # with biases: 2,112 numbers of 4 bytes
    MIDDLE: 3_211_264,  # Table 3's 3.06 MB: 3.0625 MiB
    LARGE: 5_570_560,  # 5.31 MB: 5.3125 MiB
}
PORT = 8000
CLICKS = list(range(1000, 1030))
SEGMENT = MTU - 52  # bytes of data in a packet: less IP's and TCP's headers and TCP's time stamp
PATIENCE = {"dead": 2.0}  # seconds that the client waits for one step; 60 elsewhere
GOAL = 0.15  # how far the prediction may be off


@contextlib.contextmanager
def punctual() -> Iterator[None]:
    """This process, and what it starts, before all ordinary ones; needs root."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def quartiles(values: Sequence[float]) -> list[float]:
    """First quartile, median, third quartile."""
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


# --- is the link what it says? -------------------------------------------------------------------


def udp(link: Link, port: int = 7000) -> tuple[socket.socket, socket.socket]:
    """A socket of the device's and one of the cloud's, each connected to the other."""
    ends = []
    for side, other in (("device", "cloud"), ("cloud", "device")):
        with link.inside(side):  # a socket stays in the namespace that it was made in
            end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            end.bind((ADDRESS[side], port))
            end.connect((ADDRESS[other], port))
            ends.append(end)
    return ends[0], ends[1]


def received(end: socket.socket, timeout: float) -> int:
    """How many datagrams come in until none has come for `timeout` seconds."""
    end.settimeout(timeout)
    count = 0
    with contextlib.suppress(TimeoutError):
        while end.recv(2048):
            count += 1
    return count


def measured_loss(profile: Profile, n: int) -> float:
    """The share of n datagrams that do not arrive, counted by who receives them."""
    with Link(profile) as link:
        device, cloud = udp(link)
        arrived = 0
        for _ in range(0, n, 100):
            for _ in range(100):
                device.send(b"x" * 100)
            arrived += received(cloud, profile.rtt + 0.02)
        device.close()
        cloud.close()
    return 1 - arrived / n


def measured_trips(profile: Profile, n: int) -> list[float]:
    """Seconds of n round trips of a small datagram."""
    with Link(profile) as link:
        device, cloud = udp(link)
        seconds = []
        for _ in range(n):
            started = time.monotonic()
            device.send(b"x")
            cloud.send(cloud.recv(16))
            device.recv(16)
            seconds.append(time.monotonic() - started)
        device.close()
        cloud.close()
    return seconds


def measured_rate(profile: Profile, n_bytes: int) -> tuple[float, float]:
    """A long TCP transfer's second half, and how late the emulator was at worst.

    Returns:
        Bytes per second, headers included; seconds.
    """
    with Link(profile) as link:
        with link.inside("cloud"):
            listening = socket.create_server((ADDRESS["cloud"], PORT))
        with link.inside("device"):
            device = socket.create_connection((ADDRESS["cloud"], PORT))
        cloud = listening.accept()[0]
        sender = threading.Thread(target=cloud.sendall, args=(bytes(n_bytes),))
        sender.start()
        count, half = 0, (0, 0.0)
        while count < n_bytes:
            count += len(device.recv(1 << 20))
            if count < n_bytes / 2:
                half = (count, time.monotonic())
        seconds = time.monotonic() - half[1]
        sender.join()
        for end in (device, cloud, listening):
            end.close()
    return (count - half[0]) * MTU / SEGMENT / seconds, link.counts["down"]["late_max"]


def checks() -> Iterator[Row]:
    """What a link is set to, beside what is measured of it.

    A transfer lasts half a second. Of a longer one, Linux takes 50 ms of every second for ordinary
    processes, which would otherwise never run beside ours.
    """
    for loss, n in ((0.01, 20_000), (0.05, 20_000)):
        found = measured_loss(Profile(rtt=0.01, loss=loss), n)
        deviations = (found - loss) / (loss * (1 - loss) / n) ** 0.5
        yield {"what": "loss", "set": loss, "measured": found, "n": n, "deviations": deviations}
    for rtt in (0.01, 0.05, 0.1):
        trips = measured_trips(Profile(rtt=rtt), 100)
        yield {"what": "round trip, s", "set": rtt, "measured": quartiles(trips), "n": len(trips)}
    trips = measured_trips(Profile(rtt=0.01, jitter=0.01), 400)
    even = [0.01 + 0.01 * (1 / 8) ** 0.5, 0.015, 0.02 - 0.01 * (1 / 8) ** 0.5]  # of two even draws
    what = "round trip with 10 ms of jitter, s"
    yield {"what": what, "set": even, "measured": quartiles(trips), "n": len(trips)}
    for rate in (5e6, 15e6, 50e6, 100e6, math.inf):
        n_bytes = int(min(rate, 200e6) / 2)
        runs = [measured_rate(Profile(rate=rate, rtt=0.01), n_bytes) for _ in range(5)]
        measured, late = quartiles([found for found, _ in runs]), max(late for _, late in runs)
        row = {"what": "rate, B/s", "set": rate, "measured": measured, "n": len(runs)}
        yield {**row, "late_max": late}


# --- the server and the client -------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """Something that answers a POST with a payload.

    Args:
        name: for the records. command: starts it, on ADDRESS["cloud"] and PORT.
        request: from a payload's bytes to the path, the body and the headers that ask for it.
        device: of the book's own service, the device that asks it; None elsewhere.
    """

    name: str
    command: list[str]
    request: Callable[[int], tuple[str, bytes, dict[str, str]]]
    device: Device | None = None


def stand_in() -> Service:
    """A server on uvicorn that answers as many bytes as it is asked for, and computes nothing."""

    def request(n_bytes: int) -> tuple[str, bytes, dict[str, str]]:
        body = json.dumps({"bytes": n_bytes, "clicks": CLICKS})
        return "/layers", body.encode(), {"Content-Type": "application/json"}

    return Service("stand-in", [sys.executable, __file__, "--serve"], request)


def book(folder: Path) -> Service:
    """The book's cloud and device, with an untrained DUET.

    Args:
        folder: written into.
    """
    import torch

    from duetlib.methods import build
    from duetlib.serving.device import Device
    from duetlib.serving.export import export
    from duetlib.serving.transport import Http

    torch.set_num_threads(1)
    histories = torch.randint(1, 1350, (256, len(CLICKS)))  # of MovieLens-100k's size
    model = build("sasrec", "duet", 1349)
    export(model, folder, histories, backbone="sasrec", method="duet")
    token = json.loads((folder / "cloud" / "secret.json").read_text())["token"]
    device = Device(folder / "device", Http(f"http://{ADDRESS['cloud']}:{PORT}", token))
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    where = ["--folder", str(folder), "--host", ADDRESS["cloud"], "--port", str(PORT)]
    command = [sys.executable, "-m", "duetlib.serving.cloud", *where]
    return Service(
        "duetlib.serving.cloud",
        command,
        lambda _: ("/weights", device.request(CLICKS), headers),
        device,
    )


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """The stand-in, an ASGI application."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    content = bytes(json.loads(body)["bytes"])
    headers = [(b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def serve() -> None:
    """Run the stand-in until it is told to stop."""
    import uvicorn

    # It counts from when an answer is handed to the kernel, and on the lossy link the answer is on
    # its way for longer than the usual 5 s.
    config = uvicorn.Config(answer, ADDRESS["cloud"], PORT, timeout_keep_alive=120)
    uvicorn.Server(config).run()


@contextlib.contextmanager
def running(service: Service, link: Link) -> Iterator[None]:
    """The service, on the cloud's side, from its first answer on."""
    with link.inside("cloud"):
        process = subprocess.Popen(service.command)
    try:
        with link.inside("cloud"):  # from its own side: the link may be dead
            wait_for((ADDRESS["cloud"], PORT), process)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def wait_for(
    address: tuple[str, int], process: subprocess.Popen[bytes], longest: float = 60
) -> None:
    """Return when somebody listens there; RuntimeError when the process ends or takes too long."""
    until = time.monotonic() + longest
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens at {address} (exit code {process.poll()})")


class Declined(http.client.HTTPException):
    """An answer without the payload, as when a request was too long on its way."""


class Client:
    """Asks a service for payloads, and times each step."""

    def __init__(self, service: Service, timeout: float):
        self.service, self.received = service, 0
        self.http = http.client.HTTPConnection(ADDRESS["cloud"], PORT, timeout=timeout)

    def connect(self) -> float:
        """Seconds to open the connection."""
        started = time.monotonic()
        self.http.connect()
        return time.monotonic() - started

    def ask(self, n_bytes: int) -> tuple[float, float]:
        """Seconds from the request to the answer's first and last byte."""
        path, body, headers = self.service.request(n_bytes)
        started = time.monotonic()
        self.http.request("POST", path, body, headers)
        response = self.http.getresponse()  # returns when the head of the answer is there
        first = time.monotonic() - started
        content = response.read()
        last = time.monotonic() - started
        if response.status != 200 or len(content) < n_bytes:
            raise Declined(f"status {response.status}, {len(content)} of {n_bytes} bytes")
        self.received = len(content)
        return first, last


Times = dict[str, tuple[float, float, float]]


def session(service: Service, n_bytes: int, timeout: float) -> tuple[Times, int]:
    """One round: seconds of set-up, to the first and to the last byte, for each connection.

    `fresh`: opened for this request, set-up included. `kept`: opened before, and has carried next
    to nothing, so that TCP starts slowly, as it does after a pause. `warm`: has just carried the
    same payload. And the bytes of the answer.
    """
    client = Client(service, timeout)
    with contextlib.closing(client.http):
        set_up = client.connect()
        first, last = client.ask(n_bytes)
    times: Times = {"fresh": (set_up, set_up + first, set_up + last)}
    client = Client(service, timeout)
    with contextlib.closing(client.http):
        client.connect()
        client.ask(1)
        times["kept"] = (0.0, *client.ask(n_bytes))
        times["warm"] = (0.0, *client.ask(n_bytes))
    return times, client.received


def downloads(name: str, service: Service, payloads: Sequence[str]) -> list[Row]:
    """Some payloads over one link: a row for each payload and connection."""
    profile, rows = PROFILES[name], []
    with Link(profile) as link, running(service, link), link.inside("device"):
        for payload in payloads:
            n = rounds(name, payload)
            rows += repeat(service, payload, n, PATIENCE.get(name, 60.0))
            if service.device:
                size = {"payload": payload, "bytes": rows[0]["bytes"]}
                rows.append({**size, **sessions(service.device, n)})
    late = max((end["late_max"] for end in link.counts.values()), default=None)
    _, body, _ = service.request(1)
    where = {"profile": name, **asdict(profile), "service": service.name, "late_max": late}
    return [{"what": "download", **where, "request_bytes": len(body), **row} for row in rows]


def repeat(service: Service, payload: str, n: int, timeout: float) -> list[Row]:
    """n rounds with one payload, and what they gave for each connection."""
    size = PAYLOADS[payload]
    done, failed = [], []
    for _ in range(n):
        started = time.monotonic()
        try:
            times, size = session(service, PAYLOADS[payload], timeout)
            done.append(times)
        except (OSError, http.client.HTTPException) as problem:
            failed.append((f"{type(problem).__name__} {problem}", time.monotonic() - started))
    row: Row = {"payload": payload, "bytes": size, "rounds": n, "failed": len(failed)}
    if failed:
        row["errors"] = sorted({problem for problem, _ in failed})
        row["given_up_after_s"] = quartiles([seconds for _, seconds in failed])
    if not done:
        return [{**row, "connection": "fresh"}]
    steps = "set_up_s", "first_byte_s", "last_byte_s"
    return [
        {**row, "connection": connection}
        | {s: quartiles([times[connection][k] for times in done]) for k, s in enumerate(steps)}
        for connection in done[0]
    ]


def sessions(device: Device, n: int) -> Row:
    """n sessions' starts, as the device makes them, and whose layers it then had.

    On a fresh connection, until the layers are verified.
    """
    seconds, sources = [], []
    for _ in range(n):
        device.last_good = None  # as after a long pause
        started = time.monotonic()
        sources.append(device.start_session(CLICKS).source)
        seconds.append(time.monotonic() - started)
    count = {source: sources.count(source) for source in sorted(set(sources))}
    row: Row = {"rounds": n, "connection": "device", "sources": count}
    return {**row, "failed": n - count.get("fresh", 0), "last_byte_s": quartiles(seconds)}


def rounds(name: str, payload: str) -> int:
    """How often a payload is asked for over a link."""
    small = payload == SMALL
    return {"lossy": 50 if small else 3, "dead": 3}.get(name, 20 if small else 5)


def payloads(name: str) -> list[str]:
    """What a stand-in is asked for over a link; nothing large where it would take minutes."""
    return {"lossy": [MIDDLE], "dead": []}.get(name, [MIDDLE, LARGE])


# --- beside the prediction -----------------------------------------------------------------------


def predicted_ms(row: Row, own_ms: float) -> float:
    """What `duetlib.latency` says of a row's download.

    There is no TLS on the link, and a warm connection does not start slowly.

    Args:
        own_ms: what the two programs take, measured.
    """
    from duetlib import latency

    link = latency.Link(row["rate"] / 1e6, row["rtt"] * 1e3)
    connected = row["connection"] in ("kept", "warm")
    terms = latency.delay(
        row["request_bytes"], row["bytes"], link, connected=connected, cloud={"own": own_ms}
    )
    left_out = {"TLS 1.3 set-up"} | (
        {"download: slow start"} if row["connection"] == "warm" else set()
    )
    return sum(value for name, value in terms.items() if name not in left_out)


def own_ms(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """What the programs take over a free link, by payload and connection.

    Until the first byte: the rest is the payload's own time on the link, which is predicted. Of a
    device's session, all.
    """
    return {
        (row["payload"], row["connection"]): 1e3
        * (row["last_byte_s"] if row["connection"] == "device" else row["first_byte_s"])[1]
        for row in rows
        if row["profile"] == "free"
    }


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """Median milliseconds to the last byte over each link, beside the predicted ones.

    The prediction knows nothing of loss.
    """
    import pandas as pd

    found = [row for row in rows if row["what"] == "download" and "last_byte_s" in row]
    own, lines = own_ms(found), []
    for row in found:
        if row["profile"] in ("free", "dead"):
            continue
        line = {key: row[key] for key in ("profile", "payload", "connection")}
        predicted = predicted_ms(row, own[row["payload"], row["connection"]])
        measured = 1e3 * row["last_byte_s"][1]
        lines.append({**line, "measured_ms": measured, "predicted_ms": predicted})
    frame = pd.DataFrame(lines)
    return frame.assign(off=frame["measured_ms"] / frame["predicted_ms"] - 1)


# --- all of it -----------------------------------------------------------------------------------


def measure(path: Path) -> list[Row]:
    """Check and measure every link, and write the records in place of earlier ones."""
    from bench import machine, write_records

    from duetlib.evidence.records import provenance

    rows: list[Row] = []

    def note(row: Row) -> None:
        rows.append({key: None if value == math.inf else value for key, value in row.items()})
        print(json.dumps(rows[-1]), flush=True)

    where = {"machine": machine(), "kernel": platform.release(), "load": os.getloadavg()[0]}
    where |= provenance("cpu")
    with punctual():
        for row in checks():
            note({**row, "what": f"check: {row['what']}"})
        with tempfile.TemporaryDirectory() as folder:
            ours = book(Path(folder))
            for name in PROFILES:
                for row in downloads(name, ours, [SMALL]):
                    note(row)
                for row in downloads(name, stand_in(), payloads(name)) if payloads(name) else []:
                    note(row)
    write_records(path, [{**row, **where} for row in rows])
    return rows


def print_table(rows: Sequence[Row]) -> None:
    """The comparison, and how many of its lines are within the goal."""
    frame = table(rows)
    print(frame.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    within = int((frame["off"].abs() <= GOAL).sum())
    print(f"{within} of {len(frame)} predictions are within {GOAL:.0%} of the measurement")


def main(arguments: Sequence[str]) -> None:
    """Serve, print the table, or measure all and print it."""
    path = Path(__file__).resolve().parent.parent / "results" / "link.jsonl"
    parser = argparse.ArgumentParser(description=main.__doc__)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--serve", action="store_true", help="be the other end of the link")
    instead.add_argument("--table", action="store_true", help="print the table, measure nothing")
    options = parser.parse_args(arguments)
    if options.serve:
        serve()
    elif options.table:
        from duetlib.evidence.records import whole_records

        print_table(whole_records(path))
    elif reason := why_not():
        print(f"nothing was measured: no link can be made here ({reason})")
    else:
        print_table(measure(path))


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
