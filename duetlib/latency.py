"""Bytes and bandwidth to milliseconds: Table 3 again, cell by cell, and what it leaves out.

The paper's delay is bytes over bandwidth. A device waits for more than that: round trips, TCP's
careful start, computing, and its turn in the queue. Every function here is arithmetic; what has to
be measured comes in as an argument. Chapter 9.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from data_prep.arguments import check_seed, number, one_of, whole
from duetlib.evidence import paper

SEGMENT = 1460  # bytes of data in a TCP segment: an Ethernet frame of 1,500 less 40 of headers
INITIAL_WINDOW = 10  # segments sent before the first answer is waited for (RFC 6928)
NUMBER = 4  # bytes of a 32-bit number

Shapes = Sequence[tuple[int, int]]

# The dynamic layers. Of MobileNetV3: the last 1×1 convolution and both fully connected layers, of
# which the paper says no more than their size.
RECOMMENDER: Shapes = ((32, 32), (32, 32))
MOBILENET: dict[str, Shapes] = {
    "mobilenet_v3_large": ((160, 960), (960, 1280), (1280, 8)),
    "mobilenet_v3_small": ((96, 576), (576, 1280), (1280, 8)),
}


# --- Table 3 -------------------------------------------------------------------------------------


def n_generated(shapes: Shapes, bias: bool = True) -> int:
    """P: how many numbers a device downloads: `Σ (N_in + 1) · N_out`, or `Σ N_in · N_out`."""
    return sum((n_in + bias) * n_out for n_in, n_out in shapes)


def payload_bytes(shapes: Shapes, bytes_per_number: int = NUMBER, bias: bool = True) -> int:
    """What a device downloads at the start of a session: P numbers of `bytes_per_number` bytes."""
    whole(1, bytes_per_number=bytes_per_number)
    return n_generated(shapes, bias) * bytes_per_number


class Reading(NamedTuple):
    """What a printed size may stand for.

    Attributes:
        n_bytes: its size. why: in words.
    """

    n_bytes: float
    why: str


def readings(row: str, part: str) -> list[Reading]:
    """What a size in Table 3 may stand for: first what a device has to send, then other guesses.

    Args:
        row: a data set of MovieLens or a MobileNetV3. part: `samples`, `embedding` or `layers`.

    Raises:
        ValueError: for another row or part.

    Source: Chapter 9, Table 3.
    """
    rows, parts = zip(*paper.TABLE_3, strict=True)
    one_of(dict.fromkeys(rows), row=row)
    one_of(dict.fromkeys(parts), part=part)
    ours = payload_bytes(RECOMMENDER)
    mixed = Reading(ours / 1.024, "8.25 KB turned into MB by 1,024 and back into KB by 1,000")
    if part == "embedding":
        copied = Reading(mixed.n_bytes, "the size of the download stands in its place")
        return [Reading(64 * NUMBER, "64 numbers, the dimension of z in Table 5"), copied]
    if row in MOBILENET:
        if part == "samples":
            return [Reading(224 * 224 * 3, "one picture, a byte a colour")]
        return [Reading(payload_bytes(MOBILENET[row], bias=False), "three layers without biases")]
    if part == "samples":
        bits = Reading(30 * paper.ROWS[row] / 32, "30 rows of V bits, 32-bit words taken for bytes")
        return [Reading(30 * NUMBER, "30 ids"), bits]
    bare = Reading(
        payload_bytes(RECOMMENDER, bias=False), "both layers without their biases: 8.00 KB"
    )
    return [Reading(ours, "two 32×32 layers and their biases"), bare, mixed]


def as_counted(n_bytes: float, unit: str, bandwidth: float | None = None) -> float:
    """A size, or with a bandwidth a time, in the units that Table 3 counts in.

    Its KB and MB are 1,024 and 1,024² bytes. Its times divide a number of KB by a number of MB/s
    and call the result milliseconds, as if a KB were a thousandth of an MB.

    Args:
        unit: `KB` or `MB` for a size, `ms` or `s` for a time. bandwidth: MB/s.

    Raises:
        ValueError: for another unit, a negative size, or a bandwidth that is not above 0.
    """
    number(0, n_bytes=n_bytes)
    number(0, above=True, bandwidth=1 if bandwidth is None else bandwidth)
    if unit not in ("KB", "MB", "ms", "s"):
        raise ValueError(f"unit {unit!r} is not one of KB, MB, ms, s, which Table 3 uses")
    size = n_bytes / (1024 if unit in ("KB", "ms") else 1024**2)
    return size if bandwidth is None else size / bandwidth


class Verdict(NamedTuple):
    """What became of a printed number.

    Attributes:
        verdict: `agrees`, `rounding` (cut off, where rounding gives one digit more) or
            `cannot be right`. why: the reading that gives the printed number.
    """

    verdict: str
    why: str


def judge(printed: str, values: Sequence[float], whys: Sequence[str]) -> Verdict:
    """Compare a printed number with the right value, and then with other readings.

    Args:
        printed: such as `5.13ms`. values: in the printed unit, the right one first. whys: of each.
    """
    value, digit, _ = paper.amount(printed)
    off = [(v - value) / digit for v in values]  # in units of the last printed digit
    half = 0.5 + 1e-6  # a number that lies right between two may be rounded to either
    if abs(off[0]) <= half:
        return Verdict("agrees", whys[0])
    if 0 < off[0] < 1:
        return Verdict("rounding", "cut off, not rounded")
    found = [why for o, why in zip(off, whys, strict=True) if abs(o) <= half]
    return Verdict("cannot be right", found[0] if found else "no reading of ours gives it")


class Cell(NamedTuple):
    """A number of Table 3.

    Attributes:
        row: a data set of MovieLens or a MobileNetV3. part: `samples`, `embedding` or `layers`.
        column: `size`, or a bandwidth in MB/s. printed: as it stands in the paper.
        ours: as it follows from bytes, in the printed unit. unit: of both.
        verdict, why: see `Verdict`.
    """

    row: str
    part: str
    column: str
    printed: str
    ours: float
    unit: str
    verdict: str
    why: str


def table_3() -> list[Cell]:
    """All 60 numbers of Table 3: as printed, as they follow from bytes, and the verdict.

    Source: Chapter 9, Table 3.
    """
    found = []
    for (row, part), cells in paper.TABLE_3.items():
        sizes, whys = zip(*readings(row, part), strict=True)
        for bandwidth, printed in zip((None, *paper.BANDWIDTHS), cells, strict=True):
            unit = paper.amount(printed).unit
            values = [as_counted(size, unit, bandwidth) for size in sizes]
            column = "size" if bandwidth is None else f"{bandwidth} MB/s"
            verdict = judge(printed, values, whys)
            found.append(Cell(row, part, column, printed, values[0], unit, *verdict))
    return found


def printed_ms(text: str) -> float:
    """A printed time in milliseconds; a ValueError for another unit than `ms` or `s`."""
    value, _, unit = paper.amount(text)
    one_of(("ms", "s"), **{f"the unit of {text}": unit})
    return value * 1000 if unit == "s" else value


def delay_from_table_3(row: str) -> float:
    """Milliseconds of Table 3's last column, samples up plus layers down: Tables 1 and 2's delay.

    Raises:
        ValueError: for a row that Table 3 does not have.

    Source: Chapter 9, Table 3.
    """
    one_of(dict.fromkeys(name for name, _ in paper.TABLE_3), row=row)
    return sum(printed_ms(paper.TABLE_3[row, part][-1]) for part in ("samples", "layers"))


# --- what the table leaves out -------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """A way between device and cloud.

    Attributes:
        bandwidth: MB/s, an MB being a million bytes, the same in both directions.
        round_trip: milliseconds from a question to the answer, both of no size.

    Raises:
        ValueError: for a bandwidth that is not above 0, or a negative time.
    """

    bandwidth: float
    round_trip: float

    def __post_init__(self) -> None:
        number(0, above=True, bandwidth=self.bandwidth)
        number(0, round_trip=self.round_trip)


def transfer_ms(n_bytes: float, bandwidth: float) -> float:
    """Bytes over bandwidth, in milliseconds: all that Table 3 counts.

    Args:
        bandwidth: MB/s, an MB being a million bytes.

    Raises:
        ValueError: for a negative number of bytes, or a bandwidth that is not above 0.
    """
    number(0, n_bytes=n_bytes)
    number(0, above=True, bandwidth=bandwidth)
    return n_bytes / (1000 * bandwidth)


def slow_start_rounds(n_bytes: int) -> int:
    """In how many bursts TCP sends so many bytes: 10 segments, then 20, 40, ...

    The least k with `10 · (2^k - 1)` segments or more.

    Source: Chapter 9; RFC 5681 and 6928.
    """
    number(0, n_bytes=n_bytes)
    segments = math.ceil(n_bytes / SEGMENT)
    return math.ceil(segments / INITIAL_WINDOW).bit_length()


def slow_start_ms(n_bytes: int, link: Link) -> float:
    """How long TCP, which must wait for answers before it sends more, stands still in between.

    After a burst it waits until the answer to the burst's first segment is back. Sending the burst
    takes part of that time; once it takes all of it, nothing stands still any more. No loss.

    Source: Chapter 9; RFC 5681 and 6928.
    """
    one = transfer_ms(SEGMENT, link.bandwidth)
    bursts = (one * INITIAL_WINDOW * 2**k for k in range(slow_start_rounds(n_bytes) - 1))
    return sum(max(0.0, one + link.round_trip - burst) for burst in bursts)


IN_TABLE_3 = ("upload: bytes", "download: bytes")


def delay(
    upload: int,
    download: int,
    link: Link,
    *,
    connected: bool = False,
    cloud: Mapping[str, float] | None = None,
    device: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Every term of the wait for new layers, in milliseconds, in the order in which they come.

    Args:
        upload, download: bytes. connected: whether a connection is open already, so that nothing
            has to be set up. TCP starts slowly all the same once it has been idle (RFC 5681).
        cloud, device: measured terms, such as the generator's milliseconds; NaN for a term that
            was not measured.

    Raises:
        ValueError: for a number of bytes, or a term, that is negative.

    Source: Chapter 9.
    """
    number(0, upload=upload, download=download)
    for name, term in {**(cloud or {}), **(device or {})}.items():
        if not math.isnan(term):
            number(0, **dict[str, Any]({name: term}))
    trip = link.round_trip
    set_up = {} if connected else {"TCP set-up": trip, "TLS 1.3 set-up": trip}
    return {
        **set_up,
        "round trip": trip,
        "upload: bytes": transfer_ms(upload, link.bandwidth),
        "upload: slow start": slow_start_ms(upload, link),
        **(cloud or {}),
        "download: bytes": transfer_ms(download, link.bandwidth),
        "download: slow start": slow_start_ms(download, link),
        **(device or {}),
    }


