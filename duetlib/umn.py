"""The Universal Meta Network: static layers that all devices share, dynamic ones from a source.

The source is what the methods of the paper differ in: one ordinary set of weights (Eq. 2), a
HyperNetwork that knows nothing of the device (Eq. 3 and 4), or a PPG that reads its clicks
(Eq. 5 to 9). Chapter 3.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.arguments import one_of, refuse, whole
from duetlib.backbones import BACKBONES, DIN, Backbone, click_mask, last_click, refuse_gaps
from duetlib.controls import BiasOnly, NeckAsInput
from duetlib.dynamic import Layer, apply_layers
from duetlib.hypernetwork import HyperNetwork
from duetlib.ppg import PPG
from duetlib.precision import full_precision

METHODS = (
    "base",
    "hypernetwork",
    "duet_no_swa",
    "duet",
    "duet_as_released",
    "bias_only",
    "neck_as_input",
    "neck_as_input_small",
    "wide_head",
)


# Of the PPG; `dim` and `shapes` come from the backbone.
PPG_SETTINGS = tuple(inspect.signature(PPG).parameters)[2:]


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


def wide_as_duet(static: Backbone) -> list[tuple[int, int]]:
    """The shapes of an ordinary head, one hidden layer, with as many parameters as a PPG.

    Source: Chapter 7.
    """
    n_in, n_out = static.shapes[0][0], static.shapes[-1][1]
    budget = sum(p.numel() for p in PPG(static.dim, static.shapes).parameters())
    hidden = round((budget - n_out) / (n_in + 1 + n_out))
    return [(n_in, hidden), (hidden, n_out)]


def build(backbone: str, method: str, n_items: int, **ppg: Any) -> UniversalMetaNetwork:
    """A fresh model by name.

    Args:
        backbone: `din`, `din_concat`, `sasrec` or `gru4rec`. method: one of `METHODS`.
        n_items: items, ids from 1. ppg: settings of the `PPG` (`rank`, `form`, `neck`, `tau`,
            `temperature`, `n_generators`); `duet` has `n_generators=5` unless told otherwise.

    Raises:
        ValueError: for an unknown name, settings that no PPG has, PPG settings with a method that
            has no PPG, or a neck that cannot read the backbone's state.

    Source: Chapter 3.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone {backbone!r} is not one of {', '.join(BACKBONES)}")
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}")
    static = BACKBONES[backbone]()
    if ppg and not method.startswith("duet"):
        raise ValueError(f"method {method!r} has no PPG to take {', '.join(ppg)}")
    for name in ppg:
        one_of(PPG_SETTINGS, **{"a setting of the PPG": name})
    if backbone == "din_concat" and ppg.get("neck") == "state":
        raise ValueError("neck='state' reads D numbers, but din_concat's features are 2·D")
    source: nn.Module
    if method == "base":
        source = OrdinaryLayers(static.shapes)
    elif method == "hypernetwork":
        widths = [n for shape in static.shapes for n in shape if n > 1]
        side = math.gcd(*widths) // 2  # so that every kernel is put together from blocks
        outs = [shape[1] for shape in static.shapes]
        source = HyperNetwork(static.shapes, (side, math.gcd(side, *outs)))
    elif method == "bias_only":
        source = BiasOnly(static.dim, static.shapes)
    elif method.startswith("neck_as_input"):
        source = NeckAsInput(static.dim, static.shapes, small=method.endswith("small"))
    elif method == "wide_head":
        source = OrdinaryLayers(wide_as_duet(static))
    else:
        fixed: dict[str, dict[str, Any]] = {
            "duet": {"n_generators": 5},
            "duet_as_released": {"frozen": True},
        }
        source = PPG(static.dim, static.shapes, **{**fixed.get(method, {}), **ppg})
    return UniversalMetaNetwork(static, n_items, source)
