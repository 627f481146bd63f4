"""Faults and attacks, each with the counter that must rise: what chapter 10 shows as a table.

A `Fault` is what a hostile cloud, or a broken link, does to a device that asks. An `Attack` is what
a hostile client sends to the real cloud. `run` tries them all. Chapter 10.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import random
import select
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from data_prep.arguments import number, whole
from duetlib.serving.cloud import Cloud, Settings, create_app, running
from duetlib.serving.device import Device
from duetlib.serving.payload import PREFIX, SIGNATURE, Layers, pack, seal, split_layers
from duetlib.serving.transport import CutOff, Http, TimedOut

CLICKS = (1, 2, 3)  # of the user who asks
START = PREFIX.size + SIGNATURE  # where the safetensors file begins
TIMEOUT = 0.25


class Forger:
    """Has the cloud's own key and generator, so that what it writes is wrong in one way alone.

    Args:
        folder: as `export` wrote it.
    """

    def __init__(self, folder: Path):
        self.cloud = Cloud(folder, Settings())
        numbers = self.cloud.generator([torch.zeros(len(self.cloud.generator.W))])[0]
        self.layers = split_layers(numbers, self.cloud.contract.shapes)
        self.old = self.message(b"an earlier request")

    def message(
        self,
        request: bytes,
        *,
        layers: Layers | None = None,
        key: Ed25519PrivateKey | None = None,
        age: float = 0.0,
        **contract: Any,
    ) -> bytes:
        """An honest message, but for what is named.

        Args:
            layers, key: others than the right ones. age: seconds since it was issued.
            contract: another `model`, `static` or `lifetime`.
        """
        bound_to = replace(self.cloud.contract, **contract)
        layers, key = layers or self.layers, key or self.cloud.key
        lifetime = contract.get("lifetime", 3600.0)
        return pack(layers, bound_to, request, key, time.time() - age, lifetime)

    def marked(self) -> Forger:
        """The same, all numbers halved: so a device that uses a fault's numbers is found out."""
        other = copy.copy(self)
        other.layers = {name: array / 2 for name, array in self.layers.items()}
        other.old = other.message(b"an earlier request")
        return other

    def first(self, change: Callable[[np.ndarray], Any]) -> Layers:
        """The layers with something done to a copy of the first one's weight."""
        weight = self.layers["0.weight"].copy()
        changed = change(weight)
        return {**self.layers, "0.weight": weight if changed is None else changed}


@dataclass(frozen=True)
class Fault:
    """What is done to a device that has just sent a request.

    Attributes:
        name: for the table. counter: of the device, that must rise.
        act: given the forger, the open connection and the request's body; None if nobody listens.
    """

    name: str
    counter: str
    act: Callable[[Forger, socket.socket, bytes], None] | None


def reply(sock: socket.socket, body: bytes, status: int = 200, missing: int = 0) -> None:
    """An HTTP answer; `missing` bytes are announced and never come."""
    length = len(body) + missing
    head = f"HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    sock.sendall(head.encode() + body)


def honest(forger: Forger, sock: socket.socket, request: bytes) -> None:
    """What the cloud should do."""
    reply(sock, forger.message(request))


def cut(forger: Forger, sock: socket.socket, request: bytes) -> None:
    """Half of a message, then the connection breaks."""
    message = forger.message(request)
    reply(sock, message[:4000], missing=len(message) - 4000)


def late(forger: Forger, sock: socket.socket, request: bytes) -> None:
    """The right answer, too late."""
    time.sleep(1.5 * TIMEOUT)
    honest(forger, sock, request)


def drip(forger: Forger, sock: socket.socket, request: bytes) -> None:
    """A byte now and then: all of them take long, though no single wait does."""
    sock.sendall(b"HTTP/1.1 200 -\r\nContent-Length: 200\r\n\r\n")
    for _ in range(200):
        sock.sendall(b"D")
        time.sleep(TIMEOUT / 10)


def flood(forger: Forger, sock: socket.socket, request: bytes) -> None:
    """As many bytes as the device will take, with no end announced."""
    sock.sendall(b"HTTP/1.1 200 -\r\n\r\n")
    while True:
        sock.sendall(bytes(65536))


