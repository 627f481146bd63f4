"""Runs on faces: the grid, the record of a run, the controls; and the records that are there."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_videos
import torch

from duetlib.evidence import experiments, records, vision_experiments
from duetlib.evidence.experiments import done_keys, hash_of
from duetlib.evidence.records import (
    VISION_STARTS_FROM,
    append_record,
    load_records,
    n_generators,
    provenance,
    results_dir,
    whole_records,
)
from duetlib.evidence.vision_experiments import (
    LARGE,
    SHIFTS,
    SMALL,
    VisionRun,
    control,
    costs,
    mean_layers,
    of_another_person,
    of_the_same_person,
)
from duetlib.vision.factored import built
from duetlib.vision.network import METHODS, VisionNetwork, build
from duetlib.vision.training import VideoSplit, VisionConfig, cut, evaluate, predict, trained

TINY = VisionConfig(epochs=1, videos=10)
LITTLE = (("n_generators", 2), ("rank", 2), ("latent", 4))  # of the PPG
DUET = VisionRun("faces", SMALL, "duet", 0, LITTLE, train=TINY)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUET_CACHE", str(tmp_path / "cache"))
    return tmp_path


# ---- the grid


def test_the_grid_has_every_run_once_the_most_telling_first() -> None:
    runs = experiments.grid("faces")
    assert len({run.key for run in runs}) == len({hash_of(run) for run in runs}) == len(runs)
    decayed = {(r.method, r.seed) for r in runs if r.train.weight_decay}
    assert decayed == {("base", 0), ("duet_no_swa", 0)}
    usual = [r for r in runs if not (r.ppg or r.data or r.train.weight_decay)]
    plain = {(r.backbone, r.method, r.seed, r.size) for r in usual}
    assert len(plain) == len(usual)
    four = ("base", "hypernetwork", "duet_no_swa", "duet")
    wanted = {(SMALL, method, s, 64) for method in (*four, *VISION_STARTS_FROM) for s in range(5)}
    others = set(METHODS) - set(four)
    wanted |= {(SMALL, method, s, 64) for method in others for s in range(3)}
    three = ("base", "duet_no_swa", "duet")
    wanted |= {(LARGE, method, s, 48) for method in three for s in range(3)}
    assert plain == wanted
    generators = {(r.method, r.seed, r.ppg[0]) for r in runs if r.ppg}
    assert generators == {("duet", s, ("n_generators", n)) for s in range(3) for n in (2, 3)}
    strengths = {(r.method, r.seed, r.data[0][1]) for r in runs if r.data}
    assert strengths == {(m, s, x) for m in three for s in range(3) for x in (0.0, 2.0)}
    first = {(r.method, r.seed) for r in runs[:21]}
    assert first == {(m, s) for m in (*three, *VISION_STARTS_FROM) for s in range(3)}


def test_a_control_comes_right_after_its_training() -> None:
    runs = experiments.grid("faces")
    for n, run in enumerate(runs):
        assert (run.trains == run) == (run.method in METHODS)
        if run.trains != run:
            assert run.trains in runs[max(0, n - len(VISION_STARTS_FROM)) : n]


def test_ckplus_is_the_same_at_224_pixels() -> None:
    faces = [run for run in experiments.grid("faces") if not run.data]
    assert [replace(run, dataset="faces", size=0) for run in experiments.grid("ckplus")] == [
        replace(run, size=0) for run in faces
    ]
    assert {run.size for run in experiments.grid("ckplus")} == {224}


def test_data_are_loaded_as_the_run_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("data_prep.faces.load_faces", lambda *a, **k: asked.append((a, k)))
    experiments.load_data(replace(DUET, data=(("strength", 2.0),), size=48))
    assert asked == [((48,), {"strength": 2.0})]


# ---- a record


@pytest.fixture
def record_of(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes the record of a run on patches, which a light makes brighter."""
    videos = small_videos.videos(20, size=64)

    def lit(size: int, data: Any, shift: float) -> Any:
        frames = (videos.frames + np.uint8(10 * shift)).clip(0, 255).astype(np.uint8)
        return replace(videos, frames=frames)

    monkeypatch.setattr(vision_experiments, "lit", lit)

    def record(method: str, **settings: Any) -> dict[str, Any]:
        run = replace(DUET, method=method, ppg=LITTLE if "duet" in method else (), **settings)
        return json.loads(json.dumps(experiments.run(run, "cpu", videos)))

    return record


