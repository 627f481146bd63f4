"""Self-checks for the exercises of chapter 10, device and cloud for real."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from duetbook.checks.verdict import Arguments, Verdict, draws, judge, normal
from duetlib.serving.payload import Contract, pack

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def message(rng: random.Random) -> bytes:
    """A message of one layer, of another shape and with other numbers at each draw."""
    n_in, n_out = rng.sample(range(2, 6), 2)
    layers = {"0.weight": normal(rng, n_in, n_out).numpy(), "0.bias": normal(rng, n_out).numpy()}
    contract = Contract("tiny" * n_in, "0" * 64, ((n_in, n_out),), 10.0)
    return pack(layers, contract, b"a request", KEY, issued=1_000_000_000, lifetime=60)


def numbers(answer: Callable[[bytes, str], list[float]]) -> Verdict:
    """Exercise 1: the numbers of one tensor of a message."""

    def read(data: bytes, name: str, kind: str = "<f", skip: int = 80) -> list[float]:
        """The tensor of this name; `skip` bytes and the header stand before all tensors."""
        (n,) = struct.unpack_from("<Q", data, 72)
        first, last = json.loads(data[80 : 80 + n])[name]["data_offsets"]
        body = data[skip + n :][first:last]
        return [x for (x,) in struct.iter_unpack(kind, body)]

    def all_of(data: bytes, name: str) -> list[float]:
        return read(data, "0.bias") + read(data, "0.weight")  # in the order in which they lie

    return judge(
        answer,
        draws(lambda rng: (message(rng), "0.weight")),  # it lies behind the bias
        read,
        {
            "from_the_first": (
                lambda data, name: all_of(data, name)[: len(read(data, name))],
                "these are the first numbers of the message, another tensor's: begin at the first "
                "offset",
            ),
            "all": (all_of, "these are the numbers of all tensors; one is asked for"),
            "big_endian": (
                lambda data, name: read(data, name, ">f"),
                "you read the bytes of each number from the wrong end: all is little-endian here",
            ),
            "no_length": (
                lambda data, name: read(data, name, skip=72),
                "you begin 8 bytes too soon: n itself takes the bytes 72 to 79",
            ),
            "integers": (
                lambda data, name: read(data, name, "<i"),
                "you read whole numbers; these are floats: `f`",
            ),
        },
        "right: the header says where each tensor lies, behind itself",
        "n lies at byte 72, the header at 80, the tensors at 80 + n; each number is a `<f`",
        edges=draws(lambda rng: (message(rng), "0.bias")),
    )


def is_mine(answer: Callable[[dict[str, str], bytes], bool]) -> Verdict:
    """Exercise 2: whether a message's metadata names the request that was sent."""

    def request(rng: random.Random, clicks: list[int]) -> bytes:
        return json.dumps({"clicks": clicks, "nonce": rng.randbytes(16).hex()}).encode()

    def about(request: bytes) -> dict[str, str]:
        return {"request": hashlib.sha256(request).hexdigest()}

    def one(rng: random.Random) -> list[Arguments]:
        clicks = rng.sample(range(1, 90), 4)
        sent, earlier, stranger = (request(rng, c) for c in (clicks, clicks, clicks[:2]))
        digits = about(sent)["request"]
        nearly = {"request": digits[:-1] + ("1" if digits[-1] == "0" else "0")}
        return [(each, sent) for each in (about(sent), about(earlier), about(stranger), nearly)]

    return judge(
        answer,
        [*one(random.Random(1)), *one(random.Random(2))],
        lambda given, sent: given == about(sent),
        {
            "all": (
                lambda given, sent: True,
                "this accepts every message, also one that was replayed",
            ),
            "never": (
                lambda given, sent: False,
                "this accepts none: the metadata has the SHA-256 in hexadecimal digits, not the "
                "bytes",
            ),
            "inverted": (
                lambda given, sent: given != about(sent),
                "this refuses the right answer and accepts every other: `==`, not `!=`",
            ),
        },
        "right: one byte of the request changed, and the message answers another one",
        "True for the request that was sent, False for every other",
    )


def source(answer: Callable[[bool, float | None, float, float], str]) -> Verdict:
    """Exercise 3: whose weights a device ranks with."""

    def one(rng: random.Random) -> list[Arguments]:
        now, skew = float(rng.randint(500, 5000)), float(rng.randint(10, 90))
        times = [None, now + 200, now - skew / 2, now - skew - 5, now - 3 * skew]
        return [(fresh, at, now, skew) for at in rng.sample(times, 5) for fresh in (False, True)]

    def device(
        skewed: bool = True, expires: bool = True, keeps: bool = True, fresh_first: bool = True
    ) -> Callable[[bool, float | None, float, float], str]:
        def found(fresh: bool, at: float | None, now: float, skew: float) -> str:
            good = keeps and at is not None and (not expires or at >= now - skewed * skew)
            if fresh and (fresh_first or not good):
                return "fresh"
            return "last good" if good else "shipped"

        return found

    return judge(
        answer,
        [*one(random.Random(1)), *one(random.Random(2))],
        device(),
        {
            "no_skew": (
                device(skewed=False),
                "the skew does not help here: weights are good until `expires + skew` by this "
                "clock",
            ),
            "never_expires": (
                device(expires=False),
                "you use the last good weights for ever; look at `expires`",
            ),
            "no_last_good": (
                device(keeps=False),
                "you go straight to the shipped classifier; good weights may be there still",
            ),
            "good_before_fresh": (
                device(fresh_first=False),
                "fresh weights have come: they go before the last good ones",
            ),
        },
        "right: fresh, then last good while they last, then shipped; never nothing",
        "fresh if there are fresh ones, else last good if not expired, else shipped; "
        "at `expires + skew` itself they may still be valid",
        edges=[(False, 970.0, 1000.0, 30.0)],  # the last moment
    )


def under_way(answer: Callable[[float, float], float]) -> Verdict:
    """Exercise 4: bytes that are on their way while a link runs at full speed."""

    def times(factor: float) -> Callable[[float, float], float]:
        return lambda bandwidth, trip: factor * bandwidth * trip

    return judge(
        answer,
        draws(lambda rng: (rng.uniform(20, 200), rng.uniform(5, 90))),
        times(1000),
        {
            "no_thousand": (
                times(1),
                "MB/s times ms is thousands of bytes: the factor of 1,000 is missing",
            ),
            "bits": (times(8000), "these are bits; bytes are wanted"),
            "one_way": (
                times(500),
                "half a trip: bytes are kept until the answer to them is back, a whole round trip",
            ),
            "mebibytes": (times(2**20 / 1000), "an MB of this book is a million bytes, not 1,024²"),
            "megabytes": (times(0.001), "these are MB; bytes are wanted"),
        },
        "right: bandwidth times round trip, the least that a sender's buffer has to hold",
        "bytes a second, times the seconds until the first of them is acknowledged",
    )
