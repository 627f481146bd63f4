"""Self-checks for the exercises of chapter 10, device and cloud for real."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..payload import Contract, pack
from .verdict import Verdict, judge

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VALUES = [0.5, -1.25, 3.0, 2.0, -0.75, 4.5]


def message() -> bytes:
    """A message of one number in and three out: six numbers, always the same bytes."""
    layers = {
        "0.weight": np.array([VALUES[:3]], np.float32),
        "0.bias": np.array(VALUES[3:], np.float32),
    }
    contract = Contract("tiny", "0" * 64, ((1, 3),), 10.0)
    return pack(layers, contract, b"a request", KEY, issued=1_000_000_000, lifetime=60)


def numbers(answer: Callable[[bytes, str], list[float]]) -> Verdict:
    """Exercise 1: the numbers of one tensor of a message."""
    data, name = message(), "0.weight"  # it lies behind the bias
    (n,) = struct.unpack_from("<Q", data, 72)
    first, last = json.loads(data[80 : 80 + n])[name]["data_offsets"]
    body = data[80 + n :]

    def floats(part: bytes, order: str = "<") -> list[float]:
        return list(struct.unpack(f"{order}{len(part) // 4}f", part))

    usual = {
        "from_the_first": (
            floats(body[: last - first]),
            "these are the first numbers of the message, another tensor's: begin at the first "
            "offset",
        ),
        "all": (floats(body), "these are the numbers of all tensors; one is asked for"),
        "big_endian": (
            floats(body[first:last], ">"),
            "you read the bytes of each number from the wrong end: all is little-endian here",
        ),
        "no_length": (
            floats(data[72 + n + first : 72 + n + last]),
            "you begin 8 bytes too soon: n itself takes the bytes 72 to 79",
        ),
        "integers": (
            list(struct.unpack(f"<{(last - first) // 4}i", body[first:last])),
            "you read whole numbers; these are floats: `f`",
        ),
    }
    praise = "right: the header says where each tensor lies, behind itself"
    otherwise = "n lies at byte 72, the header at 80, the tensors at 80 + n; each number is a `<f`"

    def given() -> list[float] | None:
        found = answer(data, name)
        return None if found is None or found is ... else [float(x) for x in found]

    return judge(given, floats(body[first:last]), usual, praise, otherwise)


def is_mine(answer: Callable[[dict[str, str], bytes], bool]) -> Verdict:
    """Exercise 2: whether a message's metadata names the request that was sent."""
    sent = json.dumps({"clicks": [1, 2], "nonce": "00" * 16}).encode()
    earlier = json.dumps({"clicks": [1, 2], "nonce": "ff" * 16}).encode()
    stranger = json.dumps({"clicks": [7], "nonce": "00" * 16}).encode()
    cases = [{"request": hashlib.sha256(r).hexdigest()} for r in (sent, earlier, stranger)]
    usual = {
        "all": ([True, True, True], "this accepts every message, also one that was replayed"),
        "never": (
            [False, False, False],
            "this accepts none: the metadata has the SHA-256 in hexadecimal digits, not the bytes",
        ),
        "inverted": (
            [False, True, True],
            "this refuses the right answer and accepts every other: `==`, not `!=`",
        ),
    }
    praise = "right: one byte of the request changed, and the message answers another one"
    otherwise = "True for the request that was sent, False for every other"

    def given() -> list[bool] | None:
        found = [answer(about, sent) for about in cases]
        return None if found[0] is None or found[0] is ... else [bool(x) for x in found]

    return judge(given, [True, False, False], usual, praise, otherwise)


def source(answer: Callable[[bool, float | None, float, float], str]) -> Verdict:
    """Exercise 3: whose weights a device ranks with."""
    cases: list[tuple[bool, float | None]] = [
        (True, None),
        (True, 900.0),
        (True, 1200.0),
        (False, None),
        (False, 1200.0),
        (False, 980.0),
        (False, 960.0),
    ]
    now, skew = 1000.0, 30.0
    fresh, good, shipped = "fresh", "last good", "shipped"
    usual = {
        "no_skew": (
            [fresh, fresh, fresh, shipped, good, shipped, shipped],
            "the skew does not help here: weights are good until `expires + skew` by this clock",
        ),
        "never_expires": (
            [fresh, fresh, fresh, shipped, good, good, good],
            "you use the last good weights for ever; look at `expires`",
        ),
        "no_last_good": (
            [fresh, fresh, fresh, shipped, shipped, shipped, shipped],
            "you go straight to the shipped classifier; good weights may be there still",
        ),
        "good_before_fresh": (
            [fresh, fresh, good, shipped, good, good, shipped],
            "fresh weights have come: they go before the last good ones",
        ),
    }
    praise = "right: fresh, then last good while they last, then shipped; never nothing"
    otherwise = "fresh if there are fresh ones, else last good if not expired, else shipped"

    def given() -> list[str] | None:
        found = [answer(got, expires, now, skew) for got, expires in cases]
        return None if found[0] is None or found[0] is ... else found

    right = [fresh, fresh, fresh, shipped, good, good, shipped]
    return judge(given, right, usual, praise, otherwise)


def under_way(answer: Callable[[float, float], float]) -> Verdict:
    """Exercise 4: bytes that are on their way while a link runs at full speed."""
    bandwidth, trip = 100.0, 50.0
    right = 1000 * bandwidth * trip
    usual = {
        "no_thousand": (
            bandwidth * trip,
            "MB/s times ms is thousands of bytes: the factor of 1,000 is missing",
        ),
        "bits": (8 * right, "these are bits; bytes are wanted"),
        "one_way": (
            right / 2,
            "half a trip: bytes are kept until the answer to them is back, a whole round trip",
        ),
        "mebibytes": (
            bandwidth * 2**20 * trip / 1000,
            "an MB of this book is a million bytes, not 1,024²",
        ),
        "megabytes": (right / 1e6, "these are MB; bytes are wanted"),
    }
    praise = "right: bandwidth times round trip, the least that a sender's buffer has to hold"
    otherwise = "bytes a second, times the seconds until the first of them is acknowledged"
    return judge(lambda: answer(bandwidth, trip), right, usual, praise, otherwise)
