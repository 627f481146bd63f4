"""What DUET is held against: less of it, or the same of it on the wrong device.

Trained controls: `BiasOnly` reads the same clicks with the same neck, but writes the biases alone;
`NeckAsInput` hands the neck's output to an ordinary head, a large or a small one. (A large head
without a neck is `methods.wide_as_duet`.) Three more take a trained DUET and give a device layers
that are not its own: another user's, everybody's, or those of a session ago. Chapter 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data_prep.arguments import check_seed, whole
from duetlib.dynamic import Layer
from duetlib.hypernetwork import TwoLayerGenerator
from duetlib.ppg import FROM_DEVICE, PPG, Neck
from duetlib.sessions import Sessions, Split
from duetlib.umn import LayersOf


class BiasOnly(nn.Module):
    """The PPG with shared weights: only the biases of the dynamic layers come from the clicks.

    Close to the shift of FiLM (Perez et al., 2018).

    Args:
        dim, shapes, latent, rank: as in `PPG`.

    Source: Chapter 7.
    """

    def __init__(
        self, dim: int, shapes: Sequence[tuple[int, int]], latent: int = 64, rank: int = 32
    ):
        super().__init__()
        whole(1, dim=dim, latent=latent, rank=rank)
        self.neck = Neck(dim)
        self.adjust = nn.ModuleList(nn.Linear(dim, latent) for _ in shapes)
        self.weight, self.generators = nn.ParameterList(), nn.ModuleList()
        for n_in, n_out in shapes:
            std = 1 / math.sqrt(3 * n_in)  # as nn.Linear starts
            self.weight.append(torch.randn(n_in, n_out) * std)
            self.generators.append(TwoLayerGenerator(1, n_out, latent, rank, std, FROM_DEVICE))

    def forward(self, clicks: Tensor, mask: Tensor) -> list[Layer]:
        """Shared `weight [N_in, N_out]` and generated `bias [B, N_out]` of each layer."""
        shared = self.neck(clicks, mask)  # [B, D]
        parts = zip(self.weight, self.generators, self.adjust, strict=True)
        return [Layer(W, g(adjust(shared)).squeeze(1)) for W, g, adjust in parts]


class NeckAsInput(nn.Module):
    """The neck's output as one more input of an ordinary head.

    `W [x; s] + b` is `W_x x + (W_s s + b)`: to the first layer, one more input *is* a bias that
    depends on the clicks. So the head is written as layers like all others.

    Args:
        dim, shapes, latent, rank: as in `PPG`.
        small: as wide as the base's head; otherwise so wide that it has as many parameters as that
            PPG's linear layers and generators.

    Source: Chapter 7.
    """

    def __init__(
        self,
        dim: int,
        shapes: Sequence[tuple[int, int]],
        latent: int = 64,
        rank: int = 32,
        small: bool = False,
    ):
        super().__init__()
        whole(1, dim=dim, latent=latent, rank=rank)
        self.neck = Neck(dim)
        n_in, n_out = shapes[0][0], shapes[-1][1]
        like = PPG(dim, shapes, latent, rank)
        budget = sum(p.numel() for p in [*like.adjust.parameters(), *like.generators.parameters()])
        hidden = shapes[0][1] if small else round((budget - n_out) / (n_in + dim + 1 + n_out))
        self.of_neck = nn.Linear(dim, hidden)
        bound, out = 1 / math.sqrt(n_in + dim), 1 / math.sqrt(hidden)  # as nn.Linear starts
        self.of_features = nn.Parameter(torch.empty(n_in, hidden).uniform_(-bound, bound))
        self.weight = nn.Parameter(torch.empty(hidden, n_out).uniform_(-out, out))
        self.bias = nn.Parameter(torch.empty(n_out).uniform_(-out, out))

    def forward(self, clicks: Tensor, mask: Tensor) -> list[Layer]:
        """The first layer's `bias [B, H]` depends on the clicks; everything else is shared."""
        first = Layer(self.of_features, self.of_neck(self.neck(clicks, mask)))
        return [first, Layer(self.weight, self.bias)]


def shuffled(model: nn.Module, split: Split, seed: int = 0) -> LayersOf:
    """Each user gets the layers made from another user's test history, drawn once from a seed.

    Args:
        model: with `layers`. split: with one test session a user.

    Raises:
        ValueError: if a user has not exactly one session, or there is no other user.
    """
    check_seed(seed)
    if split.n_users < 2:
        raise ValueError("the split has one user alone: there is nobody else's history to take")
    table = by_user(split, split.test)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(split.n_users, generator=generator).to(table.device) + 1
    other = torch.empty_like(order)
    other[order - 1] = order.roll(1)  # along one cycle through all users: nobody keeps their own
    return lambda part: model.layers(table[other[part.user - 1]])  # type: ignore[operator]


def stale(model: nn.Module, split: Split) -> LayersOf:
    """Each user gets the layers of a session ago: made from the history of the validation click."""
    table = by_user(split, split.valid)
    return lambda part: model.layers(table[part.user])  # type: ignore[operator]


@torch.no_grad()
def constant(model: nn.Module, split: Split) -> LayersOf:
    """Everybody gets the same layers: the mean over all users' validation histories.

    Raises:
        ValueError: if there are no validation sessions, or the model's layers are everybody's.
    """
    if not len(split.valid):
        raise ValueError("no validation sessions to take the mean of: cut with n_valid >= 1")
    layers = model.layers(split.valid.history)  # type: ignore[operator]
    if any(layer.weight.dim() == 2 for layer in layers):
        raise ValueError("the model does not make its layers from histories: there is no mean")
    mean = [Layer(layer.weight.mean(0), layer.bias.mean(0)) for layer in layers]
    return lambda part: mean


def by_user(split: Split, sessions: Sessions) -> Tensor:
    """`[n_users + 1, L]` the history of each user's session.

    Raises:
        ValueError: if a user has not exactly one session.
    """
    if not torch.equal(sessions.user.sort().values.cpu(), torch.arange(1, split.n_users + 1)):
        raise ValueError("this control needs exactly one session for each user (leave-one-out)")
    table = sessions.history.new_zeros(split.n_users + 1, sessions.history.shape[1])
    table[sessions.user] = sessions.history
    return table
