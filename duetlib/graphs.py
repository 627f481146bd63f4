"""A training step as one CUDA graph.

A step of these models is hundreds of kernels of a few microseconds each. Launched one by one, a GPU
waits for Python most of the time. Recorded once and replayed, the same kernels work on the same
numbers in one launch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM = 3  # steps that set up what PyTorch makes when it is first used: no graph may do that


class Graphed:
    """A training step on a CUDA device, recorded after its first calls, and replayed from then on.

    Args:
        step: takes the tensors of a batch, moves the weights, returns the loss. Its optimiser has
            to be `capturable`.

    A batch of another size than the recorded one, as an epoch's last may be, goes through `step`.
    """

    def __init__(self, step: Callable[..., Tensor]):
        self.step, self.calls = step, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: list[Tensor] = []
        self.loss = torch.zeros(())

    def __call__(self, *batch: Tensor) -> Tensor:
        """One step on a batch; the loss is overwritten by the next one."""
        if self.graph is None:
            self.calls += 1
            if self.calls <= WARM:
                return self._warm_up(batch)
            self._record(batch)
        assert self.graph is not None
        if batch[0].shape != self.batch[0].shape:
            return self.step(*batch)
        for recorded, new in zip(self.batch, batch, strict=True):
            recorded.copy_(new)
        self.graph.replay()
        return self.loss

    def _warm_up(self, batch: tuple[Tensor, ...]) -> Tensor:
        """A step beside the main stream, as a recording must be."""
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            loss = self.step(*batch)
        torch.cuda.current_stream().wait_stream(beside)
        return loss

    def _record(self, batch: tuple[Tensor, ...]) -> None:
        """Note down what a step does; nothing is computed."""
        self.batch = [part.clone() for part in batch]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.step(*self.batch)
