"""Every method by name: DUET, what it is made of, and what it is held against. Chapters 3 and 7."""

from __future__ import annotations

import inspect
import math
from typing import Any

from torch import nn

from data_prep.arguments import one_of
from duetlib.backbones import BACKBONES, Backbone
from duetlib.controls import BiasOnly, NeckAsInput
from duetlib.hypernetwork import HyperNetwork
from duetlib.ppg import PPG
from duetlib.umn import OrdinaryLayers, UniversalMetaNetwork

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
