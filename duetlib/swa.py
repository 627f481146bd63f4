"""The Stable Weight Adapter: M generators, blended by how much they agree (Eq. 8 and 9).

Chapter 5. What the paper does not say, and what we take it to be: one vector p for each dynamic
layer, from its first matrices W_1; and the same p for W_2, B_1 and B_2, since p weighs generators,
and a generator is all four.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from data_prep.arguments import number, one_of, refuse
from duetlib.hypernetwork import TwoLayerGenerator, generate

Temperature = Literal["as_printed", "tempered"]


def self_similarity(W: Tensor) -> Tensor:
    """`S = W' W'^T`: inner products of the M generators' flattened matrices.

    Args:
        W: `[M, ...]`.

    Returns:
        `[M, M]`.

    Source: Chapter 5, above Eq. (8).
    """
    flat = W.flatten(1)  # [M, R·d·Z]
    return flat @ flat.T


def row_sums(S: Tensor) -> Tensor:
    """`p'`: each generator's agreement with all of them, itself included. `[M, M]` to `[M]`."""
    return S.sum(1)


def adapter_weights(p_prime: Tensor, tau: float, temperature: Temperature = "tempered") -> Tensor:
    """Eq. 8: `[M]` row sums to the M weights of the blend.

    `as_printed`: `softmax((p'/τ) / Σ(p'/τ))`, in which τ cancels. `tempered`:
    `softmax(p' / (τ Σp'))`, the same at τ = 1. Single row sums may be zero or negative: softmax
    does not mind. Their total is the squared length of ΣW', never negative; where it is zero, all
    row sums are, and p is uniform.

    Raises:
        ValueError: for a temperature that is not positive, or an unknown kind.

    Source: Chapter 5, Eq. (8).
    """
    if not 0 < tau < math.inf:  # in every training step: short
        raise refuse("tau", tau, "a number above 0")
    if temperature == "as_printed":
        return torch.softmax(_shares(p_prime / tau), dim=0)
    if temperature == "tempered":
        return torch.softmax(_shares(p_prime) / tau, dim=0)
    raise refuse("temperature", temperature, "'as_printed' or 'tempered'")


def check_temperature(tau: float, temperature: Temperature) -> None:
    """Refuse a tau that is not a number above 0, or an unknown kind of temperature."""
    number(0, above=True, tau=tau)
    one_of(get_args(Temperature), temperature=temperature)


def _shares(p_prime: Tensor) -> Tensor:
    """`p' / Σp'`. Where generators cancel, the sum is rounding noise, and is kept above that."""
    info = torch.finfo(p_prime.dtype)
    return p_prime / p_prime.sum().clamp(min=info.eps * p_prime.abs().sum() + info.tiny)


def blend(p: Tensor, W: Tensor) -> Tensor:
    """Eq. 9: `Σ_i p_i W'_i` over the M generators, `[M]` and `[M, ...]` to `[...]`."""
    return torch.tensordot(p, W, dims=1)


class StableWeightAdapter(nn.Module):
    """M generators of one dynamic layer, blended into one before they generate.

    Args:
        generators: M of the same shape. tau, temperature: see `adapter_weights`.

    Averaging M independent matrices shrinks them by √M, so each starts √M larger: the blend starts
    as the ordinary layer that a single generator starts as.

    Raises:
        ValueError: if there are no generators, or of unlike sizes, and as `adapter_weights`.

    Source: Chapter 5, Eq. (8) and (9).
    """

    def __init__(
        self,
        generators: Sequence[TwoLayerGenerator],
        tau: float = 1.0,
        temperature: Temperature = "tempered",
    ):
        super().__init__()
        if not generators:
            raise ValueError("the adapter needs at least one generator")
        sizes = {tuple(tuple(p.shape) for p in g.parameters()) for g in generators}
        if len(sizes) > 1:
            raise ValueError(f"the generators are of {len(sizes)} sizes: they must be of one")
        check_temperature(tau, temperature)
        self.tau, self.temperature = tau, temperature
        grow = math.sqrt(len(generators))

        def stack(name: str) -> nn.Parameter:
            return nn.Parameter(torch.stack([getattr(g, name).detach() for g in generators]) * grow)

        self.W_1, self.B_1 = stack("W_1"), stack("B_1")  # [M, R, d, Z], [M, R, d]
        self.W_2, self.B_2 = stack("W_2"), stack("B_2")  # [M, d, N], [M, N]

    def p(self) -> Tensor:
        """`[M]` the weight of each generator."""
        return adapter_weights(row_sums(self_similarity(self.W_1)), self.tau, self.temperature)

    def blended(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`W_1, B_1, W_2, B_2` of the one generator that the M amount to."""
        p = self.p()
        return blend(p, self.W_1), blend(p, self.B_1), blend(p, self.W_2), blend(p, self.B_2)

    def forward(self, e: Tensor) -> Tensor:
        """`[B, Z]` codes to `[B, R, N]` matrices."""
        return generate(e, *self.blended())

    @torch.no_grad()
    def fold(self) -> TwoLayerGenerator:
        """The one generator that the M amount to: after training, nothing else is needed."""
        rows, rank, latent = self.W_1.shape[1:]
        folded = TwoLayerGenerator(rows, self.W_2.shape[2], latent, rank, std=1.0)
        folded.to(self.W_1.device)
        for parameter, value in zip(
            (folded.W_1, folded.B_1, folded.W_2, folded.B_2), self.blended(), strict=True
        ):
            parameter.copy_(value)
        return folded


def fold_adapters(ppg: nn.Module) -> nn.Module:
    """A copy of a PPG with its adapters folded: the same layers, M times fewer numbers."""
    folded = copy.deepcopy(ppg)
    generators = folded.get_submodule("generators")
    for name, g in list(generators.named_children()):
        if isinstance(g, StableWeightAdapter):
            setattr(generators, name, g.fold())
    for part in folded.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()  # cuDNN wants a copy's weights in one piece
    return folded
