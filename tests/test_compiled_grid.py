"""The runner with compiled steps: the same training, whole batches compiled, the rest as ever."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import compiled_grid
import pytest
import test_cuda
import torch
from compiled_grid import CompiledTrainer, WholeBatches

from duetlib import experiments, training
from duetlib.training import Trainer
from duetlib.umn import build

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++")


CONFIG = replace(test_cuda.SHORT, batch_size=60)  # a last batch of another size than the others


def after_an_epoch(kind: type[Trainer]) -> Trainer:
    torch.manual_seed(0)
    trainer = kind(build("sasrec", "base", test_cuda.SPLIT.n_items), test_cuda.SPLIT, CONFIG)
    trainer.run_epoch()
    return trainer


@needs_compiler
def test_an_epoch_is_the_same_but_for_rounding() -> None:
    assert len(test_cuda.SPLIT.train) % CONFIG.sessions
    eager, compiled = (after_an_epoch(kind) for kind in (Trainer, CompiledTrainer))
    losses = [trainer.result.history[0]["loss"] for trainer in (eager, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    weights = compiled.model.state_dict()
    assert weights.keys() == eager.model.state_dict().keys()
    for name, value in eager.model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)


def test_only_whole_batches_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def compiled(f, dynamic):  # type: ignore[no-untyped-def]
        assert dynamic is False
        return lambda history, ids: sizes.append(len(history)) or f(history, ids)

    monkeypatch.setattr(torch, "compile", compiled)
    model = build("din", "base", 9)
    whole = WholeBatches(model, 4)
    history, ids = torch.randint(1, 10, (4, 6)), torch.randint(1, 10, (4, 3))
    for n in (4, 3):
        assert torch.equal(whole(history[:n], ids[:n]), model(history[:n], ids[:n]))
    assert sizes == [4]


def test_a_record_says_that_it_was_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_grid, "as_ever", lambda *given: {"given": given})
    assert compiled_grid.run("a run", "cpu", "data") == {
        "given": ("a run", "cpu", "data"),
        "compiled": True,
    }


def test_nothing_is_replaced_by_importing() -> None:
    assert training.Trainer is Trainer
    assert experiments.run is compiled_grid.as_ever
    assert Path(compiled_grid.__file__).parent.name == "tools"