def total_ms(terms: Mapping[str, float]) -> float:
    """The terms of `delay` together."""
    return sum(terms.values())


def size_that_matters(link: Link, upload: int = 120, share: float = 0.1) -> int:
    """The first download, in bytes, that makes the wait longer by more than a share.

    On an open connection, and compared with a download of nothing: below this size, making the
    download smaller is hardly noticed.

    Source: Chapter 9.
    """
    number(0, share=share)

    def wait(download: int) -> float:
        return total_ms(delay(upload, download, link, connected=True))

    return bisect.bisect_right(range(2**40), (1 + share) * wait(0), key=wait)


# --- the queue at the cloud ----------------------------------------------------------------------

Service = Literal["fixed", "random"]


def queue_ms(load: float, service_ms: float, service: Service = "fixed") -> float:
    """Mean time in the queue before one server, for requests that come at random moments.

    `fixed` (M/D/1): every request takes the same time, `ρ s / (2 (1 - ρ))`. `random` (M/M/1):
    exponential times of that mean, twice as long a wait.

    Args:
        load: ρ, the share of the time that the server is busy, below 1. service_ms: s.

    Raises:
        ValueError: for a load that is not from 0 to below 1: the queue would grow for ever; or a
            negative time.

    Source: Chapter 9; Kleinrock (1975).
    """
    if not 0 <= load < 1:
        raise ValueError(f"load is {load}: it must be from 0 to below 1, or the queue never ends")
    number(0, service_ms=service_ms)
    return load * service_ms / (1 - load) / (2 if _is_fixed(service) else 1)


