"""The rival: a copy of the base model for each user, trained further on that user's own clicks.

All users at once, with stacked weights: every optimiser here works number by number, so a stack of
copies trains exactly as a loop over users would. Chapter 6.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from data_prep.arguments import check_seed, number, one_of, refuse, whole
from duetlib.dynamic import Layer, apply_layers
from duetlib.sessions import Negatives, Seen, Sessions, Split, candidates, labels_like
from duetlib.training import Evaluation, TrainConfig, evaluation, rank_among_all, sampled_candidates
from duetlib.umn import LayersOf, UniversalMetaNetwork

USERS_AT_ONCE = 32  # whole copies of the model in memory together


class OwnRows(NamedTuple):
    """What each of U users may train on: the last n sessions before the one that is asked about.

    Attributes:
        history: `[U, n, L]`. ids: `[U, n, C]` candidates, the right one in column 0.
        there: `[U, n]` False where a user has fewer than n sessions.
    """

    history: Tensor
    ids: Tensor
    there: Tensor

    def of(self, users: Tensor | slice, rows: slice = slice(None)) -> OwnRows:
        """Some users (indices from 0), and some of their sessions."""
        return OwnRows(*(part[users][:, rows] for part in self))


def own_sessions(split: Split, negatives: int, seed: int, *, until: str) -> tuple[Sessions, Tensor]:
    """The sessions that users may train on, and candidates `[N, C]`, in order of user and time.

    What a user clicks later may be drawn as wrong: nobody knows it yet. Were it spared, a model of
    one's own would learn it from what is never wrong.

    Args:
        negatives: for each target, drawn once, from `seed`.
        until: "valid": training targets alone; "test": those and the validation targets.

    Raises:
        ValueError: for an argument that is none of these.

    Source: Chapter 6.
    """
    whole(1, negatives=negatives)
    check_seed(seed)
    one_of(("valid", "test"), until=until)
    sessions = split.train
    if until == "test" and split.valid is not split.test:
        sessions = split.train.then(split.valid)
    generator = torch.Generator(sessions.user.device).manual_seed(seed)
    known = torch.cat([sessions.history, sessions.target.unsqueeze(1)], dim=1)  # [N, L + 1]
    user = sessions.user.unsqueeze(1).expand_as(known)
    seen = Seen.of(user, known, split.n_users, split.n_items)
    return sessions, candidates(sessions, Negatives(seen).draw(sessions.user, negatives, generator))


def rows_of(sessions: Sessions, ids: Tensor, users: Tensor, last: int | None = None) -> OwnRows:
    """The sessions of some users, each user's in order of time, padded on the right.

    Args:
        sessions, ids: of `own_sessions`. users: `[U]` indices from 0.
        last: how many, counted back from the end; all if None.
    """
    if last is not None:
        whole(1, last=last)
    count = torch.bincount(sessions.user, minlength=int(users.max()) + 2)[1:]
    kept = count if last is None else count.clamp(max=last)
    first, kept = (count.cumsum(0) - kept)[users], kept[users]  # [U]
    place = torch.arange(int(kept.max()), device=count.device)
    rows = (first.unsqueeze(1) + place).clamp(max=len(sessions) - 1)  # [U, n]
    return OwnRows(sessions.history[rows], ids[rows], place < kept.unsqueeze(1))


def own_rows(split: Split, last: int | None, negatives: int, seed: int, *, until: str) -> OwnRows:
    """What each user may train on: `rows_of` all users, from `own_sessions`.

    Args:
        last: as in `rows_of`. negatives, seed, until: as in `own_sessions`.

    Source: Chapter 6.
    """
    sessions, ids = own_sessions(split, negatives, seed, until=until)
    return rows_of(sessions, ids, torch.arange(split.n_users, device=ids.device), last)


def mean_over_own(loss: Tensor, there: Tensor) -> Tensor:
    """`[U, n, C]` losses to `[U]`: each user's mean over the sessions that are there."""
    return (loss.mean(-1) * there).sum(-1) / there.sum(-1).clamp(min=1)


