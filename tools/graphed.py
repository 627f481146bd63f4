"""A training step as one CUDA graph, and a grid that trains so: several runs on one GPU at once.

    python tools/graphed.py --dataset ml-1m --seeds 1,2

A step of these models is hundreds of kernels of a few microseconds each. Launched one by one, the
GPU waits for Python most of the time. Recorded once and replayed, the same kernels work on the same
numbers in one launch. Start it several times, and each process takes the runs that no other is at;
the records are those of `duetlib.experiments`.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor

from duetlib import experiments, training
from duetlib.umn import UniversalMetaNetwork

Step = Callable[[Tensor, Tensor, Tensor], Tensor]

WARM = 3  # steps that set up what PyTorch makes when it is first used: no graph may do that


class Graphed:
    """A training step that is recorded after its first calls, and replayed from then on.

    Args:
        step: takes a batch's history, candidates and labels, moves the weights, returns the loss.

    A batch of another size than the recorded one, as an epoch's last may be, goes through `step`.
    """

    def __init__(self, step: Step):
        self.step, self.calls = step, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: list[Tensor] = []
        self.loss = torch.zeros(())

    def __call__(self, *batch: Tensor) -> Tensor:
        """One step on a batch; the loss is overwritten by the next one."""
        if self.graph is None:
            self.calls += 1
            if self.calls <= WARM:
                return self.warm_up(batch)
            self.record(batch)
        assert self.graph is not None
        if batch[0].shape != self.batch[0].shape:
            return self.step(*batch)
        for recorded, new in zip(self.batch, batch, strict=True):
            recorded.copy_(new)
        self.graph.replay()
        return self.loss

    def warm_up(self, batch: tuple[Tensor, ...]) -> Tensor:
        """A step beside the main stream, as a recording must be."""
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            loss = self.step(*batch)
        torch.cuda.current_stream().wait_stream(beside)
        return loss

    def record(self, batch: tuple[Tensor, ...]) -> None:
        """Note down what a step does; nothing is computed."""
        self.batch = [part.clone() for part in batch]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.step(*self.batch)


class GraphedTrainer(training.Trainer):
    """`Trainer`, with graphs for steps on a CUDA device."""

    def _add_step(
        self, model: UniversalMetaNetwork, loss_of: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super()._add_step(model, loss_of)
        if self.device.type == "cuda":
            for group in self.optimizers[-1].param_groups:
                group["capturable"] = True
            self.steps[-1] = Graphed(self.steps[-1])


def main() -> None:
    """`duetlib.experiments`, with `--seeds` in front of its own options."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--seeds", help="those alone, as in 1,2")
    mine, sys.argv[1:] = parser.parse_known_args()
    grid = experiments.grid
    if mine.seeds:
        grid = functools.partial(grid, seeds=[int(seed) for seed in mine.seeds.split(",")])
    with (
        mock.patch.multiple(experiments, grid=grid),
        mock.patch.multiple(training, Trainer=GraphedTrainer),
    ):
        experiments.main()


if __name__ == "__main__":
    main()