def test_a_record_holds_what_tables_need(record_of: Any, cache: Path) -> None:
    record = record_of("base", seed=6)
    assert record["dataset"] == "patches"  # the data's own label, not the name it was asked by
    assert (record["fold"], record["epochs"], record["best_epoch"]) == (1, 1, 1)
    assert record["metrics"]["majority"] == 0.5
    (row,) = record["curve"]
    assert row["epoch"] == 1 and {"loss", "valid_balanced_accuracy", "test_accuracy"} <= row.keys()
    people = record["people"]
    assert len(people["person"]) == len(people["right"]) == len(people["frames"]) == 4
    right, frames = (torch.tensor(people[name]).sum(0) for name in ("right", "frames"))
    assert (right.sum() / frames.sum()).item() == pytest.approx(record["metrics"]["accuracy"], 1e-5)
    confusion = torch.tensor(record["confusion"])
    assert confusion.sum(1).tolist() == frames.tolist()
    assert confusion.diagonal().tolist() == right.tolist()
    assert provenance("cpu").keys() <= record.keys()
    first, *later = record["sessions"]
    assert [row["light_x"] for row in (first, *later)] == list(SHIFTS)
    assert first["accuracy"] == record["metrics"]["accuracy"], "no shift: the test itself"
    append_record(cache / "faces.jsonl", record)
    assert done_keys(cache / "faces.jsonl") == {replace(DUET, method="base", ppg=(), seed=6).key}


def test_a_session_is_the_same_people_under_another_light() -> None:
    plain, shifted = (vision_experiments.lit(16, (("strength", 2.0),), x) for x in (0.0, 1.6))
    assert (plain.subject == shifted.subject).all() and (plain.emotion == shifted.emotion).all()
    gain = shifted.frames.astype(float) - plain.frames
    assert gain[..., 8:].mean() > 10 > -10 > gain[..., :8].mean(), "lighter right, darker left"
    assert "strength 2" in plain.label


