"""Self-checks for the exercises of chapter 9, device and cloud on paper."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from duetbook.checks.verdict import Arguments, Verdict, draws, judge
from duetlib.latency import Link, slow_start_ms, slow_start_rounds, transfer_ms


def table_ms(answer: Callable[[int, float], float]) -> Verdict:
    """Exercise 1: milliseconds as Table 3 counts them."""

    def one(rng: random.Random) -> Arguments:
        return rng.randint(20_000, 90_000), rng.uniform(3, 40)

    return judge(
        answer,
        draws(one),
        lambda n, bandwidth: n / 1024 / bandwidth,
        {
            "thousand": (
                lambda n, bandwidth: n / 1000 / bandwidth,
                "this is right, and not what the table does: its KB are of 1,024 bytes",
            ),
            "consistent": (
                lambda n, bandwidth: 1000 * n / 1024**2 / bandwidth,
                "you used 1,024 for KB and for MB; the table goes from KB to MB by 1,000",
            ),
            "seconds": (
                lambda n, bandwidth: n / 1024 / bandwidth / 1000,
                "this is in seconds; milliseconds are wanted",
            ),
            "bits": (
                lambda n, bandwidth: 8 * n / 1024 / bandwidth,
                "MB/s are bytes: no factor of 8",
            ),
        },
        "right: KB by 1,024, and then KB over MB/s, called milliseconds",
        "two layers of 8,448 bytes at 5 MB/s should give 1.65",
    )


def bursts(answer: Callable[[int], int]) -> Verdict:
    """Exercise 2: in how many bursts TCP sends a download."""

    def segments(n: int) -> int:
        return math.ceil(n / 1460)

    # both sides of where the first, the second and the third burst are full
    sizes = [80, 14_600, 14_601, 43_800, 43_801, 102_200, 102_201]
    return judge(
        answer,
        [*((n,) for n in sizes), *draws(lambda rng: (rng.randint(200_000, 5_000_000),))],
        slow_start_rounds,
        {
            "never_doubles": (
                lambda n: math.ceil(segments(n) / 10),
                "these bursts stay at 10 segments; after each, TCP doubles them",
            ),
            "last_alone": (
                lambda n: max(1, math.ceil(math.log2(segments(n) / 10)) + 1),
                "you ask when the last burst alone is large enough; all bursts so far count",
            ),
            "waits": (
                lambda n: slow_start_rounds(n) - 1,
                "these are the waits between the bursts: one less",
            ),
            "from_one": (
                lambda n: segments(n).bit_length(),
                "you start with one segment, as TCP did long ago; RFC 6928 starts with 10",
            ),
        },
        "right: 10, 20, 40, ... until all have been sent",
        "14,600 bytes are one burst, 14,601 are two, 43,801 are three",
    )


def most_requests(answer: Callable[[float, float], float]) -> Verdict:
    """Exercise 3: requests a second at which the mean wait in an M/D/1 queue is still kept."""

    def one(rng: random.Random) -> Arguments:
        return rng.uniform(0.5, 1.5), rng.uniform(1.6, 4)

    def load(service: float, wait: float) -> float:
        return 2 * wait / (service + 2 * wait)

    return judge(
        answer,
        draws(one),
        lambda service, wait: 1000 * load(service, wait) / service,
        {
            "random": (
                lambda service, wait: 1000 * wait / (service + wait) / service,
                "this is M/M/1, with random service times; here each request takes the same",
            ),
            "load": (load, "this is the load; requests a second are wanted"),
            "per_ms": (
                lambda service, wait: load(service, wait) / service,
                "this is requests a millisecond",
            ),
            "full": (
                lambda service, wait: 1000 / service,
                "at this rate the server is always busy, and the queue endless",
            ),
        },
        "right: close to full, and still a short queue, as long as arrivals are only random",
        "solve ρ s / (2 (1 - ρ)) = wait for ρ; the rate is ρ / s, and that is per millisecond",
    )


def saved_by_half(answer: Callable[[int, float, float], float]) -> Verdict:
    """Exercise 4: the share of the wait that 16-bit numbers save."""

    def one(rng: random.Random) -> Arguments:
        return 4 * rng.randint(10_000, 40_000), rng.uniform(3, 9), rng.uniform(10, 40)

    def wait(n: int, bandwidth: float, trip: float, *, slow: bool = True) -> float:
        bursts = slow_start_ms(n, Link(bandwidth, trip)) if slow else 0
        return trip + transfer_ms(n, bandwidth) + bursts

    return judge(
        answer,
        draws(one),
        lambda n, *link: 1 - wait(n // 2, *link) / wait(n, *link),
        {
            "bytes_alone": (
                lambda n, *link: 0.5,
                "half the bytes are half of Table 3's time, not of the wait",
            ),
            "no_slow_start": (
                lambda n, *link: 1 - wait(n // 2, *link, slow=False) / wait(n, *link, slow=False),
                "the slow start is missing: half the bytes may need a burst less",
            ),
            "of_the_half": (
                lambda n, *link: wait(n, *link) / wait(n // 2, *link) - 1,
                "this is how much longer the whole takes than the half; divide by the whole",
            ),
            "what_is_left": (
                lambda n, *link: wait(n // 2, *link) / wait(n, *link),
                "this is what is left of the wait; take it from 1",
            ),
            "milliseconds": (
                lambda n, *link: wait(n, *link) - wait(n // 2, *link),
                "these are milliseconds; a share is wanted",
            ),
        },
        "right: the burst that is no longer needed saves more than the bytes do",
        "wait = round trip + transfer_ms + slow_start_ms, for all bytes and for half of them",
        edges=[(8_448, 5.0, 20.0), (100_000, 5.0, 20.0)],  # no burst less; three in place of four
    )