def _is_fixed(service: Service) -> bool:
    one_of(get_args(Service), service=service)
    return service == "fixed"


def simulate_queue(
    load: float, service_ms: float, n: int, seed: int = 0, service: Service = "fixed"
) -> np.ndarray:
    """Time in the queue of each of n requests, one after the other, from an empty start.

    Lindley's recursion: who comes waits for as long as the one before had to wait and be served,
    less the time between the two. As one cumulative sum: the walk, less its lowest point so far.

    Args:
        load, service_ms, service: as in `queue_ms`.

    Returns:
        `[n]` milliseconds.

    Raises:
        ValueError: for a load that is not between 0 and 1, a time that is not above 0, or no
            request.

    Source: Chapter 9; Lindley (1952).
    """
    if not 0 < load < 1:
        raise ValueError(f"load is {load}: it must be between 0 and 1, or the queue never ends")
    number(0, above=True, service_ms=service_ms)
    whole(1, n=n)
    check_seed(seed)
    rng = np.random.default_rng(seed)
    between = rng.exponential(service_ms / load, n - 1)
    fixed = _is_fixed(service)
    served = np.full(n - 1, service_ms) if fixed else rng.exponential(service_ms, n - 1)
    walk = np.concatenate([[0.0], np.cumsum(served - between)])
    return walk - np.minimum.accumulate(walk)
