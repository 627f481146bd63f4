"""Training and evaluation: Eq. 2 and Eq. 7, joint or alternating, stopped by a validation set.

One rule for every method: after each epoch the validation AUC is taken; training stops when it has
not risen for `patience` epochs, and the best epoch's weights are kept. The test set is read once,
at the end. Chapters 3 and 4.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from data_prep.arguments import check_seed, number, one_of, plain, refuse, whole
from data_prep.places import optional
from duetlib import cache, metrics
from duetlib.cache import cache_dir, kept, read_safetensors, usable, write_safetensors
from duetlib.cuda_graphs import CapturedStep
from duetlib.methods import build
from duetlib.ppg import ppg_loss
from duetlib.precision import full_precision
from duetlib.sessions import Negatives, Seen, Sessions, Split, candidates, labels_like
from duetlib.swa import StableWeightAdapter
from duetlib.umn import LayersOf, OrdinaryLayers, UniversalMetaNetwork

Scheme = Literal["joint", "alternating"]

TEST_NEGATIVES = 100
CODE = (
    "sessions backbones dynamic hypernetwork ppg swa umn controls methods metrics training "
    "cuda_graphs"
)
VALID_SEED, TEST_SEED = 1, 2  # of the negatives: the same for every model and every training seed


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        lr, weight_decay: of Adam. batch_size: *rows*, a row being one history with one candidate,
            the unit of Table 5: 512 rows are 102 sessions with five candidates each.
        negatives: for each target. gamma: γ of Eq. 7; it changes nothing here, where each session
            has one target. scheme: `joint` (Section 3.3.2) or `alternating` (Algorithm 1).
            max_epochs, patience: when to stop.

    Raises:
        ValueError: for a value that no training could have; it names it, and what is allowed.
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 512
    negatives: int = 4
    gamma: float = 1.0
    scheme: Scheme = "joint"
    max_epochs: int = 40
    patience: int = 3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, plain(value))
        whole(1, batch_size=self.batch_size, max_epochs=self.max_epochs, patience=self.patience)
        whole(0, negatives=self.negatives)
        number(0, above=True, lr=self.lr)
        number(0, weight_decay=self.weight_decay, gamma=self.gamma)
        one_of(get_args(Scheme), scheme=self.scheme)

    @property
    def sessions(self) -> int:
        """Sessions in a batch."""
        return max(1, self.batch_size // (1 + self.negatives))


# Table 5. It gives no number of epochs, and no N_p.
TABLE_5 = {
    "ml-1m": TrainConfig(lr=1e-3, batch_size=512, gamma=1.0),
    "ml-100k": TrainConfig(lr=1e-3, batch_size=512, gamma=1.0),
    "ckplus": TrainConfig(lr=1e-3, weight_decay=5e-4, batch_size=128, gamma=1.0, negatives=0),
}


@dataclass
class Result:
    """What a training run leaves behind.

    Attributes:
        history: for each epoch its number, mean loss and validation AUC.
        best_epoch: the epoch whose weights were kept, from 1.
        seconds: spent on training, over all attempts. metrics: on the test set.
        users: what each user adds to them, see `evaluate`.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    users: dict[str, list[float]] = field(default_factory=dict)


class Evaluation(NamedTuple):
    """Test metrics, and what each user adds to them.

    Attributes:
        metrics: by name, over all test sessions.
        users: by the same names, a mean for each user, in order of user ids. The mean over users is
            the metric; `auc_of_wrong` is AUC's second half (`metrics.auc_shares`).
    """

    metrics: dict[str, float]
    users: dict[str, list[float]]


def progress(total: int, what: str) -> tqdm:
    """A plain-text progress bar that cleans up after itself; off where `DUET_PROGRESS=0`."""
    off = os.environ.get("DUET_PROGRESS") == "0"
    return tqdm(total=total, desc=what, leave=False, ascii=True, disable=off)


