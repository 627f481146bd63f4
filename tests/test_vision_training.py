"""Training on videos: what is counted, how it is cut, and that a killed run goes on as it was."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_videos
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score
from torch import Tensor
from torch.nn import functional as F

from data_prep.videos import CLASSES
from duetlib.vision import training as vision_training
from duetlib.vision.augmentation import shaken
from duetlib.vision.network import build
from duetlib.vision.rates import rates
from duetlib.vision.training import (
    Clips,
    VideoSplit,
    VisionConfig,
    VisionResult,
    VisionTrainer,
    cut,
    evaluate,
    evaluation,
    predict,
    train,
    trained,
)

SMALL = "mobilenet_v3_small"
TINY = VisionConfig(epochs=2, videos=10)


def few(n_people: int = 15) -> VideoSplit:
    return cut(small_videos.videos(n_people, size=64), 0)


# ---- cutting


def test_nobody_is_in_two_parts_and_every_fold_is_tested_once() -> None:
    videos = small_videos.videos(25)
    tested = []
    for fold in range(5):
        split = cut(videos, fold)
        parts = [set(part.person.tolist()) for part in (split.train, split.valid, split.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 25
        assert len(split.train) > len(split.valid) > 0
        tested += sorted(parts[2])
        assert split.test.frames.shape[1:] == (6, 1, 32, 32) and split.test.label.shape[1] == 6
    assert sorted(tested) == list(range(1, 26))
    assert torch.equal(cut(videos, 7).test.frames, cut(videos, 2).test.frames)  # seed 7: fold 2


def test_frames_keep_their_labels_and_people() -> None:
    videos = small_videos.videos()
    split = cut(videos, 1)
    pixels = {frames.tobytes(): v for v, frames in enumerate(videos.frames)}
    for part in (split.train, split.valid, split.test):
        for frames, label, person in zip(part.frames, part.label, part.person, strict=True):
            v = pixels[frames[:, 0].numpy().tobytes()]
            assert label.tolist() == videos.emotion[v].tolist()
            assert person == videos.subject[v]


# ---- counting


def scored(seed: int = 0) -> tuple[Tensor, Clips]:
    """Random logits of 40 videos of 9 people."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(1, 8, (40, 1), generator=generator) * torch.tensor([[0, 0, 0, 1, 1, 1]])
    person = torch.randint(3, 12, (40,), generator=generator)
    logits = torch.randn(40, 6, 8, generator=generator) + 2 * F.one_hot(label, 8)
    return logits, Clips(torch.zeros(40, 6, 1, 1, 1), label, person)


