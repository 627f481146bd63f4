"""Losses by hand, steps by another loop, resuming to the last digit, and alarms."""

from __future__ import annotations

import copy
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_data
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from duetlib import cache, training
from duetlib.cache import read_safetensors, write_safetensors
from duetlib.dynamic import Layer
from duetlib.methods import build
from duetlib.ppg import ppg_loss
from duetlib.sessions import Negatives, Sessions, Split, leave_last_out
from duetlib.training import (
    TABLE_5,
    Result,
    TrainConfig,
    Trainer,
    bce_loss,
    evaluate,
    evaluation,
    full_ranks,
    sampled_candidates,
    score,
    split_hash,
    train,
    trained,
)
from duetlib.umn import OrdinaryLayers, UniversalMetaNetwork

SPLIT = small_data.split()
SHORT = TrainConfig(lr=0.01, batch_size=64, max_epochs=4, patience=4)
FULL_METRICS = {"auc", "user_auc", "hr10", "ndcg10", "hr10_full", "ndcg10_full"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in the same order here as in the processes that are started."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fresh(method: str = "duet", backbone: str = "gru4rec", seed: int = 0) -> UniversalMetaNetwork:
    torch.manual_seed(seed)
    return build(backbone, method, SPLIT.n_items)


# ---- losses and steps


def test_the_loss_of_eq_2_is_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    total = 0.0
    for x, y in zip(logits.flatten().tolist(), labels.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        total -= y * math.log(p) + (1 - y) * math.log(1 - p)
    assert bce_loss(logits, labels).item() == pytest.approx(total / 4, abs=1e-6)
    assert ppg_loss(logits, labels).item() == pytest.approx(total / 4, abs=1e-6)


def plain_epochs(model: UniversalMetaNetwork, classifier: nn.Module | None, epochs: int) -> None:
    """Training written once more: two optimisers where there is a classifier, no Trainer."""
    networks = [model]
    if classifier is not None:
        umn = UniversalMetaNetwork(model.backbone, SPLIT.n_items, classifier)
        umn.items = model.items
        networks = [umn, model]
    optimizers = [torch.optim.Adam(n.parameters(), SHORT.lr, fused=False) for n in networks]
    data, size = SPLIT.train, SHORT.sessions
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(len(data), generator=generator)
        wrong = Negatives(SPLIT.seen).draw(data.user, SHORT.negatives, generator)
        for start in range(0, len(data), size):
            rows = order[start : start + size]
            for network, optimizer in zip(networks, optimizers, strict=True):
                right = network(data.history[rows], data.target[rows].unsqueeze(1))
                others = network(data.history[rows], wrong[rows])
                loss = -torch.log(torch.sigmoid(right)).sum()
                loss -= torch.log(torch.sigmoid(-others)).sum()
                optimizer.zero_grad()
                (loss / (right.numel() + others.numel())).backward()
                optimizer.step()


@pytest.mark.parametrize("scheme", ["joint", "alternating"])
def test_two_epochs_equal_a_plain_loop(scheme: Any) -> None:
    model = fresh()
    trainer = Trainer(model, SPLIT, replace(SHORT, scheme=scheme))
    plain = copy.deepcopy(model)
    classifier = copy.deepcopy(trainer.modules["classifier"]) if scheme != "joint" else None
    before = copy.deepcopy(model.state_dict())
    trainer.run_epoch()
    trainer.run_epoch()
    plain_epochs(plain, classifier, 2)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=2e-4, msg=name)
        assert not torch.equal(before[name], value), f"{name} was not trained"
    if classifier is not None:
        for ours, theirs in zip(
            trainer.modules["classifier"].parameters(), classifier.parameters(), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)


def test_alternating_differs_from_joint_and_trains_the_classifier() -> None:
    joint, alternating = fresh(), fresh()
    a = Trainer(joint, SPLIT, SHORT)
    b = Trainer(alternating, SPLIT, replace(SHORT, scheme="alternating"))
    assert set(a.modules) == {"model"}
    classifier = b.modules["classifier"]
    assert isinstance(classifier, OrdinaryLayers)
    start = [p.detach().clone() for p in classifier.parameters()]
    a.run_epoch()
    b.run_epoch()
    assert not torch.equal(joint.items.weight, alternating.items.weight)
    for before, after in zip(start, classifier.parameters(), strict=True):
        assert not torch.equal(before, after)


def test_frozen_generators_stay_as_they_were() -> None:
    model = fresh("duet_as_released")
    before = copy.deepcopy(model.state_dict())
    Trainer(model, SPLIT, SHORT).run_epoch()
    for name, value in model.state_dict().items():
        assert torch.equal(before[name], value) == ("generators" in name), name


def test_table_5_counts_rows() -> None:
    assert TABLE_5["ml-100k"].sessions == 102  # 512 rows of five candidates
    assert TABLE_5["ckplus"].sessions == 128
    assert TrainConfig(batch_size=2).sessions == 1


# ---- the same again


@pytest.mark.parametrize("method", ["base", "duet"])
def test_a_seed_gives_the_same_numbers_twice(method: str) -> None:
    first, second = (train(fresh(method), SPLIT, SHORT, seed=3) for _ in range(2))
    assert first.history == second.history
    assert first.metrics == second.metrics
    assert set(first.metrics) == FULL_METRICS
    assert train(fresh(method), SPLIT, SHORT, seed=4).history != first.history


class Cut(Exception):
    """What stops a run in the middle of an epoch."""


def cut_after(batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run end, as if the power had failed, after so many batches."""
    done = 0

    class Bar:
        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def update(self) -> None:
            nonlocal done
            done += 1
            if done == batches:
                raise Cut

    monkeypatch.setattr(training, "progress", lambda *_: Bar())


@pytest.mark.parametrize(
    ("backbone", "method", "scheme"),
    [("gru4rec", "base", "joint"), ("din", "duet", "joint"), ("sasrec", "duet", "alternating")],
)
def test_a_run_cut_in_an_epoch_resumes_to_the_last_digit(
    backbone: str, method: str, scheme: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SHORT, scheme=scheme, weight_decay=0.01)
    whole_model = fresh(method, backbone)
    whole = train(whole_model, SPLIT, config, seed=1)
    model = fresh(method, backbone)
    file, n_batches = tmp_path / "run.safetensors", -(-len(SPLIT.train) // config.sessions)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut_after(2 * n_batches + 1, patch)
        train(model, SPLIT, config, seed=1, checkpoint=file)
    assert [f.name for f in tmp_path.iterdir()] == [file.name]
    model = fresh(method, backbone, seed=99)  # whatever it starts from, the file decides
    trainer = Trainer(model, SPLIT, config, seed=1)
    trainer.load(file)
    assert trainer.epoch == 2
    resumed = train(model, SPLIT, config, seed=1, checkpoint=file)
    assert resumed.history == whole.history
    assert resumed.metrics == whole.metrics
    assert resumed.best_epoch == whole.best_epoch
    for name, value in whole_model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
import small_data
from duetlib import training
from duetlib.methods import build
from duetlib.training import TrainConfig, train

class Bar:
    done = 0
    def __enter__(self): return self
    def __exit__(self, *error): pass
    def update(self):
        Bar.done += 1
        if Bar.done == 11: os.kill(os.getpid(), signal.SIGKILL)

training.progress = lambda *_: Bar()
torch.set_num_threads(1)
split = small_data.split()
torch.manual_seed(0)
model = build("sasrec", "duet", split.n_items)
config = TrainConfig(lr=0.01, batch_size=128, max_epochs=4, patience=4)
train(model, split, config, seed=1, checkpoint=Path(sys.argv[1]))
"""


def test_a_run_killed_with_sigkill_resumes_to_the_last_digit(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(file)], env=where, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    config = replace(SHORT, batch_size=128)
    trainer = Trainer(fresh("duet", "sasrec"), SPLIT, config, seed=1)
    trainer.load(file)
    assert 0 < trainer.epoch < config.max_epochs
    whole = train(fresh("duet", "sasrec"), SPLIT, config, seed=1)
    resumed = train(fresh("duet", "sasrec"), SPLIT, config, seed=1, checkpoint=file)
    assert (resumed.history, resumed.metrics) == (whole.history, whole.metrics)


def test_a_finished_checkpoint_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.safetensors"
    first = train(fresh(), SPLIT, SHORT, checkpoint=file)
    monkeypatch.setattr(Trainer, "run_epoch", lambda *_: pytest.fail("trained again"))
    assert train(fresh(), SPLIT, SHORT, checkpoint=file) == first


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    config = replace(SHORT, max_epochs=1)
    train(fresh(), SPLIT, config, seed=0, checkpoint=file)
    other_data = copy.copy(SPLIT)
    object.__setattr__(other_data, "sha256", "1" * 64)
    for split, settings, seed in (
        (SPLIT, replace(config, lr=0.02), 0),
        (SPLIT, replace(config, scheme="alternating"), 0),
        (SPLIT, config, 1),
        (other_data, config, 0),
    ):
        with pytest.raises(ValueError, match=r"run\.safetensors is of another run.*delete it"):
            train(fresh(), split, settings, seed=seed, checkpoint=file)
    for model in (fresh("base"), fresh("duet", "din")):
        with pytest.raises(ValueError, match=r"run\.safetensors is of another (run|model)"):
            train(model, SPLIT, config, checkpoint=file)
    free = tmp_path / "free.safetensors"  # the same tensors, but here all of them train
    train(fresh("duet_no_swa"), SPLIT, config, checkpoint=free)
    with pytest.raises(ValueError, match="another run"):
        train(fresh("duet_as_released"), SPLIT, config, checkpoint=free)


def test_without_validation_sessions_nothing_is_trained() -> None:
    unvalidated = copy.copy(SPLIT)
    object.__setattr__(unvalidated, "valid", SPLIT.valid[:0])
    with pytest.raises(ValueError, match="no validation sessions"):
        train(fresh(), unvalidated, SHORT)


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "deep" / "x.safetensors"
    write_safetensors(file, {"a": torch.ones(2, 3).T}, {"run": "1"})
    old = file.read_bytes()

    def full_disk(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(cache, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_safetensors(file, {"a": torch.zeros(1)}, {})
    assert file.read_bytes() == old


# ---- when to stop


def test_patience_keeps_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([0.6, 0.7, 0.7, 0.65, 0.69, 0.99])  # the second 0.7 is no rise
    states = []
    model = fresh()

    def told_auc(scores: Tensor) -> float:
        states.append(copy.deepcopy(model.state_dict()))
        return next(told)

    monkeypatch.setattr(training.metrics, "auc", told_auc)
    result = train(model, SPLIT, replace(SHORT, max_epochs=20, patience=3))
    assert [e["valid_auc"] for e in result.history] == [0.6, 0.7, 0.7, 0.65, 0.69]
    assert [e["epoch"] for e in result.history] == [1, 2, 3, 4, 5]
    assert result.best_epoch == 2
    for name, value in model.state_dict().items():
        assert torch.equal(value, states[1][name])
    assert not torch.equal(model.items.weight, states[4]["items.weight"])


def test_epochs_end_at_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    rising = iter([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
    monkeypatch.setattr(training.metrics, "auc", lambda scores: next(rising))
    result = train(fresh(), SPLIT, replace(SHORT, max_epochs=5, patience=1))
    assert (len(result.history), result.best_epoch) == (5, 5)


def test_a_loss_that_is_not_a_number_is_named() -> None:
    model = fresh()
    with torch.no_grad():
        model.backbone.gru.weight_hh_l0[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"epoch 1 is not a number; lower lr \(0\.01\)"):
        train(model, SPLIT, SHORT)


# ---- trained once, used often


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was really trained while a test ran, with a cache of its own."""
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))
    names: list[str] = []

    def spy(*args: Any, what: str, **settings: Any) -> Result:
        names.append(what)
        return train(*args, what=what, **settings)

    monkeypatch.setattr(training, "train", spy)
    return names


def test_trained_trains_once(trainings: list[str], tmp_path: Path) -> None:
    config = replace(SHORT, max_epochs=1)
    model, result = trained("gru4rec", "duet", SPLIT, config, n_generators=2)
    again, kept = trained("gru4rec", "duet", SPLIT, config, n_generators=2)
    assert trainings == ["gru4rec duet"]
    assert kept == result
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert evaluate(again, SPLIT).metrics == result.metrics
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_trained_goes_on_where_it_was_killed(
    trainings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = trained("gru4rec", "duet", SPLIT, SHORT, seed=1)
    monkeypatch.setenv("DUET_CACHE", str(tmp_path / "killed"))
    n_batches = -(-len(SPLIT.train) // SHORT.sessions)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut_after(2 * n_batches + 1, patch)
        trained("gru4rec", "duet", SPLIT, SHORT, seed=1)
    assert [path.suffix for path in (tmp_path / "killed").iterdir()] == [".unfinished"]

    run_epoch, epochs = Trainer.run_epoch, []
    monkeypatch.setattr(
        Trainer, "run_epoch", lambda run, bar=None: (epochs.append(run.epoch), run_epoch(run))
    )
    model, resumed = trained("gru4rec", "duet", SPLIT, SHORT, seed=1)
    assert epochs == [2, 3]  # counted from 0: two had been done
    assert len(trainings) == 3
    assert (resumed.history, resumed.metrics) == (whole.history, whole.metrics)
    assert resumed.users == whole.users
    assert [path.suffix for path in (tmp_path / "killed").iterdir()] == [".safetensors"]
    again, kept = trained("gru4rec", "duet", SPLIT, SHORT, seed=1)
    assert (len(trainings), kept) == (3, resumed)
    assert torch.equal(again.items.weight, model.items.weight)


def damage(file: Path, how: str) -> None:
    whole = file.read_bytes()
    place = {"a bit of a number": len(whole) - 50, "a bit of the header": 40}.get(how)
    if place is not None:
        whole = whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
    file.write_bytes({"cut": whole[:-7], "empty": b""}.get(how, whole))


DAMAGES = ["cut", "empty", "a bit of a number", "a bit of the header"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_model_is_named_and_made_anew(
    trainings: list[str], tmp_path: Path, how: str
) -> None:
    config = replace(SHORT, max_epochs=1)
    model, result = trained("din", "base", SPLIT, config)
    (file,) = tmp_path.iterdir()
    damage(file, how)
    with pytest.warns(UserWarning, match=rf"{file.name} is damaged.*made anew"):
        again, result_again = trained("din", "base", SPLIT, config)
    assert len(trainings) == 2 and result_again.metrics == result.metrics
    assert torch.equal(again.items.weight, model.items.weight)
    kept = read_safetensors(file, "cpu")[1]["items.weight"]
    assert torch.equal(kept, model.items.weight)


def test_a_checkpoint_that_is_none_does_not_stop_training(
    trainings: list[str], tmp_path: Path
) -> None:
    config = replace(SHORT, max_epochs=1)
    _, result = trained("din", "base", SPLIT, config)
    (file,) = tmp_path.iterdir()
    file.unlink()
    (file.with_suffix(".unfinished") / "deep").mkdir(parents=True)
    with pytest.warns(UserWarning, match="unfinished"):
        _, again = trained("din", "base", SPLIT, config)
    assert again.metrics == result.metrics


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_training_starts_anew(
    trainings: list[str], tmp_path: Path, how: str
) -> None:
    config = replace(SHORT, max_epochs=1)
    _, result = trained("gru4rec", "duet", SPLIT, config)
    (file,) = tmp_path.iterdir()
    file.unlink()
    unfinished = file.with_suffix(".unfinished")
    Trainer(fresh(), SPLIT, config).save(unfinished)
    damage(unfinished, how)
    with pytest.warns(UserWarning, match=rf"{unfinished.name} is damaged.*made anew"):
        _, again = trained("gru4rec", "duet", SPLIT, config)
    assert (again.history, again.metrics) == (result.history, result.metrics)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_no_checkpoint_is_refused_and_stays(tmp_path: Path) -> None:
    file, foreign = tmp_path / "mine", tmp_path / "other.safetensors"
    file.write_text("not a checkpoint")
    save_file({"weight": torch.zeros(2)}, foreign)
    finished = tmp_path / "finished.safetensors"  # a model, as `trained` keeps it
    write_safetensors(finished, fresh().state_dict(), {"result": "{}"})
    for mine in (file, foreign, finished):
        before = mine.read_bytes()
        with pytest.raises(ValueError, match=f"{mine} is (damaged, or not one of ours|of another)"):
            train(fresh(), SPLIT, SHORT, checkpoint=mine)
        assert mine.read_bytes() == before


@pytest.mark.parametrize(
    "how", ["a file in its place", "no folder can be there", "a name too long to be seen", "full"]
)
def test_a_cache_that_cannot_be_written_does_not_stop_training(
    trainings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    config = replace(SHORT, max_epochs=2)
    expected = trained("din", "base", SPLIT, config)[1]
    cache = Path("/proc/no/such") if how == "no folder can be there" else tmp_path / "other"
    cache = cache.with_name("x" * 300) if "long" in how else cache
    monkeypatch.setenv("DUET_CACHE", str(cache))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    if how == "a file in its place":
        cache.write_bytes(b"")
    elif how == "full":  # no file may grow beyond 1 kB: safetensors meets what a full disk gives
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    told = rf"{cache} cannot be written to \(.*Set DUET_CACHE"
    try:
        with pytest.warns(UserWarning, match=told) as said:
            result = trained("din", "base", SPLIT, config)[1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (result.history, result.metrics) == (expected.history, expected.metrics)
    told_twice = {str(each.message) for each in said if "written" in str(each.message)}
    assert len(told_twice) == 2  # of checkpoint and model: Python shows each once
    if how == "full":
        assert list(cache.iterdir()) == []  # nothing half-written


def with_length(length: int) -> Split:
    return leave_last_out(small_data.interactions(), length=length)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"method": "duet_no_swa"},
        {"backbone": "din"},
        {"config": replace(SHORT, max_epochs=1, lr=0.02)},
        {"tau": 2.0},
        {"temperature": "as_printed"},
        {"split": small_data.split(seed=1)},
        {"split": with_length(5)},
    ],
    ids=lambda change: " ".join(change),
)
def test_trained_trains_again_when_a_setting_changes(
    change: dict[str, Any], trainings: list[str]
) -> None:
    settings = {"backbone": "gru4rec", "method": "duet", "split": SPLIT}
    settings["config"] = replace(SHORT, max_epochs=1)
    trained(**settings)
    trained(**{**settings, **change})
    assert len(trainings) == 2


def test_every_session_of_a_split_is_in_its_hash() -> None:
    hashes = {split_hash(SPLIT), split_hash(with_length(5)), split_hash(small_data.split(seed=1))}
    for part in ("train", "valid", "test"):
        other = small_data.split()
        getattr(other, part).target[3] += 1
        hashes.add(split_hash(other))
    assert len(hashes) == 6
    assert split_hash(small_data.split()) == split_hash(SPLIT)


def test_trained_trains_again_when_the_code_changes(
    trainings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SHORT, max_epochs=1)
    trained("gru4rec", "base", SPLIT, config)
    monkeypatch.setattr(training, "code_hash", lambda: "other")
    trained("gru4rec", "base", SPLIT, config)
    assert len(trainings) == 2


def test_the_code_that_decides_is_hashed_and_its_comments_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in Path(cache.__file__).parent.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = training.code_hash()
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
    for name in training.CODE.split():
        file = tmp_path / f"{name}.py"
        was = file.read_bytes()
        file.write_bytes(was.replace(b'"""', b'"""Other words. ', 1) + b"# another\n")
        assert training.code_hash() == before
        file.write_bytes(was + b"another = 1\n")
        assert training.code_hash() != before, f"{name}.py decides what training yields"
        file.write_bytes(was)


# ---- what a model is worth


class Clairvoyant(nn.Module):
    """Scores 1 for the item that will be chosen next, which it has been told, and 0 for others."""

    def __init__(self, split: Split):
        super().__init__()
        self.answer = {
            tuple(h): t
            for h, t in zip(split.test.history.tolist(), split.test.target.tolist(), strict=True)
        }

    def layers(self, history: Tensor) -> list[Layer]:
        return []

    def rank(self, history: Tensor, candidates: Tensor, layers: list[Layer]) -> Tensor:
        target = torch.tensor([self.answer[tuple(h)] for h in history.tolist()])
        return (candidates == target.unsqueeze(1)).float()


def test_a_model_that_knows_the_answer_is_seen_at_once() -> None:
    found = evaluate(Clairvoyant(SPLIT), SPLIT).metrics  # type: ignore[arg-type]
    assert found == dict.fromkeys(FULL_METRICS, 1.0)


@pytest.mark.parametrize("method", ["base", "duet"])
def test_where_there_is_nothing_to_learn_nothing_is_learnt(method: str) -> None:
    """A leak of the target into the history, or of its place, would show here.

    A user's AUC over 100 negatives is uniform in [0, 1] if the scores say nothing, with variance
    (1 + 1/100) / 12: the mean over users has a standard error of 0.29 / sqrt(users).
    """
    split = small_data.split(n_users=400)
    result = train(fresh(method), split, TrainConfig(max_epochs=3, patience=3))
    error = math.sqrt(1.01 / 12 / 400)
    assert abs(result.metrics["user_auc"] - 0.5) < 4 * error
    assert abs(result.metrics["auc"] - 0.5) < 4 * error


def test_score_is_the_model_in_batches() -> None:
    model, ids = fresh(), sampled_candidates(SPLIT, "test")
    in_sevens = score(model, SPLIT.test, ids, batch=7)
    one_by_one = [
        model(SPLIT.test.history[i : i + 1], ids[i : i + 1])[0] for i in range(len(SPLIT.test))
    ]
    torch.testing.assert_close(in_sevens, torch.stack(one_by_one), rtol=0, atol=1e-6)


def test_scores_and_ranks_with_other_layers() -> None:
    """Each session's device gets the layers that it is told, not those of its own clicks."""
    model, ids = fresh().eval(), sampled_candidates(SPLIT, "test")
    with torch.no_grad():
        model.items.weight.mul_(10)  # as wide as those of a trained model: layers make a difference
    asked: list[int] = []

    def of_the_next(part: Sessions) -> Sequence[Layer]:
        asked.append(len(part))
        return model.layers(SPLIT.test.history[part.user % 30])  # users' sessions are in order

    scores = score(model, SPLIT.test, ids, of_the_next, batch=7)
    assert asked == [7, 7, 7, 7, 2]
    ranks = full_ranks(model, SPLIT.test, SPLIT.seen, of_the_next)
    found = evaluate(model, SPLIT, of_the_next)
    every = torch.arange(SPLIT.n_items + 1).unsqueeze(0)
    for row in range(30):
        other = (row + 1) % 30
        layers = model.layers(SPLIT.test.history[other : other + 1])
        history = SPLIT.test.history[row : row + 1]
        with torch.no_grad():
            one = model.rank(history, ids[row : row + 1], layers)[0]
            of_all = model.rank(history, every, layers)[0]
        torch.testing.assert_close(scores[row], one, rtol=1e-5, atol=1e-5)
        unseen = of_all[~SPLIT.seen[row + 1]]
        assert ranks[row].item() == 1 + (unseen > of_all[SPLIT.test.target[row]]).sum().item()
    assert found.metrics["auc"] == pytest.approx(training.metrics.auc(scores), abs=1e-12)
    own = evaluate(model, SPLIT).users
    for name, rank in (("ndcg10", training.metrics.rank_of_target(scores)), ("ndcg10_full", ranks)):
        assert found.users[name] == training.metrics.ndcg(rank).tolist()
        assert found.users[name] != own[name]


def test_each_users_part_in_the_metrics_is_a_loop() -> None:
    """Three sessions a user, in no order: users' means come in order of their ids."""
    generator = torch.Generator().manual_seed(0)
    user = torch.tensor([3, 1, 2] * 3)[torch.randperm(9, generator=generator)]
    scores = torch.randn(9, 21, generator=generator).round(decimals=1)
    full = torch.randint(1, 30, (9,), generator=generator).float()
    found = evaluation(scores, full, user)
    assert set(found.metrics) == FULL_METRICS
    assert set(found.users) == FULL_METRICS | {"auc_of_wrong"}
    wrong = scores[:, 1:]
    by_user: dict[str, list[float]] = {name: [] for name in found.users}
    for u in (1, 2, 3):
        rows: dict[str, list[float]] = {name: [] for name in found.users}
        for r in (user == u).nonzero()[:, 0].tolist():
            right = scores[r, 0]

            def half(above: Tensor, tied: Tensor) -> float:
                return (above.double() + tied.double() / 2).mean().item()

            rows["auc"].append(half(wrong < right, wrong == right))
            every, mine = scores[:, :1], wrong[r]  # [9, 1] and [20]
            rows["auc_of_wrong"].append(half(every > mine, every == mine))
            rows["user_auc"].append(half(wrong[r] < right, wrong[r] == right))
            rank = 1 + 20 * half(wrong[r] > right, wrong[r] == right)
            for suffix, place in (("", rank), ("_full", full[r].item())):
                rows[f"hr10{suffix}"].append(float(place <= 10))
                rows[f"ndcg10{suffix}"].append((place <= 10) / math.log2(1 + place))
        for name, values in rows.items():
            by_user[name].append(sum(values) / 3)
    for name, values in by_user.items():
        assert found.users[name] == pytest.approx(values, abs=1e-6), name
        metric = "auc" if name == "auc_of_wrong" else name
        assert found.metrics[metric] == pytest.approx(sum(values) / 3, abs=1e-6), name


def test_users_come_from_every_way_to_evaluate() -> None:
    result = train(fresh(), SPLIT, replace(SHORT, max_epochs=1))
    assert {name: len(values) for name, values in result.users.items()} == dict.fromkeys(
        FULL_METRICS | {"auc_of_wrong"}, 30
    )
    for name, values in result.users.items():
        metric = result.metrics[name.removesuffix("_of_wrong")]
        assert sum(values) / 30 == pytest.approx(metric, abs=1e-9), name


def test_test_and_validation_negatives_are_fixed_and_differ() -> None:
    test, valid = sampled_candidates(SPLIT, "test"), sampled_candidates(SPLIT, "valid")
    assert test.shape == valid.shape == (30, 101)
    assert torch.equal(test, sampled_candidates(SPLIT, "test"))
    assert not torch.equal(test[:, 1:], valid[:, 1:])
    assert torch.equal(valid[:, 0], SPLIT.valid.target)
    assert not SPLIT.seen[SPLIT.test.user].gather(1, test[:, 1:]).any()


def test_full_ranks_equal_a_loop_over_all_items() -> None:
    model = fresh().eval()
    ranks = full_ranks(model, SPLIT.test, SPLIT.seen)
    with torch.no_grad():
        for row in (0, 7, 29):
            history = SPLIT.test.history[row : row + 1]
            user, target = int(SPLIT.test.user[row]), int(SPLIT.test.target[row])
            logit = {
                item: model(history, torch.tensor([[item]])).item()
                for item in range(1, SPLIT.n_items + 1)
                if item == target or not SPLIT.seen[user][item]
            }
            right = logit.pop(target)
            above = sum(wrong > right for wrong in logit.values())
            tied = sum(wrong == right for wrong in logit.values())
            assert ranks[row].item() == pytest.approx(1 + above + tied / 2)


def test_all_metrics_of_a_model_by_hand() -> None:
    model = fresh()
    found = evaluate(model, SPLIT).metrics
    ranks = {
        "": [1 + sum(w > s[0] for w in s[1:]) for s in scores_of(model)],
        "_full": full_ranks(model, SPLIT.test, SPLIT.seen).tolist(),
    }
    for suffix, rank in ranks.items():
        hits = [1.0 if r <= 10 else 0.0 for r in rank]
        gain = [1 / math.log2(1 + r) if r <= 10 else 0.0 for r in rank]
        assert found[f"hr10{suffix}"] == pytest.approx(sum(hits) / 30)
        assert found[f"ndcg10{suffix}"] == pytest.approx(sum(gain) / 30)
    user_auc = [sum(w < s[0] for w in s[1:]) / 100 for s in scores_of(model)]
    assert found["user_auc"] == pytest.approx(sum(user_auc) / 30)
    pairs = [(s[0], w) for s in scores_of(model) for t in scores_of(model) for w in t[1:]]
    assert found["auc"] == pytest.approx(sum(w < r for r, w in pairs) / len(pairs), abs=1e-5)


def scores_of(model: UniversalMetaNetwork) -> list[list[float]]:
    return score(model, SPLIT.test, sampled_candidates(SPLIT, "test")).tolist()