def finetune_dynamic(
    model: UniversalMetaNetwork, rows: OwnRows, lr: float, steps: Sequence[int]
) -> Iterator[list[Layer]]:
    """Train every user's dynamic layers, the static ones staying as they are.

    The features are computed once: static layers do not change.

    Args:
        model: a trained base. rows: all of them are one batch. lr: of Adam.
        steps: after how many steps to give out the layers, in increasing order.

    Returns:
        For each number in `steps`, layers with `weight [U, N_in, N_out]` and `bias [U, N_out]`,
        one after the other as the training gets there.

    Raises:
        ValueError: for a rate that is not above 0, steps that are not in increasing order, or a
            model that does not have the same layers for everybody.

    Source: Chapter 6.
    """
    number(0, above=True, lr=lr)
    steps = list(steps)
    if not steps or steps != sorted(set(steps)):
        raise refuse("steps", steps, "whole numbers in increasing order, one at least")
    whole(1, **{"the first of steps": steps[0], "the last of steps": steps[-1]})
    with torch.no_grad():
        shared = model.layers(rows.history[:1, 0])
    if any(layer.weight.dim() != 2 for layer in shared):
        raise ValueError("the model makes layers from histories: fine-tuning starts from a base")
    return _tuned(model, rows, shared, lr, steps)


def _tuned(
    model: UniversalMetaNetwork,
    rows: OwnRows,
    shared: Sequence[Layer],
    lr: float,
    steps: Sequence[int],
) -> Iterator[list[Layer]]:
    """What `finetune_dynamic` gives out, from the layers that everybody starts with."""
    n_users, n = rows.there.shape
    with torch.no_grad():
        pair = (part.flatten(0, 1).split(2048) for part in (rows.history, rows.ids))
        parts = zip(*pair, strict=True)
        computed = [model.features(history, ids) for history, ids in parts]
        features, items = (torch.cat(part) for part in zip(*computed, strict=True))
    tensors = [t.detach().expand(n_users, *t.shape).clone() for layer in shared for t in layer]
    layers = [Layer(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True)]
    for tensor in tensors:
        tensor.requires_grad_()
    optimizer = torch.optim.Adam(tensors, lr)
    labels = labels_like(rows.ids.flatten(0, 1)).view(rows.ids.shape)  # [U, n, C]
    x = features.view(n_users, -1, features.shape[-1])  # [U, n·C or n, N_in]
    for step in range(1, max(steps) + 1):
        out = apply_layers(x, layers).view(n_users * n, -1, layers[-1].bias.shape[-1])
        logits = model.backbone.score(out, items).view(labels.shape)
        loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        optimizer.zero_grad()
        mean_over_own(loss, rows.there).sum().backward()
        optimizer.step()
        if step in steps:
            yield [Layer(*(part.detach().clone() for part in layer)) for layer in layers]


def own_layers(layers: Sequence[Layer]) -> LayersOf:
    """Give every session its own user's layers, out of those of all users."""
    return lambda part: [
        Layer(layer.weight[part.user - 1], layer.bias[part.user - 1]) for layer in layers
    ]