def test_metrics_are_those_of_sklearn() -> None:
    logits, clips = scored()
    found = evaluation(logits, clips)
    said, right = logits.argmax(-1).flatten().numpy(), clips.label.flatten().numpy()
    m = found.metrics
    assert m["accuracy"] == pytest.approx((said == right).mean())
    assert m["majority"] == 0.5
    assert m["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(right, said))
    assert m["apex_accuracy"] == pytest.approx((said == right)[right > 0].mean())
    recall = recall_score(right, said, average=None, labels=range(8))
    assert [m[f"recall_{name}"] for name in CLASSES] == pytest.approx(recall.tolist())
    assert m["loss"] == pytest.approx(
        float(F.cross_entropy(logits.view(-1, 8), clips.label.view(-1)))
    )
    assert found.confusion.tolist() == confusion_matrix(right, said, labels=range(8)).tolist()


def test_peoples_counts_add_up_to_the_metrics() -> None:
    logits, clips = scored()
    found = evaluation(logits, clips)
    assert found.person.tolist() == sorted(set(clips.person.tolist()))
    for u, person in enumerate(found.person):  # one by one
        of = clips.person == int(person)
        hit = (logits.argmax(-1) == clips.label)[of]
        for k in range(8):
            is_k = clips.label[of] == k
            assert found.frames[u, k] == is_k.sum() and found.right[u, k] == hit[is_k].sum()
    again = rates(found.right.sum(0), found.frames.sum(0))
    assert {k: float(v) for k, v in again.items()} == {
        k: v for k, v in found.metrics.items() if k != "loss"
    }
    weights = np.random.default_rng(0).multinomial(len(found.person), [1 / 9] * 9, 20)
    drawn = rates(weights @ found.right, weights @ found.frames)  # as a bootstrap wants it
    assert drawn["balanced_accuracy"].shape == (20,)
    one = rates(weights[3] @ found.right, weights[3] @ found.frames)
    assert drawn["balanced_accuracy"][3] == one["balanced_accuracy"]


def test_who_always_says_neutral_is_the_majority_and_no_more() -> None:
    _, clips = scored()
    neutral = F.one_hot(torch.zeros(40, 6, dtype=torch.long), 8).float()
    m = evaluation(neutral, clips).metrics
    assert m["accuracy"] == m["majority"] == 0.5
    assert m["apex_accuracy"] == 0 and m["balanced_accuracy"] == 1 / 8


def test_a_class_that_is_not_there_has_no_recall() -> None:
    right, frames = np.zeros(8), np.zeros(8)
    right[:2], frames[:2] = (3, 1), (3, 2)
    found = rates(right, frames)
    assert found["balanced_accuracy"] == 0.75  # of two classes
    assert np.isnan(found["recall_surprise"])


# ---- other looks


def test_all_frames_of_a_video_are_shaken_alike() -> None:
    torch.manual_seed(0)
    frames = torch.from_numpy(small_videos.videos(3).frames).unsqueeze(2)
    same = frames[:, :1].expand(-1, 6, -1, -1, -1)
    looks = shaken(same)
    assert looks.shape == same.shape and looks.dtype == torch.float32
    assert torch.equal(looks, looks[:, :1].expand_as(looks))
    assert 0 <= looks.min() and looks.max() <= 255
    twice = shaken(same)
    assert all(not torch.equal(a, b) for a, b in zip(looks, twice, strict=True))


def test_a_look_without_change_is_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """And in a mirror in half of the cases; nothing else happens to it."""
    for name in ("SHIFT", "ROLL", "ZOOM", "LIGHT"):
        monkeypatch.setattr(f"duetlib.vision.augmentation.{name}", 0.0)
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (200, 1, 1, 8, 8), dtype=torch.uint8)
    looks, mirrored = shaken(frames), 0
    for before, after in zip(frames.float(), looks, strict=True):
        flipped = torch.allclose(after, before.flip(-1), atol=1e-2)
        assert flipped or torch.allclose(after, before, atol=1e-2)
        mirrored += flipped
    assert 70 < mirrored < 130


