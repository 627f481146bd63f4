"""A training step as one CUDA graph moves the weights as the step itself does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import graphed
import pytest
import small_data
import test_cuda
import torch

from duetlib import experiments, training
from duetlib.training import Trainer
from duetlib.umn import build

exact_products = test_cuda.exact_products  # for this file too
CONFIG = replace(test_cuda.SHORT, batch_size=60)  # a last batch of another size than the others


def trainer_of(kind: type[Trainer], backbone: str, method: str, device: str) -> Trainer:
    torch.manual_seed(0)
    split = test_cuda.SPLIT.to(device)
    return kind(build(backbone, method, split.n_items).to(device), split, CONFIG)


@pytest.mark.cuda
@pytest.mark.parametrize("method", ["base", "hypernetwork", "bias_only", "duet_no_swa", "duet"])
@pytest.mark.parametrize("backbone", ["sasrec", "din", "gru4rec"])
def test_two_epochs_end_where_they_end_without_graphs(
    backbone: str, method: str, tmp_path: Path
) -> None:
    plain, one = (
        trainer_of(kind, backbone, method, "cuda") for kind in (Trainer, graphed.GraphedTrainer)
    )
    sizes = {len(part) for part in torch.arange(len(plain.split.train)).split(CONFIG.sessions)}
    assert len(sizes) == 2
    for trainer in (plain, one):
        trainer.run_epoch()
    recorded = one.steps[0]
    assert isinstance(recorded, graphed.Graphed)
    assert recorded.graph is not None
    one.save(tmp_path / "run.safetensors")
    again = trainer_of(graphed.GraphedTrainer, backbone, method, "cuda")
    again.load(tmp_path / "run.safetensors")
    for trainer in (plain, one, again):
        trainer.run_epoch()
        losses = [epoch["loss"] for epoch in trainer.result.history]
        right = [epoch["loss"] for epoch in plain.result.history]
        assert losses == pytest.approx(right, rel=1e-3)
        assert losses[1] < losses[0]
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(value, plain.model.state_dict()[name], rtol=0, atol=2e-2)


def test_without_a_gpu_it_is_the_usual_trainer() -> None:
    plain, one = (
        trainer_of(kind, "din", "duet", "cpu") for kind in (Trainer, graphed.GraphedTrainer)
    )
    for trainer in (plain, one):
        trainer.run_epoch()
    assert plain.result.history == one.result.history


def test_it_runs_the_seeds_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))
    data, runs = small_data.interactions(), experiments.grid("ml-1m", [1])
    short = replace(runs[0].train, max_epochs=1)
    monkeypatch.setattr(experiments, "results_dir", lambda: tmp_path)
    monkeypatch.setattr(experiments, "load_movielens", lambda *args, **kwargs: data)
    monkeypatch.setattr(
        experiments,
        "grid",
        lambda dataset, seeds: [
            replace(run, train=short, seed=seed) for seed in seeds for run in runs[:2]
        ],
    )
    kept = training.Trainer
    monkeypatch.setattr(
        "sys.argv", ["graphed.py", "--dataset", "ml-1m", "--seeds", "2,4", "--device", "cpu"]
    )
    threads = torch.get_num_threads()
    graphed.main()
    torch.set_num_threads(threads)
    assert training.Trainer is kept
    records = [json.loads(line) for line in (tmp_path / "ml-1m.jsonl").read_text().splitlines()]
    assert [(record["method"], record["seed"]) for record in records] == [
        (run.method, seed) for seed in (2, 4) for run in runs[:2]
    ]
    assert "4/4" in capsys.readouterr().out
