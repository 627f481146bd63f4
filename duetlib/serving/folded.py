"""A trained PPG as a service needs it: the neck, and everything behind it folded into one map.

Between the neck's output and the generated numbers nothing bends (Eq. 5, 6, 8 and 9): linear
layers, generators and adapters are affine, so together they are `numbers = shared @ W + b`.
Chapter 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_prep.arguments import whole
from duetlib.backbones import click_mask, last_click, refuse_gaps
from duetlib.ppg import PPG
from duetlib.swa import fold_adapters
from duetlib.umn import UniversalMetaNetwork


class Generator:
    """A trained model's neck, and the one affine map that follows it.

    Args:
        model: with a trained `PPG`. length: L, of the histories that it was trained on.

    Raises:
        ValueError: if the model has no PPG, or `length` is none.

    Source: Chapter 10.
    """

    def __init__(self, model: UniversalMetaNetwork, length: int):
        if not isinstance(model.source, PPG):
            raise ValueError("only a model with a PPG (method duet...) generates for each device")
        whole(1, length=length)
        self.model, self.length = model.eval(), length
        self.n_items = model.items.num_embeddings - 1
        self.W, self.b = fold(model.source)  # [D, P], [P]

    @torch.inference_mode()
    def __call__(self, rows: Sequence[Tensor]) -> np.ndarray:
        """`[B, P]` generated numbers.

        Args:
            rows: for each request its `[L]` history (int64) or its `[D]` embedding (float32).
        """
        shared = torch.empty(len(rows), len(self.W))  # [B, D]
        raw = [n for n, row in enumerate(rows) if row.dtype == torch.int64]
        ready = [n for n, row in enumerate(rows) if row.dtype != torch.int64]
        if raw:
            shared[raw] = encode(self.model, torch.stack([rows[n] for n in raw]))
        if ready:
            shared[ready] = torch.stack([rows[n] for n in ready])
        return torch.addmm(self.b, shared, self.W).numpy()


def encode(model: UniversalMetaNetwork, history: Tensor) -> Tensor:
    """E_share of Eq. 5: what the neck makes of `[B, L]` clicks, `[B, D]`; the embedding to upload.

    The paper's embedding, 0.25 KB, is 64 floats, the size of one layer's code. Here it is the one
    vector that all layers share, so that the linear layers L_layer stay in the cloud.

    Raises:
        ValueError: for a history with a 0 before a click (`backbones.refuse_gaps`).
    """
    refuse_gaps(history)
    clicks, mask = model.items(history), click_mask(history)
    if getattr(model.source, "reads_state", False):
        return model.backbone(clicks, mask, last_click(clicks, mask).unsqueeze(1)).squeeze(1)
    return model.source.neck(clicks, mask)  # type: ignore[operator]


@torch.no_grad()
def fold(ppg: nn.Module) -> tuple[Tensor, Tensor]:
    """`W [D, P]` and `b [P]` of the one affine map that follows the neck.

    Found by asking: the map of 0 is `b`, and that of each unit vector a row of `W`, plus `b`.
    """
    folded: Any = fold_adapters(ppg).double()
    dim = folded.adjust[0].in_features
    probes = torch.cat([torch.zeros(1, dim), torch.eye(dim)]).double()  # [1 + D, D]
    parts = zip(folded.adjust, folded.generators, strict=True)
    numbers = torch.cat([g(adjust(probes)).flatten(1) for adjust, g in parts], dim=1)
    return (numbers[1:] - numbers[0]).float(), numbers[0].float()