def test_a_look_is_one_map_and_one_light_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mirrored, turned, zoomed, moved: where each pixel comes from, in full; then the light."""
    frames = torch.rand(40, 1, 1, 16, 16) * 200 + 20
    drawn: list[Tensor] = []
    rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *a, **k: drawn.append(rand(*a, **k)) or drawn[-1])
    torch.manual_seed(0)
    looks = shaken(frames)
    roll, zoom, coin, x, y, contrast, light = drawn
    even = lambda part, most: most * (2 * part - 1)  # noqa: E731
    place = (torch.arange(16) * 2 + 1) / 16 - 1  # centres of the pixels, from -1 to 1
    down, across = torch.meshgrid(place, place, indexing="ij")
    for b in range(40):
        angle, scale = float(even(roll[b], 0.1)), 1 + float(even(zoom[b], 0.06))
        u = across * (-1 if coin[b] < 0.5 else 1)  # the mirror first, then one rotation
        from_x = scale * (math.cos(angle) * u - math.sin(angle) * down) + even(x[b], 0.1)
        from_y = scale * (math.sin(angle) * u + math.cos(angle) * down) + even(y[b], 0.1)
        where = torch.stack([from_x, from_y], -1)[None]
        right = F.grid_sample(frames[b], where, padding_mode="border", align_corners=False)
        right = (right - 127.5) * (1 + even(contrast[b], 0.08)) + 127.5 * (1 + even(light[b], 0.08))
        torch.testing.assert_close(looks[b], right.clamp(0, 255), atol=0.05, rtol=0)


# ---- training


def test_a_step_is_cross_entropy_over_all_frames() -> None:
    torch.manual_seed(0)
    split = few()
    model = build(SMALL, "base")
    trainer = VisionTrainer(model, split, replace(TINY, shake=False))
    clips = split.train[:4]
    torch.manual_seed(1)  # dropout
    right = [F.cross_entropy(z, y) for z, y in zip(model(clips.frames), clips.label, strict=True)]
    torch.manual_seed(1)
    assert trainer.step(clips).item() == pytest.approx(torch.stack(right).mean().item(), rel=1e-4)


def test_the_epoch_is_chosen_by_validation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test people's numbers are written down; they can't move the choice."""
    split, said = few(), iter([0.3, 0.9, 0.5, 0.1, 0.5, 0.99])  # valid, test, valid, test, ...

    def scripted(model: object, clips: Clips) -> vision_training.VideoEvaluation:
        right = evaluation(F.one_hot(clips.label, 8).float(), clips)
        named = {name: next(said) if name == "balanced_accuracy" else 0.0 for name in right.metrics}
        return right._replace(metrics=named)

    monkeypatch.setattr(vision_training, "evaluate", scripted)
    result = train(build(SMALL, "base"), split, replace(TINY, epochs=3))
    assert [row["valid_balanced_accuracy"] for row in result.history] == [0.3, 0.5, 0.5]
    assert [row["test_balanced_accuracy"] for row in result.history] == [0.9, 0.1, 0.99]
    assert result.best_epoch == 2  # the first of the best


def test_the_best_epochs_weights_are_kept() -> None:
    split, model = few(), build(SMALL, "base")
    result = train(model, split, replace(TINY, epochs=3))
    best = result.history[result.best_epoch - 1]
    again = evaluate(model, split.valid).metrics
    assert best["valid_balanced_accuracy"] == pytest.approx(again["balanced_accuracy"], abs=1e-6)
    assert best["valid_loss"] == pytest.approx(again["loss"], abs=1e-5)


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    split, file = few(), tmp_path / "run.safetensors"
    config = replace(TINY, epochs=3)

    def fresh(seed: int = 0) -> VisionTrainer:
        torch.manual_seed(5)
        return VisionTrainer(build(SMALL, "duet_no_swa", rank=2, latent=4), split, config, seed)

    whole, first = fresh(), fresh()
    for _ in range(3):
        whole.run_epoch()
    first.run_epoch()
    first.save(file)
    torch.rand(7)  # whatever else happened
    second = fresh()
    second.load(file)
    assert second.epoch == 1
    for _ in range(2):
        second.run_epoch()
    assert second.result.history == whole.result.history
    for now, right in (
        (second.best, whole.best),
        (second.model.state_dict(), whole.model.state_dict()),
    ):
        assert now.keys() == right.keys()
        assert all(torch.equal(now[name], right[name]) for name in right)
    with pytest.raises(ValueError, match="is of another run"):
        fresh(seed=1).load(file)


def test_another_model_of_the_same_shapes_is_another_run(tmp_path: Path) -> None:
    split, file = few(), tmp_path / "run.safetensors"

    def trainer(method: str, **ppg: Any) -> VisionTrainer:
        return VisionTrainer(build(SMALL, method, **ppg), split, TINY, seed=0)

    small: dict[str, Any] = {"rank": 2, "latent": 4}
    pairs = [
        (trainer("base"), trainer("frame_difference")),
        (trainer("duet", **small), trainer("duet", tau=0.01, **small)),
        (trainer("duet", **small), trainer("duet", temperature="as_printed", **small)),
    ]
    for one, other in pairs:
        one.save(file)
        one.load(file)
        with pytest.raises(ValueError, match="is of another run"):
            other.load(file)


