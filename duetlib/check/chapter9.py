"""Self-checks for the exercises of chapter 9, device and cloud on paper."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..latency import Link, slow_start_ms, slow_start_rounds, transfer_ms
from .verdict import Verdict, judge


def table_ms(answer: Callable[[int, float], float]) -> Verdict:
    """Exercise 1: milliseconds as Table 3 counts them."""
    n_bytes, bandwidth = 66_564, 15.0
    right = n_bytes / 1024 / bandwidth
    usual = {
        "thousand": (
            n_bytes / 1000 / bandwidth,
            "this is right, and not what the table does: its KB are of 1,024 bytes",
        ),
        "consistent": (
            1000 * n_bytes / 1024**2 / bandwidth,
            "you used 1,024 for KB and for MB; the table goes from KB to MB by 1,000",
        ),
        "seconds": (right / 1000, "this is in seconds; milliseconds are wanted"),
        "bits": (8 * right, "MB/s are bytes: no factor of 8"),
    }
    praise = "right: KB by 1,024, and then KB over MB/s, called milliseconds"
    otherwise = "two layers of 8,448 bytes at 5 MB/s should give 1.65"
    return judge(lambda: answer(n_bytes, bandwidth), right, usual, praise, otherwise)


def bursts(answer: Callable[[int], int]) -> Verdict:
    """Exercise 2: in how many bursts TCP sends a download."""
    sizes = [80, 14_600, 14_601, 43_800, 43_801, 66_564, 3_211_264]
    segments = [math.ceil(n / 1460) for n in sizes]
    right = [slow_start_rounds(n) for n in sizes]
    usual = {
        "never_doubles": (
            [math.ceil(s / 10) for s in segments],
            "these bursts stay at 10 segments; after each, TCP doubles them",
        ),
        "last_alone": (
            [max(1, math.ceil(math.log2(s / 10)) + 1) for s in segments],
            "you ask when the last burst alone is large enough; all bursts so far count",
        ),
        "waits": ([r - 1 for r in right], "these are the waits between the bursts: one less"),
        "from_one": (
            [s.bit_length() for s in segments],
            "you start with one segment, as TCP did long ago; RFC 6928 starts with 10",
        ),
    }
    praise = "right: 10, 20, 40, ... until all have been sent"
    otherwise = "14,600 bytes are one burst, 14,601 are two, 43,801 are three"

    def given() -> list[int] | None:
        counts = [answer(n) for n in sizes]
        return None if counts[0] is None else counts

    return judge(given, right, usual, praise, otherwise)


def most_requests(answer: Callable[[float, float], float]) -> Verdict:
    """Exercise 3: requests a second at which the mean wait in an M/D/1 queue is still kept."""
    service, wait = 0.8, 2.0
    load = 2 * wait / (service + 2 * wait)
    usual = {
        "random": (
            1000 * wait / (service + wait) / service,
            "this is M/M/1, with random service times; here each request takes the same",
        ),
        "load": (load, "this is the load; requests a second are wanted"),
        "per_ms": (load / service, "this is requests a millisecond"),
        "full": (1000 / service, "at this rate the server is always busy, and the queue endless"),
    }
    praise = "right: close to full, and still a short queue, as long as arrivals are only random"
    otherwise = (
        "solve ρ s / (2 (1 - ρ)) = wait for ρ; the rate is ρ / s, and that is per millisecond"
    )
    right = 1000 * load / service
    return judge(lambda: answer(service, wait), right, usual, praise, otherwise)


def saved_by_half(answer: Callable[[int, float, float], float]) -> Verdict:
    """Exercise 4: the share of the wait that 16-bit numbers save."""
    n_bytes, link = 66_564, Link(5.0, 20.0)

    def wait(n: int) -> float:
        return link.round_trip + transfer_ms(n, link.bandwidth) + slow_start_ms(n, link)

    def plain(n: int) -> float:
        return link.round_trip + transfer_ms(n, link.bandwidth)

    whole, half = wait(n_bytes), wait(n_bytes // 2)
    usual = {
        "bytes_alone": (0.5, "half the bytes are half of Table 3's time, not of the wait"),
        "no_slow_start": (
            1 - plain(n_bytes // 2) / plain(n_bytes),
            "the slow start is missing: half the bytes may need a burst less",
        ),
        "of_the_half": (
            whole / half - 1,
            "this is how much longer the whole takes than the half; divide by the whole",
        ),
        "what_is_left": (half / whole, "this is what is left of the wait; take it from 1"),
        "milliseconds": (whole - half, "these are milliseconds; a share is wanted"),
    }
    praise = "right: the burst that is no longer needed saves more than the bytes do"
    otherwise = (
        "wait = round trip + transfer_ms + slow_start_ms, for all bytes and for half of them"
    )
    arguments = (n_bytes, link.bandwidth, link.round_trip)
    return judge(lambda: answer(*arguments), 1 - half / whole, usual, praise, otherwise)