class Unrolled(nn.GRU):
    """A GRU of one layer, written out: `vmap` can batch these products, and not PyTorch's GRU.

    Batch first and with biases, as our backbones have it.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """`[n, L, N_in]` to all states `[n, L, D]` and the last one, `[n, D]`."""
        w_x, w_h, b_x, b_h = self.parameters()
        given = F.linear(x, w_x, b_x).chunk(3, dim=-1)  # each [n, L, D]
        h, states = torch.zeros_like(given[0][:, 0]), []
        for r_x, z_x, n_x in zip(*(part.unbind(1) for part in given), strict=True):
            r_h, z_h, n_h = F.linear(h, w_h, b_h).chunk(3, dim=-1)
            new = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
            h = new + torch.sigmoid(z_x + z_h) * (h - new)
            states.append(h)
        return torch.stack(states, dim=1), h


class Copies:
    """Whole copies of a model, one for each of some users, trained side by side.

    Args:
        model: a trained base. n_users: copies. lr: of Adam.

    Raises:
        ValueError: for no user, or a rate that is not above 0.
    """

    def __init__(self, model: UniversalMetaNetwork, n_users: int, lr: float):
        whole(1, n_users=n_users)
        number(0, above=True, lr=lr)
        self.model = copy.deepcopy(model).train()  # `vmap` has no numbers to look at
        for part in self.model.modules():
            if type(part) is nn.GRU and part.num_layers == 1 and part.bias and part.batch_first:
                part.__class__ = Unrolled  # the same parameters under the same names
        self.stacked = {
            name: value.detach().expand(n_users, *value.shape).clone()
            for name, value in model.named_parameters()
        }
        self.optimizer = torch.optim.Adam(list(self.stacked.values()), lr)
        self._grad = vmap(grad(self._loss))

    def _loss(self, weights: dict[str, Tensor], rows: OwnRows) -> Tensor:
        logits = functional_call(self.model, weights, (rows.history, rows.ids))  # [n, C]
        loss = F.binary_cross_entropy_with_logits(logits, labels_like(rows.ids), reduction="none")
        return mean_over_own(loss, rows.there)

    def step(self, rows: OwnRows) -> None:
        """One step of each copy on its own rows, `[U, n, ...]`."""
        for name, gradient in self._grad(self.stacked, rows).items():
            self.stacked[name].grad = gradient
        self.optimizer.step()

    @torch.no_grad()
    def score(self, history: Tensor, ids: Tensor) -> Tensor:
        """Logits `[U, n, C]` of `[U, n, L]` histories and `[U, n, C]` candidates."""

        def one(weights: dict[str, Tensor], history: Tensor, ids: Tensor) -> Tensor:
            return functional_call(self.model, weights, (history, ids))

        return vmap(one)(self.stacked, history, ids)


def finetune_all(
    model: UniversalMetaNetwork, split: Split, config: TrainConfig, seed: int = 0
) -> Evaluation:
    """The authors' way: all layers, one pass over the user's own rows; then the test metrics.

    Most users have about one batch of rows, so one pass is about one step.

    Args:
        model: a trained base. config: the batch size, learning rate and negatives of the pass.
        seed: of the negatives.

    Source: Chapter 6; Section 4.1.3.
    """
    sessions, own_ids = own_sessions(split, config.negatives, seed, until="test")
    count = torch.bincount(sessions.user, minlength=split.n_users + 1)[1:]
    batches = -(-count // config.sessions)  # [U]: users with as many go together
    test, ids = split.test, sampled_candidates(split, "test")
    order = test.user.argsort(stable=True).view(split.n_users, -1)  # [U, n_test]
    every = torch.arange(split.n_items + 1, device=ids.device)
    scores = torch.empty(*order.shape, ids.shape[1], device=ids.device)
    ranks = torch.empty(order.shape, device=ids.device)
    for n_batches in batches.unique().tolist():
        for users in (batches == n_batches).nonzero()[:, 0].split(USERS_AT_ONCE):
            copies = Copies(model, len(users), config.lr)
            rows = rows_of(sessions, own_ids, users)  # of all users at once they would be gigabytes
            for b in range(n_batches):
                batch = slice(b * config.sessions, (b + 1) * config.sessions)
                copies.step(rows.of(slice(None), batch))
            own = order[users]  # [u, n_test]
            scores[users] = copies.score(test.history[own], ids[own])
            for n in range(own.shape[1]):  # one test session of each user at a time
                part = test[own[:, n]]
                asked = every.expand(len(users), 1, -1)
                of_all = copies.score(part.history.unsqueeze(1), asked)[:, 0]
                ranks[users, n] = rank_among_all(of_all, part, split.seen)
    return evaluation(scores.flatten(0, 1), ranks.flatten(), test.user[order.flatten()])