def test_a_trained_model_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))
    split = few()
    model, result = trained(SMALL, "base", split, TINY, seed=3)
    assert not list(tmp_path.glob("*.unfinished"))
    monkeypatch.setattr(vision_training, "train", None)  # not called a second time
    again, read = trained(SMALL, "base", split, TINY, seed=3)
    assert read == result and json.dumps(read.history)
    assert torch.equal(predict(model, split.test), predict(again, split.test))
    for other in ({"seed": 4}, {"config": replace(TINY, lr=0.5)}):
        with pytest.raises(TypeError):  # another run is another file
            trained(SMALL, "base", split, **{"config": TINY, "seed": 3, **other})  # type: ignore


def test_what_is_damaged_or_cannot_be_kept_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings: list[str] = []

    def untrained(*_: object, what: str, **__: object) -> VisionResult:
        trainings.append(what)
        return VisionResult(best_epoch=len(trainings))

    split = few()
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))
    monkeypatch.setattr(vision_training, "train", untrained)
    trained(SMALL, "base", split, TINY)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=rf"{file.name} is damaged.*made anew"):
        assert trained(SMALL, "base", split, TINY)[1].best_epoch == 2
    assert trained(SMALL, "base", split, TINY)[1].best_epoch == 2  # whole again
    file.rename(file.with_suffix(".unfinished")).write_bytes(b"")
    with pytest.warns(UserWarning, match="unfinished is damaged.*made anew"):
        assert trained(SMALL, "base", split, TINY)[1].best_epoch == 3
    assert list(tmp_path.iterdir()) == [file]
    monkeypatch.setenv("DUET_CACHE", str(file))  # a file in the folder's place
    with pytest.warns(UserWarning, match=rf"{file} cannot be written to .*Set DUET_CACHE"):
        assert trained(SMALL, "base", split, TINY)[1].best_epoch == 4


def test_a_checkpoint_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    file, model, split = tmp_path / "run", build(SMALL, "base"), few()
    monkeypatch.setattr(vision_training, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(vision_training, "write_safetensors", full)
    with pytest.warns(UserWarning, match="cannot be written to .no space left"):
        assert train(model, split, replace(TINY, epochs=1), checkpoint=file).best_epoch == 1
    file.write_bytes(b"cut")
    with pytest.raises(ValueError, match=f"{file} is damaged"):
        train(model, split, TINY, checkpoint=file)


@pytest.mark.parametrize("method", ["base", "duet_no_swa"])
def test_a_model_can_learn_some_videos_by_heart(method: str) -> None:
    """Who names each class as often as it comes has a loss of 1.66."""
    torch.manual_seed(0)
    split = few()
    trainer = VisionTrainer(build(SMALL, method), split, replace(TINY, shake=False))
    losses = [trainer.step(split.train[:8]).item() for _ in range(25)]
    assert losses[0] > 1.9 and losses[-1] < 0.8


def test_other_layers_are_used() -> None:
    split, model = few(), build(SMALL, "duet_no_swa", rank=2, latent=4).eval()
    with torch.no_grad():
        own = model.layers(split.test.frames[:, 0])
    mine = predict(model, split.test)
    same = predict(model, split.test, lambda rows: model.layers(split.test.frames[rows, 0]))
    torch.testing.assert_close(mine, same)
    mean = [layer._replace(A=layer.A[:1] * 2) for layer in own]  # type: ignore[union-attr]
    other = predict(model, split.test, lambda rows: mean)
    assert (other - mine).abs().max() > 1e-3 * mine.abs().max()


def test_a_loss_that_is_no_number_is_told() -> None:
    trainer = VisionTrainer(build(SMALL, "base"), few(), replace(TINY, lr=1e30))
    with pytest.raises(FloatingPointError, match=r"loss of epoch \d is not a number; lower lr"):
        for _ in range(3):
            trainer.run_epoch()