def bce_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 2's D_ce: cross-entropy of each candidate's yes or no, averaged over `[B, C]`."""
    return F.binary_cross_entropy_with_logits(logits, labels)


@torch.no_grad()
def score(
    model: UniversalMetaNetwork,
    sessions: Sessions,
    candidate_ids: Tensor,
    layers_of: LayersOf | None = None,
    batch: int = 256,
) -> Tensor:
    """Logits `[N, C]` of every session's candidates, in batches, without gradients.

    Args:
        layers_of: gives the dynamic layers of some sessions; the model's own by default.

    Raises:
        ValueError: if there are no sessions, or not one row of candidates for each.
    """
    whole(1, batch=batch)
    if len(candidate_ids) != len(sessions) or not len(sessions):
        raise ValueError(
            f"candidates for {len(candidate_ids)} sessions, and {len(sessions)} sessions: "
            "give one row of candidates for each session, and one session at least"
        )
    model.eval()
    scores = []
    for i in range(0, len(sessions), batch):
        part, ids = sessions[i : i + batch], candidate_ids[i : i + batch]
        layers = layers_of(part) if layers_of else model.layers(part.history)
        scores.append(model.rank(part.history, ids, layers))
    return torch.cat(scores)


def sampled_candidates(split: Split, part: Literal["valid", "test"]) -> Tensor:
    """`[N, 101]` the target of each session and its 100 fixed negatives.

    Raises:
        ValueError: for another part than `valid` and `test`.
    """
    one_of(("valid", "test"), part=part)
    sessions = getattr(split, part)
    seed = TEST_SEED if sessions is split.test else VALID_SEED
    negatives = Negatives(split.seen).fixed(sessions.user, TEST_NEGATIVES, seed)
    return candidates(sessions, negatives)


def rank_among_all(scores: Tensor, sessions: Sessions, seen: Seen) -> Tensor:
    """Rank `[N]` of each target among the items that its user does not have.

    Args:
        scores: `[N, n_items + 1]` of every item. seen: as in `Split`.
    """
    right = scores.gather(1, sessions.target.unsqueeze(1))
    unseen = scores.masked_fill(seen[sessions.user], float("-inf"))
    return metrics.rank_of_target(torch.cat([right, unseen], dim=1))


def full_ranks(
    model: UniversalMetaNetwork, sessions: Sessions, seen: Seen, layers_of: LayersOf | None = None
) -> Tensor:
    """Rank `[N]` of each target among *all* items that its user does not have.

    Args:
        seen: as in `Split`. layers_of: as in `score`.
    """
    every = torch.arange(seen.shape[1], device=seen.device)
    ranks = []
    for i in range(0, len(sessions), 64):  # 64 × all items × D floats at a time
        part = sessions[i : i + 64]
        scores = score(model, part, every.expand(len(part), -1), layers_of)  # [b, n_items + 1]
        ranks.append(rank_among_all(scores, part, seen))
    return torch.cat(ranks)


def evaluate(
    model: UniversalMetaNetwork, split: Split, layers_of: LayersOf | None = None
) -> Evaluation:
    """All test metrics: AUC and user AUC, HR@10 and NDCG@10 with 100 negatives and with all items.

    Args:
        layers_of: as in `score`.

    Source: Section 4.1.1; Chapter 3.
    """
    scores = score(model, split.test, sampled_candidates(split, "test"), layers_of)
    full = full_ranks(model, split.test, split.seen, layers_of)
    return evaluation(scores, full, split.test.user)


def evaluation(scores: Tensor, full: Tensor, user: Tensor) -> Evaluation:
    """The metrics of scores that are already there.

    Args:
        scores: `[N, C]`, the right answer in column 0. full: `[N]` ranks among all items.
        user: `[N]` whose session each row is, every user equally often.

    Raises:
        ValueError: if some users have more sessions than others.
    """
    scores, full, user = scores.cpu(), full.cpu(), user.cpu()
    rank = metrics.rank_of_target(scores)
    beats, beaten = metrics.auc_shares(scores)
    sessions = {
        "auc": beats,
        "auc_of_wrong": beaten,
        "user_auc": metrics.user_auc(scores),
        "hr10": metrics.hit_rate(rank),
        "ndcg10": metrics.ndcg(rank),
        "hr10_full": metrics.hit_rate(full),
        "ndcg10_full": metrics.ndcg(full),
    }
    order = user.argsort(stable=True)
    counts = user.unique(return_counts=True)[1]
    if (counts != counts[0]).any():
        raise ValueError(
            f"users have from {counts.min()} to {counts.max()} sessions: a mean over users needs "
            "as many of each, as leave_last_out holds out"
        )
    n_users = len(counts)
    users = {k: v.double()[order].view(n_users, -1).mean(1).tolist() for k, v in sessions.items()}
    means = {k: sum(v) / n_users for k, v in users.items() if k != "auc_of_wrong"}
    return Evaluation({**means, "auc": metrics.auc(scores)}, users)


class Trainer:
    """One run: model, optimisers and where it has got to; can be saved after any epoch.

    Args:
        model: changed in place. split: on the model's device. config, seed: of this run.

    Raises:
        ValueError: if a part of the split is empty, the model has fewer items than the split or is
            in half precision, nothing is drawn to be wrong, or the seed is none.

    An epoch draws its order and its negatives from (seed, epoch) alone, so that a run resumed after
    an epoch goes on exactly as if it had never stopped.
    """

    def __init__(
        self, model: UniversalMetaNetwork, split: Split, config: TrainConfig, seed: int = 0
    ):
        self.model, self.split, self.config, self.seed = model, split, config, plain(seed)
        check_seed(seed)
        whole(1, negatives=config.negatives)
        full_precision(model.items.weight)
        if not len(split.train):
            raise ValueError("no training sessions: every user needs clicks before those held out")
        if not len(split.valid):
            raise ValueError("no validation sessions to choose the epoch by: cut with n_valid >= 1")
        if not len(split.test):
            raise ValueError("no test sessions to measure the model on: cut with n_test >= 1")
        n_items = model.items.num_embeddings - 1
        if n_items < split.n_items:
            raise ValueError(
                f"the model has {n_items} items, the split has {split.n_items}: "
                "build it with the split's n_items"
            )
        self.device, self.sessions_hash = split.seen.device, split_hash(split)
        self.result = Result()
        self.negatives = Negatives(split.seen)
        self.valid_candidates = sampled_candidates(split, "valid")
        self.modules = nn.ModuleDict({"model": model})
        self.optimizers: list[torch.optim.Optimizer] = []
        self.steps: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = []
        if config.scheme == "alternating":
            # Algorithm 1: in each batch first Eq. 2, with a classifier of its own, then Eq. 7.
            classifier = OrdinaryLayers(model.backbone.shapes).to(self.device)
            umn = UniversalMetaNetwork(model.backbone, split.n_items, classifier).to(self.device)
            umn.items = model.items
            self.modules["classifier"] = classifier
            self._add_step(umn, lambda logits, labels: bce_loss(logits, labels))
        self._add_step(model, lambda logits, labels: ppg_loss(logits, labels, config.gamma))
        self.best = {k: v.clone() for k, v in model.state_dict().items()}

    def _add_step(
        self, model: UniversalMetaNetwork, loss_of: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        trainable = [p for p in model.parameters() if p.requires_grad]
        config = self.config
        cuda = self.device.type == "cuda"
        fused = cuda or self.device.type == "cpu"
        optimizer = torch.optim.Adam(
            trainable, config.lr, weight_decay=config.weight_decay, fused=fused, capturable=cuda
        )

        def step(history: Tensor, ids: Tensor, labels: Tensor) -> Tensor:
            loss = loss_of(model(history, ids), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        self.optimizers.append(optimizer)
        self.steps.append(CapturedStep(step) if cuda else step)

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.result.history)

    @property
    def finished(self) -> bool:
        """Whether the validation AUC has stopped rising, or the epochs are used up."""
        waited = self.epoch - self.result.best_epoch
        return self.epoch >= self.config.max_epochs or (
            self.epoch > 0 and waited >= self.config.patience
        )

    def run_epoch(self, bar: tqdm | None = None) -> None:
        """One pass over the training sessions, then the validation AUC."""
        started = time.perf_counter()
        train = self.split.train
        generator = torch.Generator(self.device).manual_seed(1_000_003 * self.seed + self.epoch)
        order = torch.randperm(len(train), generator=generator, device=self.device)
        drawn = self.negatives.draw(train.user, self.config.negatives, generator)
        every = candidates(train, drawn)  # [N, 1 + n]
        total = torch.zeros((), device=self.device)
        self.model.train()
        batches = order.split(self.config.sessions)
        for index in batches:
            ids = every[index]
            for step in self.steps:
                loss = step(train.history[index], ids, labels_like(ids))
            total += loss
            if bar is not None:
                bar.update()
        loss_value = total.item() / len(batches)
        if loss_value != loss_value:
            raise FloatingPointError(
                f"the loss of epoch {self.epoch + 1} is not a number; lower lr ({self.config.lr})"
            )
        valid_auc = metrics.auc(score(self.model, self.split.valid, self.valid_candidates))
        before = [epoch["valid_auc"] for epoch in self.result.history]
        self.result.history.append(
            {"epoch": self.epoch + 1, "loss": loss_value, "valid_auc": valid_auc}
        )
        if valid_auc > max(before, default=float("-inf")):
            self.result.best_epoch = self.epoch
            self.best = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.result.seconds += time.perf_counter() - started

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"now.{k}": v for k, v in self.modules.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for o, optimizer in enumerate(self.optimizers):
            for i, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{o}.{i}.{k}": v for k, v in state.items()}
        return tensors

    def _metadata(self) -> dict[str, str]:
        adapters = [m for m in self.model.modules() if isinstance(m, StableWeightAdapter)]
        run = {
            "config": asdict(self.config),
            "seed": self.seed,
            "sessions": self.sessions_hash,
            "trains": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            "adapters": [[adapter.tau, adapter.temperature] for adapter in adapters],
        }
        return {"run": json.dumps(run), "result": json.dumps(asdict(self.result))}

    def save(self, path: Path) -> None:
        """Write everything that a later `load` needs to go on from here."""
        write_safetensors(path, self._tensors(), self._metadata())

    def load(self, path: Path) -> None:
        """Go on where a saved run stopped.

        Raises:
            Damaged: if the file is not as it was written.
            ValueError: if the file is of a run with another configuration, seed, data set or model.
        """
        metadata, tensors = read_safetensors(path, self.device)
        run = metadata.get("run", "none at all")
        if run != self._metadata()["run"]:
            raise ValueError(f"{path} is of another run: {run}; delete it, or name another")
        groups: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "optimizer": {}}
        for key, value in tensors.items():
            group, _, name = key.partition(".")
            groups[group][name] = value
        try:
            self.modules.load_state_dict(groups["now"])
        except RuntimeError as error:
            raise ValueError(f"{path} is of another model: {error}") from error
        self.best = groups["best"]
        for o, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in groups["optimizer"].items():
                which, i, name = key.split(".")
                if int(which) == o:
                    state.setdefault(int(i), {})[name] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        for step in self.steps:
            if isinstance(step, CapturedStep):
                step.forget()  # the optimiser's tensors are others now
        self.result = Result(**json.loads(metadata["result"]))


def train(
    model: UniversalMetaNetwork,
    split: Split,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    what: str = "training",
) -> Result:
    """Train a model in place until the validation AUC stops rising; keep its best epoch; test once.

    Args:
        model, split: on the same device. config: Table 5's settings by default.
        seed: of the order of sessions and of the negatives (the caller seeds the model's start).
        checkpoint: a file written after each epoch, from which a killed run goes on. Where it
            cannot be written, a warning says so, and training goes on.
        what: the name on the progress bar.

    Returns:
        The learning curve, the chosen epoch, and the metrics on the test set.

    Raises:
        ValueError: as `Trainer.load`; the file stays as it is.

    Source: Chapter 3, Eq. (2); Chapter 4, Eq. (7).
    """
    trainer = Trainer(model, split, config or TrainConfig(), seed)
    if checkpoint is not None and os.path.exists(checkpoint):  # False where nothing can be seen
        trainer.load(checkpoint)
    while not trainer.finished:
        n_batches = -(-len(split.train) // trainer.config.sessions)
        with progress(n_batches, f"{what}, epoch {trainer.epoch + 1}") as bar:
            trainer.run_epoch(bar)
        if checkpoint is not None:
            with optional(checkpoint, "DUET_CACHE"):
                trainer.save(checkpoint)
    model.load_state_dict(trainer.best)
    trainer.result.metrics, trainer.result.users = evaluate(model, split)
    return trainer.result


def code_hash() -> str:
    """A hash of the code that decides what training yields."""
    return cache.code_hash(CODE.split())


def split_hash(split: Split) -> str:
    """SHA-256 over every session of a split: another order of clicks is another data set."""
    digest = hashlib.sha256(split.sha256.encode())
    for part in (split.train, split.valid, split.test):
        for tensor in (part.history, part.target, part.user):
            digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def trained(
    backbone: str,
    method: str,
    split: Split,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    **ppg: Any,
) -> tuple[UniversalMetaNetwork, Result]:
    """A trained model by name: trained in front of you the first time, read from disk after that.

    It is kept under a key made of the code, the data, the settings and the kind of device: a change
    in any of them trains anew, and so does a file that is damaged, with a warning. Where nothing
    can be kept, a warning says so.

    Args:
        backbone, method, ppg: as in `methods.build`. split: on the device to train on.
        config: Table 5's settings by default. seed: of everything.

    Raises:
        ValueError: as `methods.build` and `Trainer`, before anything is trained.
    """
    check_seed(seed)
    seed, ppg = plain(seed), {name: plain(value) for name, value in ppg.items()}
    config = config or TrainConfig()
    if not isinstance(split, Split):
        raise refuse("split", type(split).__name__, "what `leave_last_out` returns")
    if not isinstance(config, TrainConfig):
        raise refuse("config", type(config).__name__, "a TrainConfig")
    settings = [backbone, method, asdict(config), seed, sorted(ppg.items()), split_hash(split)]
    settings += [split.seen.device.type, code_hash(), torch.__version__]
    if split.seen.device.type == "cuda":
        settings.append(torch.backends.cudnn.allow_tf32)  # it rounds a recurrent layer's products
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    path = cache_dir() / f"{backbone}-{method}-{key}.safetensors"
    torch.manual_seed(seed)
    model = build(backbone, method, split.n_items, **ppg).to(split.seen.device)
    if found := kept(path, split.seen.device):
        metadata, tensors = found
        model.load_state_dict(tensors)
        return model.eval(), Result(**json.loads(metadata["result"]))
    unfinished = path.with_suffix(".unfinished")
    name, checkpoint = f"{backbone} {method}", usable(unfinished, split.seen.device)
    result = train(model, split, config, seed=seed, checkpoint=checkpoint, what=name)
    with optional(path, "DUET_CACHE"):
        write_safetensors(path, model.state_dict(), {"result": json.dumps(asdict(result))})
        unfinished.unlink(missing_ok=True)
    return model, result