def chunk_of_minus_one(forger: Forger, sock: socket.socket, request: bytes) -> None:
    """A chunk whose size makes Python's `http.client` read on to the end, which never comes."""
    sock.sendall(b"HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
    while True:
        sock.sendall(bytes(65536))


def headers(forger: Forger, sock: socket.socket, request: bytes) -> None:
    """Headers, no more than are allowed, but each is long."""
    sock.sendall(b"HTTP/1.1 200 -\r\n")
    for _ in range(99):
        sock.sendall(b"X: %b\r\n" % (b"x" * 60_000))


def interim(forger: Forger, sock: socket.socket, request: bytes) -> None:
    """ "Please go on", again and again."""
    while True:
        sock.sendall(b"HTTP/1.1 100 Continue\r\nX: %b\r\n\r\n" % (b"x" * 1000))


def _message(name: str, counter: str, write: Callable[[Forger, bytes], bytes]) -> Fault:
    """A fault that is all in the message."""
    return Fault(name, counter, lambda forger, sock, request: reply(sock, write(forger, request)))


def _status(status: int) -> Fault:
    return Fault(
        f"status {status}", f"status_{status}", lambda f, sock, r: reply(sock, b"", status)
    )


def _flip(message: bytes, at: int) -> bytes:
    """One bit is another."""
    return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]


def _twice(message: bytes, name: str) -> bytes:
    """The file in a message, with a second value for a key of its metadata before the first one."""
    (n,) = struct.unpack_from("<Q", message, START)
    header = message[START + 8 : START + 8 + n].rstrip()
    header = header.replace(b'"%b":' % name.encode(), b'"%b":"0","%b":' % ((name.encode(),) * 2), 1)
    header += b" " * (-len(header) % 8)  # as the format wants it
    return struct.pack("<Q", len(header)) + header + message[START + 8 + n :]


def _numbers(name: str, counter: str, change: Callable[[np.ndarray], Any]) -> Fault:
    """A message rightly signed, with wrong numbers in its first layer."""
    return _message(name, counter, lambda f, r: f.message(r, layers=f.first(change)))


FAULTS = (
    Fault("connection refused", "no_connection", None),
    Fault("cut in the middle of the body", "cut_off", cut),
    Fault("connection closed without a word", "cut_off", lambda f, sock, r: None),
    Fault("an answer after the timeout", "timed_out", late),
    Fault("an answer that drips", "timed_out", drip),
    Fault("an answer without end", "too_large", flood),
    Fault("a chunk of size -1, without end", "too_large", chunk_of_minus_one),
    Fault("six megabytes of headers", "too_large", headers),
    Fault("interim answers without end", "too_large", interim),
    Fault("not HTTP", "not_http", lambda f, sock, r: sock.sendall(b"220 mail.example ESMTP\r\n")),
    _status(500),
    _status(401),
    _message("not a message", "malformed", lambda f, r: b"<html>Welcome to our hotel</html>"),
    _message("truncated", "wrong_signature", lambda f, r: f.message(r)[:-4]),
    _message("extended", "wrong_signature", lambda f, r: f.message(r) + bytes(4)),
    _message("a bit flipped in a number", "wrong_signature", lambda f, r: _flip(f.message(r), -9)),
    _message(
        "a bit flipped in the header", "wrong_signature", lambda f, r: _flip(f.message(r), 99)
    ),
    _message("larger than any message", "too_large", lambda f, r: bytes(100_000)),
    _message("replayed", "wrong_request", lambda f, r: f.old),
    _message("for another request", "wrong_request", lambda f, r: f.message(r + b" ")),
    _message("expired", "expired", lambda f, r: f.message(r, age=4000)),
    _message("issued in the future", "not_yet_valid", lambda f, r: f.message(r, age=-100)),
    _message("valid for a year", "too_long", lambda f, r: f.message(r, lifetime=365 * 86_400.0)),
    _message(
        "wrongly signed",
        "wrong_signature",
        lambda f, r: f.message(r, key=Ed25519PrivateKey.generate()),
    ),
    _message(
        "signature of zeros",
        "wrong_signature",
        lambda f, r: f.message(r)[:8] + bytes(SIGNATURE) + f.message(r)[START:],
    ),
    _message("unsigned", "malformed", lambda f, r: f.message(r)[START:]),
    _message("for another model", "wrong_model", lambda f, r: f.message(r, model="din-duet")),
    _message("for other static layers", "wrong_static", lambda f, r: f.message(r, static="0" * 64)),
    _message(
        "another version",
        "wrong_version",
        lambda f, r: seal(f.message(r)[START:], f.cloud.key, version=2),
    ),
    _message(
        "signed, but a key stands twice",
        "malformed",
        lambda f, r: seal(_twice(f.message(r), "expires"), f.cloud.key),
    ),
    _message("signed, but no safetensors", "malformed", lambda f, r: seal(b"{" * 200, f.cloud.key)),
    _message(
        "a layer is missing",
        "wrong_names",
        lambda f, r: f.message(r, layers={"0.weight": f.layers["0.weight"]}),
    ),
    _numbers("NaN", "not_finite", lambda w: w.put(7, np.nan)),
    _numbers("infinity", "not_finite", lambda w: w.put(7, -np.inf)),
    _numbers("huge values", "too_huge", lambda w: w.put(7, 1e30)),
    _numbers("wrong shape", "wrong_shape", lambda w: w.reshape(-1)),
    _numbers("wrong type", "wrong_type", lambda w: w.view(np.int32)),
)