def test_records_are_read_as_a_table(
    record_of: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = record_of("base")
    for method in ("base", "duet_no_swa", "duet", "shuffled"):
        changed = {**record, "method": method}
        append_record(cache / "faces.jsonl", changed)
    monkeypatch.setattr(records, "results_dir", lambda: cache)
    table = load_records("faces")
    assert table["n_p"].tolist() == [0, 1, 5, 5]
    assert (table["balanced_accuracy"] == record["metrics"]["balanced_accuracy"]).all()
    assert n_generators({**record, "config": {**record["config"], "ppg": [["n_generators", 3]]}})


def test_the_controls_take_a_trained_duet(record_of: Any) -> None:
    own = record_of("duet")
    split = cut(small_videos.videos(20, size=64), 0)
    model, _ = trained(SMALL, "duet", split, TINY, **dict(LITTLE))  # read from the cache
    assert own["metrics"]["loss"] == pytest.approx(evaluate(model, split.test).metrics["loss"])
    losses = [own["metrics"]["loss"]]
    for method in VISION_STARTS_FROM:
        run = replace(DUET, method=method)
        record = experiments.run(run, "cpu", small_videos.videos(20, size=64))
        assert record["train_seconds"] == own["train_seconds"] and "own_seconds" in record
        found = evaluate(model, split.test, control(method, model, split, 0)).metrics
        assert record["metrics"]["loss"] == pytest.approx(found["loss"], abs=1e-6)
        losses.append(found["loss"])
    with pytest.raises(ValueError, match="method 'stale' is not one of shuffled, same_person"):
        control("stale", model, split, 0)


def test_the_runner_makes_each_record_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [replace(DUET, method="base", ppg=()), DUET, replace(DUET, method="shuffled")]
    monkeypatch.setattr(experiments, "results_dir", lambda: cache)
    monkeypatch.setattr(experiments, "grid", lambda dataset: runs)
    monkeypatch.setattr(vision_experiments, "load", lambda *_: small_videos.videos(size=64))
    monkeypatch.setattr(sys, "argv", ["experiments", "--dataset", "faces", "--device", "cpu"])
    for _ in range(2):
        experiments.main()
    records = whole_records(cache / "faces.jsonl")
    assert [record["method"] for record in records] == ["base", "duet", "shuffled"]
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 3 and "seed 0 five-fold: accuracy 0." in told[0]


# ---- controls


def test_nobody_gets_their_own_first_frame() -> None:
    person = torch.tensor([7, 7, 3, 3, 3, 9, 4, 9])
    for seed in range(20):
        row = of_another_person(person, seed)
        assert (person[row] != person).all()
        theirs = {(int(a), int(b)) for a, b in zip(person, person[row], strict=True)}
        assert len(theirs) == len({b for _, b in theirs}) == 4  # each person one other, one to one
    assert not torch.equal(of_another_person(person, 0), of_another_person(person, 1))
    with pytest.raises(ValueError, match="all videos are of one person"):
        of_another_person(torch.tensor([5, 5]))


def test_another_video_of_the_same_person_where_there_is_one() -> None:
    person = torch.tensor([7, 7, 3, 3, 3, 9])
    drawn = torch.stack([of_the_same_person(person, seed) for seed in range(40)])
    assert (person[drawn] == person).all()
    assert (drawn[:, 5] == 5).all(), "who has one video alone keeps it"
    for video, others in enumerate(([1], [0], [3, 4], [2, 4], [2, 3])):
        assert sorted(drawn[:, video].unique().tolist()) == others


@torch.no_grad()
def see_some(model: VisionNetwork, split: VideoSplit) -> None:
    """Give a fresh model running means: without them all frames look alike."""
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 1.0
    model.train()(split.train.frames[:, :3])
    model.eval()


def test_a_control_sees_the_frames_that_it_says() -> None:
    """Layers from the last frame are those of a film that is run backwards."""
    torch.manual_seed(0)
    split = cut(small_videos.videos(size=64), 0)
    model = build(SMALL, "duet", **dict(LITTLE))
    see_some(model, split)
    rows = torch.arange(len(split.test))
    with torch.no_grad():
        found = built(control("last_frame", model, split, 0)(rows))
        backwards = built(model.layers(split.test.frames.flip(1)[:, 0]))
        row = of_the_same_person(split.test.person, 3)
        theirs = built(control("same_person", model, split, 3)(rows))
        own = built(model.layers(split.test.frames[:, 0]))
    assert (row != rows).any()
    for last, right, other, first in zip(found, backwards, theirs, own, strict=True):
        near = 1e-5 * float(first.abs().max())
        torch.testing.assert_close(last, right, atol=near, rtol=0)
        torch.testing.assert_close(other, first[row], atol=near, rtol=0)
        assert (last - first).abs().max() > 100 * near and (other - first).abs().max() > 100 * near


def test_the_mean_of_layers_is_the_mean_of_what_is_built() -> None:
    torch.manual_seed(0)
    split = cut(small_videos.videos(size=64), 0)
    model = build(SMALL, "duet", n_generators=2, rank=3, latent=4)
    see_some(model, split)
    with torch.no_grad():
        every = built(model.layers(split.valid.frames[:, 0]))
        mean = mean_layers(model, split.valid)
        for found, layers in zip(built(mean), every, strict=True):
            assert (layers[0] - layers.mean(0)).abs().max() > 1e-3 * layers.abs().max()
            near = 1e-5 * float(layers.abs().max())
            torch.testing.assert_close(found[0], layers.mean(0), atol=near, rtol=0)
    logits = predict(model, split.test, lambda rows: mean)
    assert logits.shape == (len(split.test), 6, 8)


# ---- costs


def test_costs_are_counted_where_they_fall() -> None:
    split = cut(small_videos.videos(size=64), 0)
    found = {name: costs(build(SMALL, name).eval(), split.test, name) for name in METHODS}
    base = found["base"]
    assert base["params"] == base["device_params"]
    assert base["cloud_flops"] == base["payload_bytes"] == 0
    for method in ("duet", "duet_no_swa"):  # as the paper says: on the device nothing changes
        assert found[method]["device_params"] == base["device_params"]
        assert found[method]["flops"] == base["flops"]
        assert found[method]["payload_bytes"] == 4 * 802_816
    whole = found["first_frame_as_input"]
    assert whole["device_params"] == whole["params"] > 5 * base["params"]
    assert whole["flops"] > base["flops"] and whole["cloud_flops"] == 0
    large = costs(build(LARGE, "base").eval(), split.test, "base")
    assert large["flops"] > base["flops"]


# ---- the records that are there


def test_a_base_that_is_no_better_than_the_majority_is_not_a_base() -> None:
    path = results_dir() / "faces.jsonl"
    bases = [record for record in whole_records(path) if record["method"] == "base"]
    if not bases:
        pytest.skip(
            "no records of faces yet: python -m duetlib.evidence.experiments --dataset faces"
        )
    for record in bases:
        metrics = record["metrics"]  # always naming the commonest class: 1/8, for eight classes
        assert metrics["balanced_accuracy"] > 2 / 8, (record["backbone"], record["seed"])
        strong = ["strength", 2.0] in record["config"][
            "data"
        ]  # hard: at the majority, not above it
        assert metrics["accuracy"] > metrics["majority"] - 0.05 * strong
