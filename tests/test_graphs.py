"""A training step as one CUDA graph moves the weights as the step itself does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import test_cuda
import torch

from duetlib import graphs
from duetlib.graphs import Graphed
from duetlib.training import Trainer
from duetlib.umn import build

exact_products = test_cuda.exact_products  # for this file too
CONFIG = replace(test_cuda.SHORT, batch_size=60)  # a last batch of another size than the others


def trainer_of(backbone: str, method: str, device: str, scheme: str = "joint") -> Trainer:
    torch.manual_seed(0)
    split = test_cuda.SPLIT.to(device)
    config = replace(CONFIG, scheme=scheme)
    return Trainer(build(backbone, method, split.n_items).to(device), split, config)


@pytest.mark.cuda
@pytest.mark.parametrize("scheme", ["joint", "alternating"])
@pytest.mark.parametrize("method", ["base", "hypernetwork", "bias_only", "duet_no_swa", "duet"])
@pytest.mark.parametrize("backbone", ["sasrec", "din", "gru4rec"])
def test_two_epochs_end_where_they_end_without_graphs(
    backbone: str, method: str, scheme: str, tmp_path: Path
) -> None:
    plain, one = (trainer_of(backbone, method, "cuda", scheme) for _ in range(2))
    plain.steps = [step.step for step in plain.steps if isinstance(step, Graphed)]
    assert len(plain.steps) == len(one.steps)
    sizes = {len(part) for part in torch.arange(len(plain.split.train)).split(CONFIG.sessions)}
    assert len(sizes) == 2
    for trainer in (plain, one):
        trainer.run_epoch()
    for recorded in one.steps:
        assert isinstance(recorded, Graphed)
        assert recorded.graph is not None
    one.save(tmp_path / "run.safetensors")
    again = trainer_of(backbone, method, "cuda", scheme)
    again.load(tmp_path / "run.safetensors")
    for trainer in (plain, one, again):
        trainer.run_epoch()
        losses = [epoch["loss"] for epoch in trainer.result.history]
        right = [epoch["loss"] for epoch in plain.result.history]
        assert losses == pytest.approx(right, rel=1e-3)
        assert losses[1] < losses[0]
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(value, plain.model.state_dict()[name], rtol=0, atol=2e-2)


def test_without_a_gpu_there_is_no_graph() -> None:
    assert not any(isinstance(step, Graphed) for step in trainer_of("din", "duet", "cpu").steps)


def test_what_is_recorded_is_replayed_on_every_later_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: a stand-in for the graph that does again what was recorded."""
    seen: list[list[float]] = []

    def step(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.tolist())
        return batch.sum()

    class Again:
        def __init__(self, graphed: Graphed):
            self.graphed = graphed

        def replay(self) -> None:
            self.graphed.loss.copy_(step(*self.graphed.batch))

    def record(self: Graphed, batch: tuple[torch.Tensor, ...]) -> None:
        self.batch, self.graph = [part.clone() for part in batch], Again(self)  # type: ignore[assignment]

    monkeypatch.setattr(Graphed, "_warm_up", lambda self, batch: self.step(*batch))
    monkeypatch.setattr(Graphed, "_record", record)
    graphed = Graphed(step)
    batches = [torch.tensor([k, k + 1.0]) for k in range(6)] + [torch.tensor([9.0])]
    losses = [float(graphed(batch)) for batch in batches]
    assert losses == [float(batch.sum()) for batch in batches]
    assert seen == [batch.tolist() for batch in batches]
    assert graphed.calls == graphs.WARM + 1
    assert torch.equal(batches[3], torch.tensor([3.0, 4.0]))  # a caller's batch stays as it was