@dataclass(frozen=True)
class Attack:
    """What is sent to the real cloud.

    Attributes:
        name: for the table. counter: of the cloud, that must rise. status: that it must answer.
        body: given an honest request, the bytes to send in its place, piece by piece.
            A list is announced by its length, anything else comes in chunks.
        token: to send, None for none, or "right".
    """

    name: str
    counter: str
    status: int
    body: Callable[[bytes], Iterable[bytes]] = lambda request: [request]
    token: str | None = "right"


def _but(**fields: Any) -> Callable[[bytes], list[bytes]]:
    """An honest request, but for some fields."""
    return lambda request: [json.dumps({**json.loads(request), **fields}).encode()]


def _endless(piece: bytes, seconds: float) -> Callable[[bytes], Iterator[bytes]]:
    def pieces(request: bytes) -> Iterator[bytes]:
        while True:
            yield piece
            time.sleep(seconds)

    return pieces


ATTACKS = (
    Attack("no token", "unauthorised", 401, token=None),
    Attack("a wrong token", "unauthorised", 401, token="guessed"),
    Attack("a request body too large", "too_large", 413, lambda r: [r.ljust(5000)]),
    Attack("a request body without end", "too_large", 413, _endless(b" " * 1000, 0)),
    Attack("a request body that drips", "too_slow", 408, _endless(b" ", 0.02)),
    Attack("a request body not ours", "malformed", 422, lambda r: [b"\xff\x00 GIF89a"]),
    Attack("another field", "malformed", 422, _but(admin=True)),
    Attack("clicks and an embedding", "malformed", 422, _but(clicks=[1])),
    Attack("an unknown item", "malformed", 422, _but(clicks=[10**9], embedding=None)),
    Attack("an embedding that is none", "malformed", 422, _but(embedding="AAAA")),
    Attack("a request for another model", "other_model", 409, _but(model="din-duet")),
    Attack("a request of another version", "other_model", 409, _but(version=2)),
)


class _Handler(socketserver.StreamRequestHandler):
    """Reads one request, then does what its server is told to."""

    server: Hostile

    def handle(self) -> None:
        lines = itertools.takewhile(bytes.strip, self.rfile)  # to the empty line, or the end
        lengths = [line for line in lines if line.lower().startswith(b"content-length:")]
        if not lengths:  # whoever connected hung up
            return
        body = self.rfile.read(int(lengths[0].split(b":")[1]))
        with contextlib.suppress(OSError):  # the device may have gone
            self.server.act(self.server.forger, self.request, body)


class Hostile(socketserver.ThreadingTCPServer):
    """A server on this machine that does to each request what its `act` says."""

    daemon_threads, allow_reuse_address = True, True
    act: Callable[[Forger, socket.socket, bytes], None] = staticmethod(honest)
    forger: Forger


@contextlib.contextmanager
def hostile(forger: Forger) -> Iterator[Hostile]:
    """A cloud that does whatever its `act` is set to, honest at first."""
    with Hostile(("127.0.0.1", 0), _Handler) as serving:
        serving.forger = forger
        threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield serving
        finally:
            serving.shutdown()


