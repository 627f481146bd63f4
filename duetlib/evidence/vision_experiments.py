"""Runs on faces: Tables 2 and 4, Figures 3, 5 and 6, and the controls; run by `experiments`.

Seed s decides both the start of a model and who is tested: fold s of five. Five seeds test every
person once. Chapter 8.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from data_prep.arguments import one_of
from data_prep.videos import CLASSES, Videos
from duetlib.evidence.records import VISION_STARTS_FROM, BaseRun, provenance
from duetlib.latency import n_generated
from duetlib.metrics import count_flops, count_parameters
from duetlib.peak_memory import keep_freed_memory
from duetlib.vision.factored import Factored, built
from duetlib.vision.network import Dynamic, VisionNetwork
from duetlib.vision.training import (
    Clips,
    VideoLayersOf,
    VideoSplit,
    VisionConfig,
    code_hash,
    cut,
    evaluate,
    trained,
)

SMALL, LARGE = "mobilenet_v3_small", "mobilenet_v3_large"
# The light of Figure 4's sessions: what stands further to the right by each is brighter by so much
# a half height. Videos that are trained on have up to 0.22 to either side.
SHIFTS = (0.0, 0.4, 0.8, 1.2, 1.6)

DECAYED = VisionConfig(weight_decay=5e-4)  # Table 5's, with which DUET learns far more slowly

PROTOCOL = (
    "first and last three frames of each video, the first three neutral; five folds of people, "
    "three to train on, the next after the test's for validation; the epoch chosen on the "
    "validation people's balanced accuracy; no pretrained weights"
)


@dataclass(frozen=True)
class VisionRun(BaseRun):
    """One run on videos.

    Attributes:
        dataset: `faces` or `ckplus`. size: S, pixels. data: settings of the drawn faces beside the
            default ones, as `(name, value)` pairs.
    """

    starts_from = VISION_STARTS_FROM

    size: int = 64
    data: tuple[tuple[str, Any], ...] = ()
    split: str = "five-fold"
    train: VisionConfig = field(default_factory=VisionConfig)

    @property
    def source(self) -> tuple[Any, ...]:
        """The data, as `load` takes it: two runs with the same source are on the same."""
        return self.dataset, self.size, self.data


def load(dataset: str, size: int, data: tuple[tuple[str, Any], ...] = ()) -> Videos:
    """The videos that a run is on.

    Args:
        dataset, size, data: as in `VisionRun`. CK+ is looked for where `DUET_CKPLUS` says.

    Raises:
        ValueError: for another data set.
    """
    one_of(("faces", "ckplus"), dataset=dataset)
    if dataset == "ckplus":
        from data_prep.ckplus import load_ckplus

        return load_ckplus(size=size)
    from data_prep.faces import load_faces

    return load_faces(size, **dict(data))


def run(config: VisionRun, device: str, videos: Videos) -> dict[str, Any]:
    """Train and test one model; return its record."""
    keep_freed_memory()
    split, trains = cut(videos, config.seed, device), config.trains
    model, result = trained(
        config.backbone, trains.method, split, config.train, seed=config.seed, **dict(config.ppg)
    )
    started = time.perf_counter()
    layers_of = None if config == trains else control(config.method, model, split, config.seed)
    found = evaluate(model, split.test, layers_of)
    return {
        "dataset": split.label,
        "backbone": config.backbone,
        "method": config.method,
        "seed": config.seed,
        "split": config.split,
        "fold": split.fold,
        "protocol": PROTOCOL,
        "size": config.size,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "metrics": {name: round(value, 6) for name, value in found.metrics.items()},
        "curve": result.history,
        **costs(model, split.test, trains.method),
        "train_seconds": round(result.seconds, 1),
        **({} if config == trains else {"own_seconds": round(time.perf_counter() - started, 1)}),
        **provenance(device, code_hash()),
        "config": json.loads(config.key),
        "classes": list(CLASSES),
        "people": {
            "person": found.person.tolist(),
            "right": found.right.tolist(),
            "frames": found.frames.tolist(),
        },
        "confusion": found.confusion.tolist(),
        **({} if config.dataset == "ckplus" else {"sessions": sessions(config, model, device)}),
    }


def sessions(config: VisionRun, model: VisionNetwork, device: str) -> list[dict[str, float]]:
    """Figure 4: the test people's videos again, session after session under a light further off.

    Session k is the k-th block of all these videos, ordered by the shift of their light. The model
    stays; what is generated is generated from the first frame under that light.

    Returns:
        For each of `SHIFTS` the shift and the metrics.
    """
    rows = []
    for shift in SHIFTS:
        split = cut(lit(config.size, config.data, shift), config.seed, device)
        layers_of = None
        if config != config.trains:
            layers_of = control(config.method, model, split, config.seed)
        metrics = evaluate(model, split.test, layers_of).metrics
        names = ("accuracy", "balanced_accuracy", "apex_accuracy")
        rows.append({"light_x": shift, **{name: round(metrics[name], 6) for name in names}})
    return rows


@lru_cache(maxsize=2 * len(SHIFTS))
def lit(size: int, data: tuple[tuple[str, Any], ...], shift: float) -> Videos:
    """The drawn faces of a run under a light shifted to the right."""
    return load("faces", size, (*data, ("shift", {"light_x": shift})))


def costs(model: VisionNetwork, clips: Clips, method: str) -> dict[str, int]:
    """What a model costs: in all, on the device for a frame, and in the cloud for a video.

    Returns:
        `params`: all that training changes. `device_params`: static layers, and the dynamic ones
        that the device works with. `flops`: of one frame on the device. `cloud_flops`: of
        generating one video's layers as they are sent. `payload_bytes`: of these, as fp32.
    """
    model.eval()
    frame = clips.frames[:1, :1]
    with torch.no_grad():
        shared = model.shared(model.see(frame))
        layers = built(model.source(shared))
    static, sent = model.trunk, n_generated(model.shapes, bias=False)
    whole = method == "first_frame_as_input"  # all of it runs on the device
    params = count_parameters(model)
    return {
        "params": params,
        "device_params": params
        if whole
        else count_parameters(static) + count_parameters(model.norm) + sent,
        "flops": count_flops(lambda: model.classify(model.see(frame), layers)),
        "cloud_flops": 0 if whole else count_flops(lambda: built(model.source(shared))),
        "payload_bytes": 4 * sent if method.startswith("duet") else 0,
    }


def control(method: str, model: VisionNetwork, split: VideoSplit, seed: int) -> VideoLayersOf:
    """The layers that the test videos get instead of their own.

    Args:
        method: `shuffled`: made from another test person's first frame; `same_person`: from the
            first frame of another video of the same person, where there is one; `last_frame`: from
            the video's own last frame; or `constant`: the mean of the layers of all validation
            videos, for everybody.

    Raises:
        ValueError: for another method.
    """
    test = split.test
    if method == "constant":
        mean = mean_layers(model, split.valid)
        return lambda rows: mean
    if method == "shuffled":
        seen = test.frames[of_another_person(test.person, seed), 0]
    elif method == "same_person":
        seen = test.frames[of_the_same_person(test.person, seed), 0]
    elif method == "last_frame":
        seen = test.frames[:, -1]
    else:
        raise ValueError(f"method {method!r} is not one of {', '.join(VISION_STARTS_FROM)}")
    return lambda rows: model.layers(seen[rows])


def of_another_person(person: Tensor, seed: int = 0) -> Tensor:
    """`[V]` for each video the row of somebody else's, drawn from a seed.

    People stand in one cycle, in an order drawn at random, and each gets the next one's videos:
    nobody keeps their own, and everybody's are used.

    Raises:
        ValueError: if there is one person alone.
    """
    people, of = person.unique(return_inverse=True)
    if len(people) < 2:
        raise ValueError("all videos are of one person: there is no other's first frame to take")
    generator = torch.Generator().manual_seed(seed)
    cycle = torch.randperm(len(people), generator=generator).to(of.device)
    following = torch.empty_like(cycle)
    following[cycle] = cycle.roll(1)
    draw = torch.rand(len(person), len(person), generator=generator).to(of.device)
    theirs = of.unsqueeze(0) == following[of].unsqueeze(1)  # [V, V] videos that each may get
    return draw.masked_fill(~theirs, -1).argmax(1)


def of_the_same_person(person: Tensor, seed: int = 0) -> Tensor:
    """`[V]` for each video the row of another one of the same person, drawn from a seed.

    Who has one video alone keeps it.
    """
    itself = torch.eye(len(person), dtype=torch.bool, device=person.device)
    theirs = (person.unsqueeze(0) == person.unsqueeze(1)) & ~itself  # [V, V]
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(len(person), len(person), generator=generator).to(person.device)
    # its own place is worth more than no other video, and less than any
    return draw.masked_fill(~theirs, -2).masked_fill(itself, -1).argmax(1)


@torch.no_grad()
def mean_layers(model: VisionNetwork, clips: Clips) -> list[Dynamic]:
    """The mean of the layers of all videos, the same for everybody: `[1, …]` each.

    A generated layer is affine in its first factor, so the mean of that is the mean of the layers.
    """
    model.eval()
    layers = model.layers(clips.frames[:, 0])
    return [
        layer._replace(A=layer.A.mean(0, keepdim=True)) if isinstance(layer, Factored) else layer
        for layer in layers
    ]


def grid(dataset: str = "faces") -> list[VisionRun]:
    """All runs on a data set, the most telling first.

    Small: four methods and DUET's controls with five seeds; N_p = 2 and 3, and the trained
    controls, with three; Table 5's weight decay with one; on drawn faces also people who have
    nothing personal, and people who have twice as much. Large: three methods, three seeds; drawn
    faces at 48 pixels, for which a CPU has time.
    """
    size, large_size = (224, 224) if dataset == "ckplus" else (64, 48)
    small = VisionRun(dataset, SMALL, "base", 0, size=size)
    large = replace(small, backbone=LARGE, size=large_size)
    three, two = range(3), range(3, 5)
    main, controls = ("base", "duet_no_swa", "duet"), tuple(VISION_STARTS_FROM)

    def runs(one: VisionRun, methods: Sequence[str], seeds: Sequence[int]) -> list[VisionRun]:
        return [replace(one, method=method, seed=seed) for seed in seeds for method in methods]

    first = [
        *runs(small, main + controls, three),
        *runs(small, ("frame_difference", "first_frame_as_input", "hypernetwork"), three),
        *runs(replace(small, train=DECAYED), ("base", "duet_no_swa"), range(1)),
        *(run for n in (2, 3) for run in runs(_with_n(small, n), ("duet",), three)),
        *runs(small, (*main, *controls, "hypernetwork"), two),
        *runs(large, main, three),
    ]
    strengths = (0.0, 2.0) if dataset == "faces" else ()
    personal = [replace(small, data=(("strength", strength),)) for strength in strengths]
    return first + [run for one in personal for run in runs(one, main, three)]


def _with_n(run: VisionRun, n: int) -> VisionRun:
    return replace(run, ppg=(("n_generators", n),))
