"""Training on videos: layers made from a video's first frame classify all its frames (Eq. 7).

One rule for every method: as many epochs for each, since the curves are evidence too; after each
epoch the balanced accuracy on the validation people, and the best epoch's weights are kept. The
accuracy on the test people is written down after each epoch, and chooses nothing. Chapter 8.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from data_prep.arguments import check_seed, number, one_of, plain, whole
from data_prep.places import optional
from data_prep.videos import Videos, split
from duetlib import cache
from duetlib.cache import cache_dir, kept, read_safetensors, usable, write_safetensors
from duetlib.precision import full_precision
from duetlib.training import progress
from duetlib.vision.augmentation import shaken
from duetlib.vision.network import Dynamic, VisionNetwork, build
from duetlib.vision.rates import N_CLASSES, rates

CODE = (
    "vision.training vision.rates vision.augmentation vision.network vision.mobilenet "
    "vision.factored vision.fused_swa vision.conv dynamic hypernetwork swa"
)
N_FOLDS = 5
SAVE_EVERY = 60.0  # seconds between checkpoints: one of DUET with N_p = 5 has 800 MB


@dataclass(frozen=True)
class VisionConfig:
    """How a classifier of videos is trained.

    Attributes:
        lr: of Adam, Table 5's.
        weight_decay: Table 5 has 5e-4, added to the gradient. Adam scales gradients of any size to
            the same step, and those of a generator's millions of numbers are far smaller: the decay
            takes much of it, and DUET learns far more slowly. The base is slowed a little too.
        videos: in a batch, all frames of each: 16 are 96 frames, between Table 5's 64 and 128.
        shake: whether each video looks a little different in each epoch: 200 videos are few.
        epochs: for every method. Table 5 gives none.

    Raises:
        ValueError: for a value that no training could have; it names it, and what is allowed.
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    videos: int = 16
    shake: bool = True
    epochs: int = 200

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, plain(value))
        number(0, above=True, lr=self.lr)
        number(0, weight_decay=self.weight_decay)
        whole(1, videos=self.videos, epochs=self.epochs)
        one_of((False, True), shake=self.shake)


@dataclass(frozen=True)
class Clips:
    """V videos as tensors.

    Attributes:
        frames: `[V, T, 1 or 3, S, S]` uint8. label: `[V, T]` in 0..K - 1. person: `[V]`.
    """

    frames: Tensor
    label: Tensor
    person: Tensor

    def __len__(self) -> int:
        return len(self.person)

    def __getitem__(self, rows: Tensor | slice) -> Clips:
        return Clips(self.frames[rows], self.label[rows], self.person[rows])

    def to(self, device: str) -> Clips:
        """The videos on another device."""
        return Clips(self.frames.to(device), self.label.to(device), self.person.to(device))


@dataclass(frozen=True)
class VideoSplit:
    """Training, validation and test videos; nobody is in two of them.

    Attributes:
        label, sha256: of the data. fold: which of the folds is tested.
    """

    train: Clips
    valid: Clips
    test: Clips
    label: str
    sha256: str
    fold: int


def cut(videos: Videos, fold: int, device: str = "cpu") -> VideoSplit:
    """Test on one of five folds of people, validate on the next, train on the other three.

    Args:
        fold: any number: seed s tests on fold s modulo five, so that five seeds test everybody
            once. A fold of 24 people alone would be an accident of who is in it.
    """
    whole(0, fold=fold)
    frames = torch.from_numpy(videos.frames)
    frames = frames.unsqueeze(2) if frames.dim() == 4 else frames  # grey: one channel
    every = Clips(frames, torch.from_numpy(videos.emotion), torch.from_numpy(videos.subject))
    fold %= N_FOLDS
    rows = (torch.from_numpy(part) for part in split(videos, fold, N_FOLDS))
    train, valid, test = (every[part].to(device) for part in rows)
    return VideoSplit(train, valid, test, videos.label, videos.sha256, fold)


Counts = NDArray[np.int64]


class VideoEvaluation(NamedTuple):
    """How frames were classified.

    Attributes:
        metrics: by name, see `rates`.
        person: `[U]` who. right, frames: `[U, K]` frames of each person and true class: classified
            right, and in all. All metrics follow from their sums over people.
        confusion: `[K, K]` frames by true class, then by what was said.
    """

    metrics: dict[str, float]
    person: Counts
    right: Counts
    frames: Counts
    confusion: Counts


