"""The Universal Meta Network: static layers that all devices share, dynamic ones from a source.

The source is what the methods of the paper differ in: one ordinary set of weights (Eq. 2), a
HyperNetwork that knows nothing of the device (Eq. 3 and 4), or a PPG that reads its clicks
(Eq. 5 to 9). Chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from data_prep.arguments import refuse, whole
from duetlib.backbones import DIN, Backbone, click_mask, last_click, refuse_gaps
from duetlib.dynamic import Layer, apply_layers
from duetlib.precision import full_precision
from duetlib.sessions import Sessions

LayersOf = Callable[[Sessions], Sequence[Layer]]  # the dynamic layers that each session gets


class OrdinaryLayers(nn.Module):
    """One set of weights for all devices: the classifier Θ_g^c of Eq. 2, started as `nn.Linear`.

    Args:
        shapes: `(N_in, N_out)` of each layer.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]]):
        super().__init__()
        self.weight, self.bias = nn.ParameterList(), nn.ParameterList()
        for n_in, n_out in shapes:
            bound = 1 / math.sqrt(n_in)
            self.weight.append(torch.empty(n_in, n_out).uniform_(-bound, bound))
            self.bias.append(torch.empty(n_out).uniform_(-bound, bound))

    def forward(self, clicks: Tensor, mask: Tensor) -> list[Layer]:
        """The layers, whatever was clicked."""
        return [Layer(w, b) for w, b in zip(self.weight, self.bias, strict=True)]


class UniversalMetaNetwork(nn.Module):
    """A recommender whose last layers come from a source.

    A history with a 0 before a click is refused by every method here, but while training, where
    none comes from outside (`backbones.refuse_gaps`).

    Args:
        backbone: static layers. n_items: items, ids from 1. source: maps embedded clicks
            `[B, L, D]` and their mask `[B, L]` to the dynamic layers.

    Its methods take ids as `[B, L]` and `[B, C]` whole numbers from 0 to `n_items`, and work in
    32 or 64 bits. Anything else is a ValueError; an id beyond `n_items` on a GPU is CUDA's error.

    Source: Chapter 3, Eq. (2); Section 3.2.
    """

    def __init__(self, backbone: Backbone, n_items: int, source: nn.Module):
        super().__init__()
        whole(1, n_items=n_items)
        self.items = nn.Embedding(n_items + 1, backbone.dim, padding_idx=0)
        with torch.no_grad():
            self.items.weight *= 0.1  # dot products near 0 at the start, not near √D
        self.backbone, self.source = backbone, source

    def layers(self, history: Tensor) -> list[Layer]:
        """The dynamic layers for each session: what the cloud sends.

        Args:
            history: `[B, L]`.
        """
        refuse_gaps(history)
        return self._layers(self._look_up("history", history), click_mask(history))

    def _look_up(self, name: str, ids: Tensor) -> Tensor:
        """The embedded ids `[B, L, D]`. Nothing is read from a GPU."""
        full_precision(self.items.weight)
        if ids.dim() != 2 or ids.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"{name} is a tensor {list(ids.shape)} of {ids.dtype}: it must be ids in two "
                "dimensions, a row for each session, as torch.int64"
            )
        try:
            return self.items(ids)
        except IndexError:  # on the CPU alone
            beyond = ids[(ids < 0) | (ids >= self.items.num_embeddings)]
            allowed = f"an item, 1 to {self.items.num_embeddings - 1}, or 0 for padding"
            raise refuse(f"an id of {name}", int(beyond[0]), allowed) from None

    def _look_up_both(self, history: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded clicks and candidates, of as many sessions."""
        clicks = self._look_up("history", history)
        items = self._look_up("candidates", candidates)
        if len(clicks) != len(items):
            raise ValueError(
                f"history is of {len(clicks)} sessions, candidates are of {len(items)}: "
                "give a row of each for every session"
            )
        return clicks, items

    def features(self, history: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """What the static layers alone give: features `[B, C or 1, N_in]`, items `[B, C, D]`."""
        refuse_gaps(history)
        clicks, items = self._look_up_both(history, candidates)
        return self.backbone(clicks, click_mask(history), items), items

    def rank(self, history: Tensor, candidates: Tensor, layers: Sequence[Layer]) -> Tensor:
        """Logits `[B, C]` with given layers: what the device computes.

        Args:
            history: `[B, L]`. candidates: `[B, C]`.
        """
        features, items = self.features(history, candidates)
        return self.backbone.score(apply_layers(features, layers), items)

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        """Cloud and device together: `[B, L]` and `[B, C]` ids to `[B, C]` logits."""
        if not self.training:
            refuse_gaps(history)
        # As `rank` with `layers`, but the clicks are looked up once for both.
        clicks, items = self._look_up_both(history, candidates)
        mask = click_mask(history)
        features = self.backbone(clicks, mask, items)
        layers = self._layers(clicks, mask, features)
        return self.backbone.score(apply_layers(features, layers), items)

    def _layers(self, clicks: Tensor, mask: Tensor, features: Tensor | None = None) -> list[Layer]:
        if not getattr(self.source, "reads_state", False):
            return self.source(clicks, mask)
        if features is None or isinstance(self.backbone, DIN):  # whose features see the candidate
            features = self.backbone(clicks, mask, last_click(clicks, mask).unsqueeze(1))
        return self.source(clicks, mask, features.squeeze(1))
