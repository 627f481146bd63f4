"""The Personalized Parameters Generator: from a device's clicks to its weights (Eq. 5 to 7).

A shared neck reads the clicks once; a linear layer per dynamic layer turns what it read into that
layer's code `e`; a two-layer generator turns the code into the layer. Chapter 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from data_prep.arguments import number, one_of, whole
from duetlib.backbones import last_click
from duetlib.dynamic import Layer
from duetlib.hypernetwork import TwoLayerGenerator
from duetlib.swa import StableWeightAdapter, Temperature, check_temperature

Form = Literal["two_layer", "dense"]
NeckKind = Literal["gru", "mean", "state"]

# Share of a generated number's variance that comes from the device at the start: every device
# starts close to one ordinary layer, and grows apart from it as training finds reasons.
FROM_DEVICE = 0.1


class Neck(nn.Module):
    """E_share of Eq. 5: a GRU over the clicks; its last state is what all dynamic layers share.

    As wide as the clicks themselves: at width Z = 64 it took more than half of a training step.

    Args:
        dim: D.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.gru = nn.GRU(dim, dim, batch_first=True)

    def forward(self, clicks: Tensor, mask: Tensor) -> Tensor:
        """`[B, L, D]` clicks and their `[B, L]` mask to `[B, D]`."""
        states, _ = self.gru(clicks)
        return last_click(states, mask)


class MeanNeck(nn.Module):
    """The cheapest E_share: the mean of the clicks, which forgets their order.

    Args:
        dim: D; not needed, taken as all necks take it.
    """

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, clicks: Tensor, mask: Tensor) -> Tensor:
        """`[B, L, D]` clicks and their `[B, L]` mask to `[B, D]`."""
        weight = mask.to(clicks.dtype) / mask.sum(1, keepdim=True).clamp(min=1)  # [B, L]
        return (weight.unsqueeze(1) @ clicks).squeeze(1)


class PPG(nn.Module):
    """Generates every dynamic layer of every device in a batch, in one forward pass.

    Args:
        dim: D, width of an embedded click.
        shapes: `(N_in, N_out)` of each dynamic layer.
        latent: Z, width of a code (64 in Table 5). rank: d of the generator.
        form: how Eq. 6 is read. `two_layer`: `A = W_1 e + B_1` is N_in × d, `K = A W_2 + B_2`.
            `dense`: `W_1 e + B_1` is one vector of d numbers, and W_2 takes it to all of K at once.
        neck: E_share. `gru`: a GRU of its own (`Neck`). `mean`: `MeanNeck`. `state`: none; it is
            given the backbone's own state of the history (DIN's: as the last click sees it).
        n_generators: M, the paper's N_p. With 1 there is no adapter; more are joined by the SWA.
        tau, temperature: of the SWA (Eq. 8).
        frozen: if True, the generators keep their random start and only neck and linear layers
            train, as in the authors' published code (method `duet_as_released`).

    Raises:
        ValueError: for an unknown form, neck or temperature, or a size or tau that cannot be.

    Source: Chapter 4, Eq. (5) and (6).
    """

    def __init__(
        self,
        dim: int,
        shapes: Sequence[tuple[int, int]],
        latent: int = 64,
        rank: int = 32,
        form: Form = "two_layer",
        neck: NeckKind = "gru",
        n_generators: int = 1,
        tau: float = 1.0,
        temperature: Temperature = "tempered",
        frozen: bool = False,
    ):
        super().__init__()
        whole(1, dim=dim, latent=latent, rank=rank, n_generators=n_generators)
        one_of((False, True), frozen=frozen)
        one_of(get_args(Form), form=form)
        one_of(get_args(NeckKind), neck=neck)
        check_temperature(tau, temperature)
        self.shapes = tuple(shapes)
        self.reads_state = neck == "state"
        self.neck = nn.Identity() if self.reads_state else NECKS[neck](dim)
        self.adjust = nn.ModuleList(nn.Linear(dim, latent) for _ in shapes)
        self.generators = nn.ModuleList()
        for n_in, n_out in shapes:
            # A bias is the weight of an input that is always 1: one more row of the matrix.
            size = (n_in + 1, n_out) if form == "two_layer" else (1, (n_in + 1) * n_out)
            std = 1 / math.sqrt(3 * n_in)  # as nn.Linear starts: variance 1 / (3 · fan-in)
            one = [
                TwoLayerGenerator(*size, latent, rank, std, FROM_DEVICE)
                for _ in range(n_generators)
            ]
            joined = one[0] if n_generators == 1 else StableWeightAdapter(one, tau, temperature)
            self.generators.append(joined.requires_grad_(not frozen))

    def codes(self, clicks: Tensor, mask: Tensor, state: Tensor | None = None) -> list[Tensor]:
        """Eq. 5: `e^(n) = L_layer^(n)(E_share(S))`, one `[B, Z]` code for each dynamic layer.

        Raises:
            ValueError: if the neck is `state` and none is given.
        """
        if self.reads_state and state is None:
            raise ValueError("neck='state' reads the backbone's state: call the model's `layers`")
        shared = state if self.reads_state else self.neck(clicks, mask)  # [B, D]
        return [adjust(shared) for adjust in self.adjust]

    def forward(self, clicks: Tensor, mask: Tensor, state: Tensor | None = None) -> list[Layer]:
        """The dynamic layers of every device.

        Args:
            clicks: `[B, L, D]` embedded history. mask: `[B, L]`.
            state: `[B, D]` of the backbone, where the neck is `state`.

        Returns:
            For each dynamic layer, `weight [B, N_in, N_out]` and `bias [B, N_out]`.
        """
        codes = self.codes(clicks, mask, state)
        generated = (g(e) for g, e in zip(self.generators, codes, strict=True))
        return [
            split_bias(K.reshape(-1, n_in + 1, n_out))
            for K, (n_in, n_out) in zip(generated, self.shapes, strict=True)
        ]


NECKS = {"gru": Neck, "mean": MeanNeck}


def split_bias(K: Tensor) -> Layer:
    """`[B, N_in + 1, N_out]` to a layer: the last row is the bias, all others the weight."""
    return Layer(K[:, :-1], K[:, -1])


def ppg_loss(logits: Tensor, labels: Tensor, gamma: float = 1.0, t: Tensor | None = None) -> Tensor:
    """Eq. 7: cross-entropy, a session's t-th sample weighted by γ^t.

    The paper leaves `t` undefined. Here it is the place of a sample in its session, counted from 0:
    with γ < 1 "PPG pays more attention to the earlier samples", as the text says. Where a row has
    one target, t = 0 and γ does nothing.

    Args:
        logits, labels: `[B, C]`. gamma: γ of Table 5. t: `[B]`, or None for one target per session.

    Returns:
        The weighted mean over samples, a scalar.

    Raises:
        ValueError: if there is not one `t` for each row, or gamma is negative.

    Source: Chapter 4, Eq. (7).
    """
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    per_sample = loss.mean(1)  # [B]
    if t is None:
        return per_sample.mean()
    if t.shape != per_sample.shape:
        raise ValueError(f"t is of shape {list(t.shape)}: it must be [B], {list(per_sample.shape)}")
    number(0, gamma=gamma)
    weight = torch.pow(torch.as_tensor(gamma, device=t.device), t.to(logits.dtype))
    return (weight * per_sample).sum() / weight.sum()