def evaluation(logits: Tensor, clips: Clips) -> VideoEvaluation:
    """The metrics of logits `[V, T, K]` that are already there; a ValueError for other shapes."""
    if logits.shape != (*clips.label.shape, N_CLASSES):
        raise ValueError(
            f"logits are of shape {list(logits.shape)}: they must be "
            f"{[*clips.label.shape, N_CLASSES]}, of each video, frame and class"
        )
    said, label = logits.argmax(-1).cpu().numpy(), clips.label.cpu().numpy()
    person, row = np.unique(clips.person.cpu().numpy(), return_inverse=True)
    row = np.broadcast_to(row[:, None], label.shape)
    right, frames = (np.zeros((len(person), N_CLASSES), np.int64) for _ in range(2))
    confusion = np.zeros((N_CLASSES, N_CLASSES), np.int64)
    np.add.at(frames, (row, label), 1)
    np.add.at(right, (row, label), said == label)
    np.add.at(confusion, (label, said), 1)
    found = {name: float(value) for name, value in rates(right.sum(0), frames.sum(0)).items()}
    found["loss"] = float(F.cross_entropy(logits.flatten(0, 1), clips.label.flatten()))
    return VideoEvaluation(found, person, right, frames, confusion)


VideoLayersOf = Callable[[Tensor], Sequence[Dynamic]]  # rows `[B]` to the layers that they get


@torch.no_grad()
def predict(
    model: VisionNetwork, clips: Clips, layers_of: VideoLayersOf | None = None, batch: int = 16
) -> Tensor:
    """Logits `[V, T, K]` of all frames, in batches, without gradients.

    Args:
        layers_of: gives the dynamic layers of some videos; from their own first frames by default.

    Raises:
        ValueError: if there are no videos.
    """
    whole(1, batch=batch)
    if not len(clips):
        raise ValueError("there are no videos to classify")
    model.eval()
    logits = []
    for rows in torch.arange(len(clips), device=clips.label.device).split(batch):
        frames = clips.frames[rows]
        if layers_of is None:
            logits.append(model(frames))
        else:
            logits.append(model.classify(model.see(frames), layers_of(rows)))
    return torch.cat(logits)


def evaluate(
    model: VisionNetwork, clips: Clips, layers_of: VideoLayersOf | None = None
) -> VideoEvaluation:
    """All metrics of a model on some videos.

    Args:
        layers_of: as in `predict`.
    """
    return evaluation(predict(model, clips, layers_of), clips)


@dataclass
class VisionResult:
    """What a training run leaves behind.

    Attributes:
        history: for each epoch its number, mean training loss, and loss, accuracy, balanced and
            apex accuracy on the validation and on the test people.
        best_epoch: the epoch whose weights were kept, from 1. seconds: spent on training.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0


class VisionTrainer:
    """One run: model, optimiser and where it has got to; can be saved after any epoch.

    Args:
        model: changed in place. split: on the model's device. config, seed: of this run.

    Raises:
        ValueError: if a part of the split is empty, the seed is none, or the model is in half
            precision.

    An epoch draws everything from (seed, epoch) alone, so that a run resumed after an epoch goes on
    exactly as if it had never stopped.
    """

    def __init__(
        self, model: VisionNetwork, split: VideoSplit, config: VisionConfig, seed: int = 0
    ):
        check_seed(seed)
        full_precision(model.norm.weight)
        for part in ("train", "valid", "test"):
            if not len(getattr(split, part)):
                raise ValueError(f"the split has no videos in its part {part}: take more people")
        self.model, self.split, self.config, self.seed = model, split, config, plain(seed)
        self.result = VisionResult()
        self.optimizer = torch.optim.Adam(
            model.parameters(), config.lr, weight_decay=config.weight_decay, fused=True
        )
        self.best = {k: v.clone() for k, v in model.state_dict().items()}

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.result.history)

    def step(self, clips: Clips) -> Tensor:
        """Eq. 7 on a batch of videos: the mean cross-entropy over all frames; γ is 1 in Table 5."""
        frames = shaken(clips.frames) if self.config.shake else clips.frames
        loss = F.cross_entropy(self.model(frames).flatten(0, 1), clips.label.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def run_epoch(self) -> None:
        """One pass over the training videos, then validation and test."""
        started = time.perf_counter()
        torch.manual_seed(1_000_003 * self.seed + self.epoch)  # order, looks and dropout
        train = self.split.train
        order = torch.randperm(len(train), device=train.label.device)
        batches = order.tensor_split(-(-len(train) // self.config.videos))  # none is a small rest
        self.model.train()
        loss = torch.stack([self.step(train[rows]) for rows in batches]).mean().item()
        if loss != loss:
            raise FloatingPointError(
                f"the loss of epoch {self.epoch + 1} is not a number; lower lr ({self.config.lr})"
            )
        row: dict[str, float] = {"epoch": self.epoch + 1, "loss": round(loss, 6)}
        for part in ("valid", "test"):
            found = evaluate(self.model, getattr(self.split, part)).metrics
            for name in ("loss", "accuracy", "balanced_accuracy", "apex_accuracy"):
                row[f"{part}_{name}"] = round(found[name], 6)
        self._keep(row)
        self.result.seconds += time.perf_counter() - started

    def _keep(self, row: dict[str, float]) -> None:
        """Write an epoch down, and keep its weights if none before it was as good."""
        chooses = "valid_balanced_accuracy"  # half of all frames are neutral: accuracy favours them
        before = max((epoch[chooses] for epoch in self.result.history), default=-1.0)
        self.result.history.append(row)
        if row[chooses] > before:
            self.result.best_epoch = self.epoch
            self.best = {k: v.clone() for k, v in self.model.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write everything that a later `load` needs to go on from here."""
        tensors = {f"now.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in state.items()}
        write_safetensors(path, tensors, {"run": self._run(), "result": _text(self.result)})

    def load(self, path: Path) -> None:
        """Go on where a saved run stopped.

        Raises:
            Damaged: if the file is not as it was written.
            ValueError: if the file is of a run with another configuration, seed, data set or model.
        """
        metadata, tensors = read_safetensors(path, self.split.train.label.device)
        run = metadata.get("run", "none at all")
        if run != self._run():
            raise ValueError(f"{path} is of another run: {run}; delete it, or name another")
        groups: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "optimizer": {}}
        for key, value in tensors.items():
            group, _, name = key.partition(".")
            groups[group][name] = value
        self.model.load_state_dict(groups["now"])
        self.best = groups["best"]
        state: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.model.parameters())
        for key, value in groups["optimizer"].items():
            i, _, name = key.partition(".")
            like = parameters[int(i)]  # Adam goes through memory in the parameter's own order
            laid = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            state.setdefault(int(i), {})[name] = laid
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.result = VisionResult(**json.loads(metadata["result"]))

    def _run(self) -> str:
        shapes = {k: list(v.shape) for k, v in self.model.state_dict().items()}
        of_model = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:16]
        adapters = [[a.tau, a.temperature] for a in self.model.modules() if hasattr(a, "tau")]
        made = [of_model, self.model.difference, adapters]  # what shapes do not tell
        split = self.split
        return json.dumps([asdict(self.config), self.seed, split.sha256, split.fold, made])


