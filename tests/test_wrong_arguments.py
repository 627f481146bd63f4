"""Arguments that cannot be are refused at once, and the message names argument, value and rule."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import bench
import bench_cloud
import bench_recbole
import measure_link
import numpy as np
import pandas as pd
import pytest
import small_data
import torch
from duetbook import notebook

from data_prep import __main__ as data_prep_command
from data_prep import faces, videos
from data_prep.ckplus import load_ckplus
from duetlib import controls, finetuning, latency, metrics, training
from duetlib.backbones import DIN, GRU4Rec, SASRec
from duetlib.beyond import compression, drift, inversion, refresh
from duetlib.beyond.refresh import Late
from duetlib.beyond.spectrum import spectrum
from duetlib.dynamic import Layer, apply_layers
from duetlib.evidence import (
    experiments,
    paper,
    statistics,
    tables,
    vision_experiments,
    vision_tables,
)
from duetlib.hypernetwork import HyperNetwork, TwoLayerGenerator
from duetlib.methods import build
from duetlib.ppg import PPG, ppg_loss
from duetlib.sessions import Sessions, Split
from duetlib.swa import StableWeightAdapter, adapter_weights
from duetlib.training import TrainConfig, Trainer
from duetlib.umn import UniversalMetaNetwork
from duetlib.vision import network as vision
from duetlib.vision import training as vision_training
from duetlib.vision.conv import conv_1x1
from duetlib.vision.costs import older
from duetlib.vision.mobilenet import mobilenet_v3
from duetlib.vision.training import Clips, VideoSplit, VisionConfig, VisionTrainer

NAN = float("nan")
SPLIT = small_data.split()
HISTORY, TARGET = SPLIT.test.history, SPLIT.test.target
SHAPES = ((4, 4), (4, 4))
ONE_ROW = torch.zeros(1, 3)
NOBODY = replace(SPLIT, valid=SPLIT.test[:0])
Call = Callable[[], Any]


def model(method: str = "base", backbone: str = "sasrec", n: int = SPLIT.n_items) -> Any:
    torch.manual_seed(0)
    return build(backbone, method, n).eval()


BASE, DUET = model(), model("duet_no_swa")
ROWS = finetuning.own_rows(SPLIT, 3, 4, 0, until="valid")
GENERATOR = TwoLayerGenerator(5, 4, 3, 2, 1.0)
KNOWN = inversion.Pairs(torch.randn(8, 4), torch.ones(8, 3, dtype=torch.int64), torch.arange(8))
RECORDS = pd.DataFrame({"backbone": [], "method": [], "users": [], "split": [], "scheme": []})


def learn(**other: Any) -> Any:
    return inversion.learn(KNOWN, KNOWN, **{"n_items": 5, "k": 2, "epochs": 1, **other})


def without(part: str) -> Split:
    return replace(SPLIT, **{part: getattr(SPLIT, part)[:0]})


def uneven() -> Any:
    user = torch.tensor([1, 2, 2, 2])  # twice as many rows as users: they can be laid out in pairs
    return training.evaluation(torch.randn(4, 3), torch.ones(4), user)


def clips(n: int = 3) -> Clips:
    frames = torch.zeros(n, 6, 1, 32, 32, dtype=torch.uint8)
    return Clips(frames, torch.zeros(n, 6, dtype=torch.int64), torch.arange(n))


def videos_trainer(**parts: Any) -> VisionTrainer:
    split = VideoSplit(**{"train": clips(), "valid": clips(), "test": clips(), **parts}, **NAMES)
    return VisionTrainer(vision.build("mobilenet_v3_small", "base"), split, VisionConfig())


NAMES = {"label": "", "sha256": "", "fold": 0}
PEOPLE = faces.draw_people(2)
TAKES = faces.shoot(PEOPLE, {"anger": 1})

CONFIGS: list[tuple[Call, str]] = [
    (lambda: TrainConfig(scheme="other"), "scheme is 'other': .*'joint', 'alternating'"),
    (lambda: TrainConfig(batch_size=0), "batch_size is 0: .*1 or more"),
    (lambda: TrainConfig(batch_size=64.0), "batch_size is 64.0: .*whole"),
    (lambda: TrainConfig(negatives=-1), "negatives is -1: .*0 or more"),
    (lambda: TrainConfig(lr=0), "lr is 0: .*above 0"),
    (lambda: TrainConfig(lr=NAN), "lr is nan"),
    (lambda: TrainConfig(lr="1e-3"), "lr is '1e-3'"),
    (lambda: TrainConfig(gamma=-1), "gamma is -1"),
    (lambda: TrainConfig(weight_decay=-1e-4), "weight_decay is -0.0001"),
    (lambda: TrainConfig(max_epochs=0), "max_epochs is 0"),
    (lambda: TrainConfig(patience=True), "patience is True"),
    (lambda: VisionConfig(lr=-1), "lr is -1"),
    (lambda: VisionConfig(videos=0), "videos is 0"),
    (lambda: VisionConfig(epochs=1.5), "epochs is 1.5"),
    (lambda: VisionConfig(weight_decay=NAN), "weight_decay is nan"),
    (lambda: VisionConfig(shake="no"), "shake is 'no': .*False, True"),
]

MODELS: list[tuple[Call, str]] = [
    (lambda: build("sasrec", "duet", 0), "n_items is 0"),
    (lambda: build("sasrec", "duet", 9, n_generator=3), "'n_generator': .*'n_generators'"),
    (lambda: build("sasrec", "duet", 9, lr=0.1), "setting of the PPG is 'lr': .*'tau'"),
    (lambda: build("sasrec", "duet", 9, dim=16), "setting of the PPG is 'dim'"),
    (lambda: build("sasrec", "duet", 9, tau=0), "tau is 0: .*above 0"),
    (lambda: build("sasrec", "duet_no_swa", 9, temperature="hot"), "temperature is 'hot'"),
    (lambda: UniversalMetaNetwork(SASRec(), 2.5, BASE.source), "n_items is 2.5"),
    (lambda: SASRec(n_blocks=0), "n_blocks is 0"),
    (lambda: SASRec(length=-1), "length is -1"),
    (lambda: GRU4Rec(dim=0), "dim is 0"),
    (lambda: DIN(hidden=0), "hidden is 0"),
    (lambda: PPG(4, SHAPES, latent=0), "latent is 0"),
    (lambda: PPG(4, SHAPES, rank=-1), "rank is -1"),
    (lambda: PPG(4, SHAPES, n_generators=2.0), "n_generators is 2.0"),
    (lambda: PPG(4, SHAPES, neck="lstm"), "neck is 'lstm': .*'gru', 'mean', 'state'"),
    (lambda: PPG(4, SHAPES, form="deep"), "form is 'deep': .*'two_layer', 'dense'"),
    (lambda: TwoLayerGenerator(0, 4, 3, 2, 1.0), "rows is 0"),
    (lambda: TwoLayerGenerator(4, 4, 3, 2, NAN), "std is nan"),
    (lambda: TwoLayerGenerator(4, 4, 3, 2, 1.0, from_code=2), "from_code is 2: .*0 to 1"),
    (lambda: HyperNetwork([(4, 4)], (2, 2), latent=0), "latent is 0"),
    (lambda: StableWeightAdapter([GENERATOR], tau=NAN), "tau is nan"),
    (lambda: StableWeightAdapter([GENERATOR], temperature="hot"), "temperature is 'hot'"),
    (lambda: StableWeightAdapter([GENERATOR, TwoLayerGenerator(5, 4, 3, 1, 1.0)]), "2 sizes"),
    (lambda: adapter_weights(torch.ones(2), NAN), "tau is nan"),
    (lambda: controls.BiasOnly(4, SHAPES, rank=0), "rank is 0"),
    (lambda: controls.NeckAsInput(4, SHAPES, latent=0), "latent is 0"),
    (lambda: Late(DUET.source, -1), "oldest is -1"),
    (lambda: Late(build("sasrec", "duet", 9, neck="state").source, 3), "no neck"),
    (lambda: vision.build("mobilenet_v3_small", "duet", n_generator=1), "'n_generator': .*'tau'"),
    (lambda: vision.build("mobilenet_v3_small", "base", 0), "n_classes is 0"),
    (lambda: vision.FramePPG(4, SHAPES, rank=0), "rank is 0"),
    (lambda: vision.FramePPG(4, SHAPES, tau=-1), "tau is -1"),
    (lambda: mobilenet_v3("mobilenet_v3_small", momentum=2), "momentum is 2: .*0 to 1"),
]

SHAPES_OF_TENSORS: list[tuple[Call, str]] = [
    (lambda: BASE.layers(HISTORY[0]), r"history is a tensor \[10\] of torch.int64: .*two"),
    (lambda: BASE(HISTORY.float(), HISTORY), "history is a tensor .*torch.float32"),
    (lambda: BASE(HISTORY, TARGET), r"candidates is a tensor \[30\]"),
    (lambda: BASE(HISTORY[:1], HISTORY), "history is of 1 sessions, candidates are of 30"),
    (lambda: BASE.rank(HISTORY[:2], HISTORY[:1], BASE.layers(HISTORY)), "of 2 .* of 1"),
    (lambda: BASE(HISTORY, HISTORY + 1000), "id of candidates is .*1 to 140, or 0 for padding"),
    (lambda: BASE(HISTORY - 1, HISTORY), "an id of history is -1"),
    (lambda: DUET.rank(HISTORY[:2], HISTORY[:2], DUET.layers(HISTORY[:3])), "of 3 dev.*of 2"),
    (
        lambda: apply_layers(torch.ones(3, 1, 4), [Layer(torch.ones(4, 4), torch.ones(1, 4))]),
        "of 1",
    ),
    (
        lambda: ppg_loss(torch.ones(3, 2), torch.ones(3, 2), t=torch.ones(3, 1)),
        r"\[3, 1\]: .*\[3\]",
    ),
    (lambda: metrics.auc(torch.ones(4)), r"scores are of shape \[4\]: .*\[N, C\]"),
    (lambda: metrics.rank_of_target(torch.ones(4, 1)), r"scores are of shape \[4, 1\]"),
    (lambda: metrics.user_auc(torch.ones(2, 2, 2)), r"scores are of shape \[2, 2, 2\]"),
    (lambda: metrics.auc_shares(torch.ones(0, 2)), r"scores are of shape \[0, 2\]"),
    (lambda: metrics.hit_rate(torch.ones(2), k=0), "k is 0"),
    (lambda: metrics.ndcg(torch.ones(2), k=2.5), "k is 2.5"),
    (lambda: latency.payload_bytes(SHAPES, 0), "bytes_per_number is 0"),
    (
        lambda: DUET_OF_FRAMES().see(torch.ones(2, 1, 32, 32)),
        r"frames are of shape \[2, 1, 32, 32\]",
    ),
    (lambda: vision_training.rates(np.ones(7), np.ones(7)), r"\(7,\): .*8"),
    (lambda: vision_training.rates(np.ones((2, 8)), np.ones(8)), r"\(2, 8\).*\(8,\)"),
    (
        lambda: vision_training.evaluation(torch.ones(3, 6, 7), clips()),
        r"\[3, 6, 7\]: .*\[3, 6, 8\]",
    ),
    (lambda: conv_1x1(torch.ones(1, 1, 2, 4, 4), torch.ones(1, 2, 2, 1, 1), 0), "stride is 0"),
]


def DUET_OF_FRAMES() -> Any:
    return vision.build("mobilenet_v3_small", "base")


TRAINING: list[tuple[Call, str]] = [
    (
        lambda: training.trained("din", "base", small_data.interactions()),
        "split is 'Interactions': .*leave_last_out",
    ),
    (
        lambda: training.trained("din", "base", SPLIT, {"lr": 1e-3}),
        "config is 'dict': .*TrainConfig",
    ),
    (lambda: build("din", "duet", 9, frozen="no"), "frozen is 'no'"),
    (lambda: Trainer(BASE, without("train"), TrainConfig()), "no training sessions"),
    (lambda: Trainer(BASE, without("test"), TrainConfig()), "no test sessions"),
    (lambda: Trainer(BASE, SPLIT, TrainConfig(negatives=0)), "negatives is 0: .*1 or more"),
    (lambda: Trainer(model(n=9), SPLIT, TrainConfig()), "has 9 items, the split has 140"),
    (lambda: training.train(BASE, SPLIT, seed=-1), "seed is -1"),
    (lambda: training.trained("sasrec", "base", SPLIT, seed=0.5), "seed is 0.5: .*whole"),
    (lambda: training.trained("sasrec", "base", SPLIT, seed=2**64), "seed is 18446744073709551616"),
    (lambda: training.trained("sasrec", "duet", SPLIT, lr=0.1), "setting of the PPG is 'lr'"),
    (lambda: training.sampled_candidates(SPLIT, "train"), "part is 'train': .*'valid', 'test'"),
    (lambda: training.score(BASE, SPLIT.test[:0], HISTORY[:0]), "one session at least"),
    (lambda: training.score(BASE, SPLIT.test[:9], HISTORY), "for 30 sessions, and 9 sessions"),
    (lambda: training.score(BASE, SPLIT.test, HISTORY, batch=0), "batch is 0"),
    (uneven, "users have from 1 to 3 sessions"),
    (lambda: controls.shuffled(DUET, SPLIT, seed=-3), "seed is -3"),
    (lambda: controls.shuffled(DUET, alone()), "one user alone"),
    (lambda: controls.constant(DUET, NOBODY), "no validation sessions"),
    (lambda: controls.constant(BASE, SPLIT), "does not make its layers from histories"),
    (lambda: finetuning.own_rows(SPLIT, 3, 0, 0, until="valid"), "negatives is 0"),
    (lambda: finetuning.own_rows(SPLIT, 0, 4, 0, until="valid"), "last is 0"),
    (lambda: finetuning.own_rows(SPLIT, 3, 4, 0, until="train"), "until is 'train': .*'test'"),
    (lambda: finetuning.finetune_dynamic(BASE, ROWS, 0.0, [1]), "lr is 0.0"),
    (lambda: finetuning.finetune_dynamic(BASE, ROWS, 0.1, [3, 1]), r"steps is \[3, 1\]: .*increas"),
    (lambda: finetuning.finetune_dynamic(BASE, ROWS, 0.1, [0]), "of steps is 0"),
    (lambda: finetuning.finetune_dynamic(DUET, ROWS, 0.1, [1]), "starts from a base"),
    (lambda: finetuning.Copies(BASE, 0, 0.1), "n_users is 0"),
    (lambda: finetuning.Copies(BASE, 2, -0.1), "lr is -0.1"),
    (lambda: videos_trainer(valid=clips(0)), "no videos in its part valid"),
    (lambda: videos_trainer(train=clips(0)), "no videos in its part train"),
    (lambda: vision_training.predict(DUET_OF_FRAMES(), clips(0)), "no videos to classify"),
    (lambda: vision_training.cut(None, 0.5), "fold is 0.5"),
    (lambda: vision_training.trained("m", "base", None, seed="1"), "seed is '1'"),
    (lambda: vision_experiments.load("face", 48), "dataset is 'face': .*'faces', 'ckplus'"),
    (lambda: notebook.start(seed=0.5), "seed is 0.5"),
    (lambda: notebook.median_ms(print, torch.device("cpu"), 0), "repeat is 0"),
    (lambda: experiments.grid("ml-10m"), "dataset is 'ml-10m': .*'ml-100k'"),
]


def alone() -> Split:
    one = Sessions(HISTORY[:1], TARGET[:1], torch.ones(1, dtype=torch.int64))
    return replace(SPLIT, test=one, n_users=1)


U, ITEM = np.array([1, 1, 2, 2]), np.array([1, 2, 1, 2])
GENRES = np.eye(3, dtype=bool)
LINK = latency.Link(5, 50)
MEASURES: list[tuple[Call, str]] = [
    (lambda: drift.in_full_window(U, 0), "width is 0: .*1 or more"),
    (lambda: drift.shuffled_drift(U, ITEM, GENRES, 1, n_shuffles=0), "n_shuffles is 0"),
    (lambda: drift.shuffled_drift(U, ITEM, GENRES, 1, seed=-1), "seed is -1"),
    (lambda: drift.bootstrap_interval(np.ones(3), level=95), "level is 95: .*above 0 to 1"),
    (lambda: drift.bootstrap_interval(np.ones(3), n_resamples=0), "n_resamples is 0"),
    (lambda: drift.bootstrap_interval(np.ones((3, 2))), r"values are of shape \(3, 2\)"),
    (lambda: refresh.every(0, 3, 2), "n is 0"),
    (lambda: refresh.at_random(20, 3, 2), "share is 20: .*0 to 1"),
    (lambda: refresh.at_random(0.5, 0, 2), "n_clicks is 0"),
    (lambda: refresh.when_moved(torch.ones(2, 2, 2), -1), "far is -1"),
    (lambda: refresh.by_click(SPLIT.test, torch.ones(60, 2)), "X has 60 rows.* 30 sessions"),
    (lambda: compression.rounded_bytes(SHAPES, 16), "bits is 16: .*2 to 8"),
    (lambda: compression.pack_counts(torch.zeros(4), 1), "bits is 1"),
    (lambda: compression.unpack_counts(b"", 0, 0), "bits is 0"),
    (lambda: compression.axes_of(torch.randn(4, 3), 2).first(3), "k is 3: .*1 to 2"),
    (lambda: spectrum(torch.randn(4, 3)).holding(99), "held is 99: .*0 to 1"),
    (lambda: spectrum(torch.randn(4, 3)).keep(torch.ones(1, 3), -1), "k is -1"),
    (lambda: inversion.pairs(DUET, SPLIT.test, 0), "clicks is 0"),
    (lambda: inversion.split_users(torch.arange(3), 0), "there are 3 users"),
    (lambda: inversion.recall(torch.ones(4), torch.ones(1, 2), guesses=0), "guesses is 0"),
    (lambda: learn(k=9), "k is 9: .*1 to 3"),
    (lambda: learn(epochs=0), "epochs is 0"),
    (lambda: latency.Link(0, 50), "bandwidth is 0: .*above 0"),
    (lambda: latency.Link(5, -1), "round_trip is -1"),
    (lambda: latency.transfer_ms(-1, 5), "n_bytes is -1"),
    (lambda: latency.transfer_ms(1, -5), "bandwidth is -5"),
    (lambda: latency.slow_start_rounds(-3000), "n_bytes is -3000"),
    (lambda: latency.as_counted(1, "ms", 0), "bandwidth is 0"),
    (lambda: latency.delay(-120, 1, LINK), "upload is -120"),
    (lambda: latency.delay(1, 1, LINK, cloud={"generator": -1}), "generator is -1"),
    (lambda: latency.size_that_matters(LINK, share=-0.5), "share is -0.5"),
    (lambda: latency.queue_ms(0.5, -1), "service_ms is -1"),
    (lambda: latency.simulate_queue(0.5, 1, 0), "n is 0"),
    (lambda: latency.readings("ml-100k", "layer"), "part is 'layer': .*'layers'"),
    (lambda: latency.readings("ml-20m", "layers"), "row is 'ml-20m': .*'ml-1m'"),
    (lambda: latency.delay_from_table_3("ml-20m"), "row is 'ml-20m'"),
    (lambda: latency.printed_ms("0.25KB"), "unit of 0.25KB is 'KB': .*'ms', 's'"),
    (lambda: paper.table_4_spreads("resnet"), "model is 'resnet'"),
    (lambda: paper.params_as_counted("ml-100k", "gru"), "backbone is 'gru': .*'gru4rec'"),
    (lambda: tables.standard(RECORDS, "last-1"), "split is 'last-1': .*'last-10'"),
    (lambda: tables.differences(RECORDS, than="bsae"), "method is 'bsae': .*'base'"),
    (lambda: tables.differences(RECORDS, metric="hr"), "metric is 'hr': .*'hr10'"),
    (lambda: tables.kept(RECORDS, ["stael"]), "method is 'stael': .*'stale'"),
    (lambda: tables.difference(RECORDS, RECORDS, comparisons=0), "comparisons is 0"),
    (lambda: statistics.resampled_means(np.ones(5)), r"values are of shape \(5,\): .*\[S, U\]"),
    (lambda: statistics.resampled_means(np.ones((1, 5)), draws=0), "draws is 0"),
    (lambda: tables.table_1(RECORDS, "ml-20m"), "dataset is 'ml-20m': .*'ml-100k'"),
    (lambda: statistics.interval_over_seeds(np.ones(3), overlap=-1), "overlap is -1"),
    (lambda: vision_tables.detail(RECORDS, "loss", every=0), "every is 0"),
    (lambda: older("resnet"), "name is 'resnet': .*'mobilenet_v3_small'"),
]

FACES: list[tuple[Call, str]] = [
    (lambda: faces.draw_people(2.5), "n is 2.5"),
    (lambda: faces.draw_people(2, seed=-1), "seed is -1"),
    (lambda: faces.draw_people(2, strength=float("inf")), "strength is inf"),
    (lambda: faces.load_faces(48.0), "size is 48.0"),
    (lambda: faces.load_faces(48, channels=True), "channels is True: .*1, 3"),
    (lambda: faces.shoot(PEOPLE, {"anger": -1}), "counts of anger is -1"),
    (lambda: faces.shoot(PEOPLE, {}), "no video"),
    (lambda: faces.shoot(PEOPLE, {"anger": 2}, unlabelled=-1), "unlabelled is -1"),
    (lambda: faces.shoot(PEOPLE, {"anger": 2}, n_labelled=3), "n_labelled is 3: .*1 to 2"),
    (lambda: faces.shoot(PEOPLE, {"anger": 2}, pose=-1), "pose is -1"),
    (lambda: faces.shoot(PEOPLE, {"anger": 2}, noise=np.array([1, NAN])), "noise is nan"),
    (lambda: faces.shoot(PEOPLE, {"anger": 2}, shift={"zoom": NAN}), "shift of zoom is nan"),
    (lambda: faces.film(TAKES, np.ones(1)), r"times are of shape \(1,\): .*\[1, T\]"),
    (lambda: faces.film(TAKES, np.full((1, 1), 2.0)), "times is 2.0: .*0 to 1"),
    (lambda: faces.write_ckplus("/dev/null/faces", colour=2), "colour is 2: .*0 to 1"),
    (lambda: faces.write_ckplus("/dev/null/faces", labels="Mood"), "labels is 'Mood'"),
    (lambda: load_ckplus("/dev/null", size=64.0), "size is 64.0"),
    (lambda: videos.split(None, 1.5), "fold is 1.5"),  # type: ignore[arg-type]
    (lambda: videos.folds(SimpleNamespace(n_subjects=9), seed=-1), "seed is -1"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(
    "call, said", CONFIGS + MODELS + SHAPES_OF_TENSORS + TRAINING + MEASURES + FACES
)
def test_what_cannot_be_is_refused_by_name(call, said, monkeypatch, tmp_path):
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=said):
        call()
    assert not list(tmp_path.iterdir())  # before anything is trained


BACKBONES = ("sasrec", "din", "din_concat", "gru4rec")


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("method", ["base", "duet_no_swa", "duet"])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_are_refused_by_name(backbone, method, kind):
    whole, halved = model(method, backbone), model(method, backbone).to(kind)
    calls: list[Callable[[Any], Any]] = [
        lambda m: m(HISTORY, HISTORY),
        lambda m: m.layers(HISTORY),
        lambda m: m.features(HISTORY, HISTORY),
        lambda m: Trainer(m, SPLIT, TrainConfig()),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"the model is in {kind}: .*torch.float32"):
            call(halved)
        with (
            torch.autocast("cpu", kind),
            pytest.raises(ValueError, match="autocast is on for cpu: it must be off"),
        ):
            call(whole)


def test_half_precision_and_autocast_are_refused_for_videos_too():
    frames, network = clips(2).frames, vision.build("mobilenet_v3_small", "duet_no_swa").eval()
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="autocast is on"):
        network(frames)
    with pytest.raises(ValueError, match="the model is in torch.bfloat16"):
        network.bfloat16()(frames)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_double_precision_trains_and_scores_as_single_does(backbone):
    single, double = model("duet", backbone), model("duet", backbone).double()
    close = dict(rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(double(HISTORY, HISTORY).float(), single(HISTORY, HISTORY), **close)
    found = training.train(double, SPLIT, TrainConfig(max_epochs=1))
    assert double(HISTORY, HISTORY).dtype == torch.float64 and 0 < found.metrics["auc"] < 1


def test_numbers_of_numpy_train_and_are_written_as_those_of_python(tmp_path, monkeypatch):
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))
    config = TrainConfig(lr=np.float32(0.5), batch_size=np.int64(64), max_epochs=np.int32(1))
    assert config == TrainConfig(lr=0.5, batch_size=64, max_epochs=1)
    for n, seed in ((np.int64(1), np.int64(3)), (1, 3)):
        training.trained("gru4rec", "duet", SPLIT, config, seed=seed, n_generators=n)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1  # the second time it was read


COMMANDS: list[tuple[Callable[[], Any], str, str]] = [
    (experiments.main, "--shard 1", "shard is '1': it must be i/n"),
    (experiments.main, "--shard 2/2", "shard is '2/2'"),
    (experiments.main, "--shard a/b", "shard is 'a/b'"),
    (experiments.main, "--device gpu", "device is 'gpu': it must be cpu, or cuda"),
    (lambda: bench.records_at("x.jsonl", ""), "--rounds 3", "unrecognized arguments: --rounds"),
    (
        lambda: bench.records_at("x.jsonl", ""),
        "/dev/null/x",
        "path is ./dev/null/x.: .* in a folder",
    ),
    (bench_recbole.main, "--rounds 0", "--rounds: it is 0, and must be 1 or more"),
    (lambda: bench_cloud.soak_seconds("-1"), "", "soak is -1.0"),
    (lambda: measure_link.main(sys.argv[1:]), "--tabel", "unrecognized arguments: --tabel"),
    (data_prep_command.main, "faces --size 4", "size is 4: it must be a whole number, 8 or more"),
    (data_prep_command.main, "faces --seed -1", "seed is -1"),
    (data_prep_command.main, "faces --strength nan", "strength is nan"),
    (data_prep_command.main, "ckplus --size 0", "size is 0"),
]


@pytest.mark.parametrize("main, line, said", COMMANDS)
def test_a_command_line_says_what_is_wrong(main, line, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["program", *line.split()])
    try:
        assert main() == 1
        seen = ""
    except (SystemExit, ValueError) as error:
        seen = str(error)
    shown = capsys.readouterr().err + seen
    assert re.search(said, shown), shown
    assert "Traceback" not in shown
