"""A captured training step moves the weights as the eager step does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_cuda
import torch
from torch import Tensor

from duetlib.cuda_graphs import WARM, CapturedStep
from duetlib.methods import build
from duetlib.training import Trainer

exact_products = test_cuda.exact_products  # for this file too
CONFIG = replace(test_cuda.SHORT, batch_size=60)  # a last batch of another size than the others


# ---- on a GPU


def trainer_of(backbone: str, method: str, device: str, scheme: Any = "joint") -> Trainer:
    torch.manual_seed(0)
    split = test_cuda.SPLIT.to(device)
    config = replace(CONFIG, scheme=scheme)
    return Trainer(build(backbone, method, split.n_items).to(device), split, config)


def steps_taken(trainer: Trainer) -> list[float]:
    """What Adam counted, for every parameter."""
    counts = [state["step"] for o in trainer.optimizers for state in o.state.values()]
    return [float(count) for count in counts]


@pytest.mark.cuda
@pytest.mark.parametrize("scheme", ["joint", "alternating"])
@pytest.mark.parametrize("method", ["base", "hypernetwork", "bias_only", "duet_no_swa", "duet"])
@pytest.mark.parametrize("backbone", ["sasrec", "din", "gru4rec"])
def test_epochs_end_where_they_end_without_graphs(
    backbone: str, method: str, scheme: str, tmp_path: Path
) -> None:
    plain, one = (trainer_of(backbone, method, "cuda", scheme) for _ in range(2))
    plain.steps = [step.step for step in plain.steps if isinstance(step, CapturedStep)]
    assert len(plain.steps) == len(one.steps)
    sizes = {len(part) for part in torch.arange(len(plain.split.train)).split(CONFIG.sessions)}
    assert len(sizes) == 2
    for trainer in (plain, one):
        trainer.run_epoch()
    for step in one.steps:
        assert isinstance(step, CapturedStep)
        assert step.captures
    one.save(tmp_path / "run.safetensors")
    again = trainer_of(backbone, method, "cuda", scheme)
    again.load(tmp_path / "run.safetensors")
    for trainer in (plain, one, again):
        trainer.run_epoch()
    one.load(tmp_path / "run.safetensors")  # what it has captured works on other tensors now
    one.run_epoch()
    for trainer in (one, again):
        losses = [epoch["loss"] for epoch in trainer.result.history]
        right = [epoch["loss"] for epoch in plain.result.history]
        assert losses == pytest.approx(right, rel=1e-3)
        assert losses[1] < losses[0]
        assert steps_taken(trainer) == steps_taken(plain)
        for name, value in trainer.model.state_dict().items():
            torch.testing.assert_close(value, plain.model.state_dict()[name], rtol=0, atol=2e-2)


def test_without_a_gpu_nothing_is_captured() -> None:
    trainer = trainer_of("din", "duet", "cpu")
    assert not any(isinstance(step, CapturedStep) for step in trainer.steps)


# ---- without one: what is captured, and when


class Pretended:
    """A step on a pretended GPU: while it is captured it computes nothing, and a replay does."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []
        self.capturing: Any = None
        self.fails = False

    def __call__(self, batch: Tensor, weights: Tensor) -> Tensor:
        if self.capturing is None:
            return self.work(batch, weights)
        if self.fails:
            raise RuntimeError("out of memory")
        loss = torch.zeros(())
        self.capturing.replay = lambda: loss.copy_(self.work(batch, weights))
        return loss

    def work(self, batch: Tensor, weights: Tensor) -> Tensor:
        self.seen.append(batch.tolist())
        return (batch * weights).sum()

    @contextmanager
    def graph(self, graph: Any, stream: Any) -> Iterator[None]:
        self.capturing = graph
        try:
            yield
        finally:
            self.capturing = None


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    step = Pretended()

    class Nothing:
        def wait_stream(self, other: Any) -> None:
            """There is only one."""

    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", Nothing)
    monkeypatch.setattr(torch.cuda, "current_stream", Nothing)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Nothing)
    monkeypatch.setattr(torch.cuda, "graph", step.graph)
    return step


def batch_of(first: float, size: int = 3) -> tuple[Tensor, Tensor]:
    return torch.arange(first, first + size), torch.full((size,), 2.0)


@pytest.mark.parametrize("per_epoch", [1, 2, 4, 7])
def test_each_batch_is_worked_on_once_whatever_its_size(
    pretended: Pretended, per_epoch: int
) -> None:
    captured = CapturedStep(pretended)
    sizes = [2 if k % per_epoch == per_epoch - 1 else 3 for k in range(20)]  # an epoch's last
    batches = [batch_of(k, size) for k, size in enumerate(sizes)]
    losses = [float(captured(*batch)) for batch in batches]
    assert losses == [float((a * b).sum()) for a, b in batches]
    assert pretended.seen == [a.tolist() for a, _ in batches]
    often = {size for size in sizes if sizes.count(size) > WARM}
    assert {shapes[0][0] for shapes in captured.captures} == often
    assert torch.equal(batches[0][0], batch_of(0, sizes[0])[0])  # a caller's batch stays as it was


def test_a_batch_that_would_broadcast_is_another_size(pretended: Pretended) -> None:
    captured = CapturedStep(pretended)
    for k in range(WARM + 1):
        captured(*batch_of(k))
    loss = captured(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0]))
    assert loss == 60
    assert len(captured.captures) == 1


def test_a_capture_that_fails_is_tried_again(pretended: Pretended) -> None:
    captured = CapturedStep(pretended)
    for k in range(WARM):
        captured(*batch_of(k))
    pretended.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        captured(*batch_of(WARM))
    assert not captured.captures
    pretended.fails = False
    assert captured(*batch_of(WARM)) == 2 * (3 + 4 + 5)


def test_what_is_forgotten_is_captured_anew(pretended: Pretended) -> None:
    captured = CapturedStep(pretended)
    for k in range(WARM + 2):
        captured(*batch_of(k))
    captured.forget()
    assert not captured.captures
    for k in range(WARM):
        captured(*batch_of(k))
    assert not captured.captures
    captured(*batch_of(WARM))
    assert len(captured.captures) == 1