def _text(result: VisionResult) -> str:
    return json.dumps(asdict(result))


def train(
    model: VisionNetwork,
    split: VideoSplit,
    config: VisionConfig | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    what: str = "training",
) -> VisionResult:
    """Train a model in place for all epochs, and leave it with its best epoch's weights.

    Args:
        model, split: on the same device. config: `VisionConfig()` by default.
        seed: of the order of videos, their looks and dropout (the caller seeds the model's start).
        checkpoint: a file written once a minute, from which a killed run goes on. Where it cannot
            be written, a warning says so, and training goes on.
        what: the name on the progress bar.

    Source: Chapter 8, Eq. (7).
    """
    trainer = VisionTrainer(model, split, config or VisionConfig(), seed)
    if checkpoint is not None and os.path.exists(checkpoint):  # False where nothing can be seen
        trainer.load(checkpoint)
    saved = time.perf_counter()
    with progress(trainer.config.epochs, what) as bar:
        bar.update(trainer.epoch)
        while trainer.epoch < trainer.config.epochs:
            trainer.run_epoch()
            bar.update()
            if checkpoint is not None and time.perf_counter() - saved > SAVE_EVERY:
                with optional(checkpoint, "DUET_CACHE"):
                    trainer.save(checkpoint)
                saved = time.perf_counter()
    model.load_state_dict(trainer.best)
    return trainer.result


def code_hash() -> str:
    """A hash of the code that decides what training on videos yields."""
    return cache.code_hash(CODE.split())


def trained(
    backbone: str,
    method: str,
    split: VideoSplit,
    config: VisionConfig | None = None,
    *,
    seed: int = 0,
    **ppg: Any,
) -> tuple[VisionNetwork, VisionResult]:
    """A trained model by name: trained in front of you the first time, read from disk after that.

    It is kept under a key made of the code, the data, the settings and the kind of device: a change
    in any of them trains anew, and so does a file that is damaged, with a warning. Where nothing
    can be kept, a warning says so.

    Args:
        backbone, method, ppg: as in `vision.build`. split: on the device to train on.
        config: `VisionConfig()` by default. seed: of everything.

    Raises:
        ValueError: as `vision.build` and `VisionTrainer`, before anything is trained.
    """
    check_seed(seed)
    seed, ppg = plain(seed), {name: plain(value) for name, value in ppg.items()}
    config, device = config or VisionConfig(), split.train.label.device
    settings = [backbone, method, asdict(config), seed, sorted(ppg.items()), split.sha256]
    settings += [split.fold, device.type, code_hash(), torch.__version__]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    path = cache_dir() / f"{backbone}-{method}-{key}.safetensors"
    torch.manual_seed(seed)
    model = build(backbone, method, **ppg).to(device)
    if found := kept(path, device):
        metadata, tensors = found
        model.load_state_dict(tensors)
        return model, VisionResult(**json.loads(metadata["result"]))
    unfinished, what = path.with_suffix(".unfinished"), f"{backbone} {method}"
    checkpoint = usable(unfinished, device)
    result = train(model, split, config, seed=seed, checkpoint=checkpoint, what=what)
    with optional(path, "DUET_CACHE"):
        write_safetensors(path, model.state_dict(), {"result": _text(result)})
        unfinished.unlink(missing_ok=True)
    return model, result
