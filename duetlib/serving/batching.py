"""Micro-batching: requests that arrive together are worked on together. Chapter 10."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from data_prep.arguments import number, whole


class Batcher:
    """Requests that come within a short while of each other are worked on as one batch.

    Args:
        work: many rows in, as many results out. most, seconds: whichever is reached first ends the
            wait, which begins with the first row.

    Raises:
        ValueError: if nothing could ever be worked on so.
    """

    def __init__(self, work: Callable[[Sequence[Tensor]], np.ndarray], most: int, seconds: float):
        whole(1, most=most)
        number(0, seconds=seconds)
        self.work, self.most, self.seconds = work, most, seconds
        self.waiting: list[tuple[Tensor, asyncio.Future[np.ndarray]]] = []
        self.alarm: asyncio.TimerHandle | None = None

    async def __call__(self, row: Tensor) -> np.ndarray:
        """The result for one row."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[np.ndarray] = loop.create_future()
        self.waiting.append((row, future))
        if len(self.waiting) >= self.most:
            self._run()
        elif self.alarm is None:
            self.alarm = loop.call_later(self.seconds, self._run)
        return await future

    def _run(self) -> None:
        if self.alarm:
            self.alarm.cancel()
        batch, self.waiting, self.alarm = self.waiting, [], None
        try:
            results: list[Any] = list(self.work([row for row, _ in batch]))
        except Exception as error:  # each of them is told; the service goes on
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():  # whoever asked may be gone
                fail = isinstance(result, Exception)
                (future.set_exception if fail else future.set_result)(result)
