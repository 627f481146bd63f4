"""The runner on a CPU with compiled training steps: the same runs in about two thirds of the time.

In models this small most of a step is PyTorch's bookkeeping, above all in a GRU's gradient, which
visits thirty clicks one by one. `torch.compile` writes the step out as C++ once, in about a minute
for each training; it needs a compiler (`g++`). Sums are taken in another order, so the last digits
of a run are others; its record says `compiled`.

`python tools/compiled_grid.py --dataset ml-1m` takes `python -m duetlib.experiments`' arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.command import run_command
from duetlib import experiments, training
from duetlib.umn import UniversalMetaNetwork


class WholeBatches(nn.Module):
    """A model compiled for batches of one size; the last, smaller one of an epoch runs as ever.

    Args:
        model: its parameters are shared. size: sessions in a whole batch.
    """

    def __init__(self, model: UniversalMetaNetwork, size: int):
        super().__init__()
        self.model, self.size = model, size
        self.compiled = torch.compile(model.forward, dynamic=False)

    def forward(self, history: Tensor, candidate_ids: Tensor) -> Tensor:
        """Logits `[B, C]`, see `UniversalMetaNetwork.forward`."""
        forward = self.compiled if len(history) == self.size else self.model
        return forward(history, candidate_ids)


class CompiledTrainer(training.Trainer):
    """`Trainer` with compiled steps."""

    def _add_step(
        self, model: UniversalMetaNetwork, loss_of: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super()._add_step(WholeBatches(model, self.config.sessions), loss_of)  # type: ignore[arg-type]


def run(config: experiments.Run, device: str = "cpu", data: Any = None) -> dict[str, Any]:
    """`experiments.run`, with the word `compiled` in the record."""
    return {**as_ever(config, device, data), "compiled": True}


as_ever = experiments.run

if __name__ == "__main__":
    torch._dynamo.config.allow_rnn = True  # written out click by click, which is the point here
    training.Trainer = CompiledTrainer  # type: ignore[misc]
    experiments.run = run
    run_command(experiments.main)
