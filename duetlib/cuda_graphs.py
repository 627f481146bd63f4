"""A training step as a CUDA graph.

A step of these models is many small kernels. Launched one by one, a GPU waits for Python most of
the time. Captured once and replayed, the same kernels run on the same memory in one launch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

WARM = 3  # eager calls first, as PyTorch's guide has it: they make what a capture may not make

Shapes = tuple[torch.Size, ...]


class Capture(NamedTuple):
    """A captured step: replay the graph, and it works on `batch` and leaves `loss`."""

    graph: torch.cuda.CUDAGraph
    batch: list[Tensor]
    loss: Tensor


class CapturedStep:
    """A training step on a CUDA device, captured for each size of batch and replayed from then on.

    Args:
        step: takes the tensors of a batch, moves the weights, returns the loss. Its optimiser has
            to be `capturable`, or the count of its steps stands still in a graph.

    A graph knows its tensors by their addresses, and numbers such as the learning rate by value.
    Where either is replaced, `forget`.
    """

    def __init__(self, step: Callable[..., Tensor]):
        self.step = step
        self.forget()

    def forget(self) -> None:
        """Capture anew, after eager calls."""
        self.calls: Counter[Shapes] = Counter()
        self.captures: dict[Shapes, Capture] = {}

    def __call__(self, *batch: Tensor) -> Tensor:
        """One step on a batch. The next one overwrites the loss."""
        shapes = tuple(part.shape for part in batch)
        with torch.cuda.device(batch[0].device):
            if shapes not in self.captures:
                self.calls[shapes] += 1
                if self.calls[shapes] <= WARM:
                    return self._warm_up(batch)
                self.captures[shapes] = self._capture(batch)
            captured = self.captures[shapes]
            for kept, new in zip(captured.batch, batch, strict=True):
                kept.copy_(new)
            captured.graph.replay()
        return captured.loss

    def _warm_up(self, batch: tuple[Tensor, ...]) -> Tensor:
        """An eager step on a side stream, where a capture will run too."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            loss = self.step(*batch)
        torch.cuda.current_stream().wait_stream(side)
        return loss

    def _capture(self, batch: tuple[Tensor, ...]) -> Capture:
        """Note down what a step does; nothing is computed."""
        graph, kept = torch.cuda.CUDAGraph(), [part.clone() for part in batch]
        # A stream of the batch's own device: PyTorch's default one is of the first device in use.
        with torch.cuda.graph(graph, stream=torch.cuda.Stream()):
            loss = self.step(*kept)
        return Capture(graph, kept, loss)
