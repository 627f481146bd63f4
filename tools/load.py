"""Many devices at once, from one process: sends ready-made requests and times the answers.

Over kept connections and plain asyncio streams, so that on a machine with two cores most of the
work is left to the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np


@dataclass
class Load:
    """What came of it.

    Attributes:
        seconds: it took. times: seconds of each answer. errors: answers with another status than
            200, and connections that broke.
    """

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    errors: int = 0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.times) / self.seconds

    def percentile(self, percent: float) -> float:
        """Milliseconds within which so many percent of the answers came."""
        return float(np.percentile(self.times, percent)) * 1e3

    def __add__(self, other: Load) -> Load:
        """One after the other."""
        times, errors = self.times + other.times, self.errors + other.errors
        return Load(self.seconds + other.seconds, times, errors)


def load(
    url: str,
    token: str,
    bodies: Sequence[bytes],
    concurrency: int,
    seconds: float,
    rate: float | None = None,
) -> Load:
    """So many connections, each of which asks again as soon as it has its answer.

    Args:
        url, token: of the service. bodies: requests, sent in turn. concurrency: connections.
        seconds: how long. rate: requests a second over all connections; None for as many as can be.
    """
    return asyncio.run(_load(url, token, bodies, concurrency, seconds, rate))


def arrive(
    url: str, token: str, bodies: Sequence[bytes], rate: float, seconds: float, seed: int = 0
) -> Load:
    """Requests that come at random moments, whether or not earlier ones have their answer.

    A time runs from the moment at which a request is due. Between two moments this process does not
    sleep, for asyncio wakes up to a millisecond late: it takes one core for itself.

    Args:
        url, token, bodies: as in `load`. rate: requests a second, on average.
        seconds: in which requests come; the last answers may take longer. seed: of the moments.
    """
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, round(rate * seconds)))
    return asyncio.run(_arrive(url, _whole(url, token, bodies), due))


def _whole(url: str, token: str, bodies: Sequence[bytes]) -> list[bytes]:
    """Whole requests, ready to be sent."""
    head = f"POST /weights HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
    head += f"Authorization: Bearer {token}\r\n"
    return [(head + f"Content-Length: {len(b)}\r\n\r\n").encode() + b for b in bodies]


async def _arrive(url: str, whole: Sequence[bytes], due: np.ndarray) -> Load:
    at, result = urlsplit(url), Load()
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def one(request: bytes, asked: float) -> None:
        try:
            link = free.pop() if free else None
            if link is None or link[0].at_eof():  # the cloud closes what was idle for long
                link = await asyncio.open_connection(at.hostname, at.port)
            link[1].write(request)
            if await _answer(link[0]) != 200:
                raise OSError("not 200")
        except (OSError, asyncio.IncompleteReadError):
            result.errors += 1
            return
        result.times.append(time.perf_counter() - asked)
        free.append(link)

    started = time.perf_counter()
    tasks = []
    for n, moment in enumerate(started + due):
        while time.perf_counter() < moment:
            await asyncio.sleep(0)
        tasks.append(asyncio.create_task(one(whole[n % len(whole)], moment)))
    await asyncio.gather(*tasks)
    result.seconds = time.perf_counter() - started
    for _, writer in free:
        writer.close()
    return result


async def _load(
    url: str,
    token: str,
    bodies: Sequence[bytes],
    concurrency: int,
    seconds: float,
    rate: float | None,
) -> Load:
    at, result, whole = urlsplit(url), Load(), _whole(url, token, bodies)
    started = time.perf_counter()
    gap = concurrency / rate if rate else 0.0

    async def one(n: int) -> None:
        due = started + n * gap / concurrency
        while time.perf_counter() < started + seconds:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(at.hostname, at.port)
                while (asked := max(time.perf_counter(), due)) < started + seconds:
                    await asyncio.sleep(asked - time.perf_counter() if gap else 0)
                    asked = time.perf_counter()
                    writer.write(whole[(n + len(result.times)) % len(whole)])
                    if await _answer(reader) != 200:
                        result.errors += 1
                        break
                    result.times.append(time.perf_counter() - asked)
                    due = due + gap
                writer.close()
                continue
            result.errors += 1

    await asyncio.gather(*(one(n) for n in range(concurrency)))
    result.seconds = time.perf_counter() - started
    return result


async def _answer(reader: asyncio.StreamReader) -> int:
    """The status of one answer, its body read and thrown away."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    (length,) = (int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(head[9:12])