def try_fault(fault: Fault, folder: Path, forger: Forger) -> dict[str, Any]:
    """Three sessions of a device: an honest cloud, the fault, an honest cloud again.

    Returns:
        The row of the table: `counted` is how often the counter rose, `sources` whose weights
        ranked in each session, and `unverified` in how many of them others did than those of the
        honest cloud.
    """
    sources, unverified = [], 0
    with hostile(forger) as cloud, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen
        here, nowhere = cloud.server_address[1], deaf.getsockname()[1]
        device = Device(folder / "device", lambda request, limit: b"", wait=0.001)
        wrong = forger.marked()
        for cloud.forger, act in ((forger, honest), (wrong, fault.act), (forger, honest)):
            cloud.act = act or honest
            device.ask = Http(f"http://127.0.0.1:{here if act else nowhere}", "token", TIMEOUT)
            device.start_session(CLICKS)
            sources.append(device.rank(CLICKS, (1, 2, 3)).source)
            used = device.session.layers
            unverified += any(not np.array_equal(used[n], v) for n, v in forger.layers.items())
    counted = device.counts[fault.counter]
    return _row(fault.name, "device", fault.counter, counted, sources, unverified)


def try_loss(folder: Path, forger: Forger, share: float = 0.05, n: int = 200) -> dict[str, Any]:
    """Sessions over a link that loses a share of all exchanges whole; a row as of `try_fault`.

    A packet that is lost TCP sends again, and the answer comes late: `tools/measure_link.py` does
    that. What is lost here stays lost, and the device has to ask again.

    Args:
        share: that is lost. n: sessions.
    """
    number(0, 1, share=share)
    whole(1, n=n)
    dice = random.Random(0)

    def lossy(request: bytes, limit: int) -> bytes:
        if dice.random() < share:
            raise dice.choice((CutOff, TimedOut))("lost")
        return forger.message(request)

    device = Device(folder / "device", lossy, wait=0.0)
    sources, unverified = [], 0
    for _ in range(n):
        sources.append(device.start_session(CLICKS).source)
        differ = [k for k, v in forger.layers.items() if (device.session.layers[k] != v).any()]
        unverified += bool(differ) and sources[-1] != "shipped"
    name = f"{100 * share:g} % of exchanges lost, {n} sessions"
    seen = [*dict.fromkeys(sources), sources[-1]]
    return _row(name, "device", "retried", device.counts["retried"], seen, unverified)


def try_attack(attack: Attack, folder: Path) -> dict[str, Any]:
    """One attack on the real cloud, between two honest sessions; a row as of `try_fault`."""
    app = create_app(folder, Settings(body_seconds=0.3))
    cloud = app.state.cloud
    with running(app) as url:
        device = Device(folder / "device", Http(url, cloud.token.decode(), timeout=2.0))
        sources = [device.start_session(CLICKS).source]
        status = _send(attack, url, device.request(CLICKS), cloud.token.decode())
        sources.append(device.start_session(CLICKS).source)
    row = _row(attack.name, "cloud", attack.counter, cloud.counts[attack.counter], sources, 0)
    return {**row, "status": status}


def _row(
    name: str, side: str, counter: str, counted: int, sources: Sequence[str], unverified: int
) -> dict[str, Any]:
    return {
        "fault": name,
        "side": side,
        "counter": counter,
        "counted": counted,
        "sources": list(sources),
        "unverified": unverified,
    }


def _send(attack: Attack, url: str, request: bytes, right: str) -> int:
    """Send what is to be sent, until the cloud has had enough; the status that it answers."""
    at = urlsplit(url)
    token = right if attack.token == "right" else attack.token
    pieces = attack.body(request)
    known = isinstance(pieces, list)
    length = f"Content-Length: {sum(map(len, pieces))}" if known else "Transfer-Encoding: chunked"
    head = ["POST /weights HTTP/1.1", f"Host: {at.netloc}", length]
    head += [f"Authorization: Bearer {token}"] if token else []
    with socket.create_connection((at.hostname, at.port), timeout=5) as sock:
        sock.sendall("\r\n".join([*head, "", ""]).encode())
        with contextlib.suppress(ConnectionError):  # it has hung up; what it said is still there
            for piece in pieces:
                sock.sendall(piece if known else b"%x\r\n%b\r\n" % (len(piece), piece))
                if select.select([sock], [], [], 0)[0]:  # the cloud has something to say
                    break
        return int(sock.recv(12).split()[1])


def run(folder: Path) -> list[dict[str, Any]]:
    """Every fault, a lossy link and every attack: a row each, as `try_fault` returns it.

    Args:
        folder: as `export` wrote it.
    """
    forger = Forger(folder)
    rows = [try_fault(fault, folder, forger) for fault in FAULTS]
    return [*rows, try_loss(folder, forger)] + [try_attack(attack, folder) for attack in ATTACKS]
