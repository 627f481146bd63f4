"""Figures of chapter 11, beyond the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from duetbook.plots.chapter7 import BACKBONES
from duetbook.plots.chapter10 import CLOUD, DEVICE, _arrow, _box
from duetbook.style import COLORS, INK

SMALLER: dict[str, dict[str, Any]] = {
    "rounded": {"label": "rounded", "color": COLORS["orange"], "ls": "-.", "marker": "^"},
    "difference": {
        "label": "difference rounded",
        "color": COLORS["purple"],
        "ls": ":",
        "marker": "s",
    },
    "axes": {"label": "coordinates", "color": COLORS["blue"], "ls": "-", "marker": "D"},
}
RULES: dict[str, dict[str, Any]] = {
    "every": {"label": "every n-th click", "color": COLORS["orange"], "ls": "-.", "marker": "^"},
    "at random": {"label": "at random", "color": COLORS["grey"], "ls": ":", "marker": "s"},
    "when moved": {"label": "when moved", "color": COLORS["blue"], "ls": "-", "marker": "D"},
}
TRAINED: dict[str, dict[str, Any]] = {
    "usual": {"label": "trained as usual", "color": COLORS["orange"], "ls": "-.", "marker": "^"},
    "late": {
        "label": "made to last",
        "color": COLORS["blue"],
        "ls": "-",
        "marker": "D",
    },
}


def where_we_are() -> None:
    """A device, a cloud, and the three things that this chapter makes smaller."""
    _, ax = plt.subplots(figsize=(7, 2.9))
    ax.set(xlim=(0, 10), ylim=(0, 4.1))
    ax.axis("off")
    for y in (0.75, 2.05, 3.35):
        _box(ax, 1.2, y, (1.6, 0.7), "device", DEVICE)
    _box(ax, 8.6, 2.05, (2.2, 1.5), "cloud", CLOUD)
    for y in (0.75, 2.05, 3.35):
        _arrow(ax, (2.1, y + 0.12), (7.4, 2.05 + (y - 2.05) * 0.3 + 0.12), INK)
        _arrow(ax, (7.4, 2.05 + (y - 2.05) * 0.3 - 0.12), (2.1, y - 0.12), CLOUD)
    ax.text(4.2, 3.62, "how often to ask?", ha="center", weight="bold", fontsize=11)
    ax.text(4.2, 0.4, "how many bytes back?", ha="center", weight="bold", color=CLOUD, fontsize=11)
    ax.text(8.6, 3.35, "how many\ndevices at once?", ha="center", weight="bold", fontsize=11)
    plt.show()


def _panels(ylabel: str, height: float = 3.3) -> dict[str, Axes]:
    """A panel for each backbone, all to one scale."""
    fig, axes = plt.subplots(1, len(BACKBONES), figsize=(7, height), sharex=True, sharey=True)
    for ax, title in zip(axes, BACKBONES.values(), strict=True):
        ax.set_title(title)
    axes[0].set_ylabel(ylabel)
    return dict(zip(BACKBONES, axes, strict=True))


def _line(ax: Axes, x: pd.Series, table: pd.DataFrame, style: Mapping[str, Any]) -> None:
    """Means with their intervals, joined by a line."""
    reach = np.abs(table[["low", "high"]].to_numpy() - table[["mean"]].to_numpy()).T
    ax.errorbar(x, table["mean"], reach, ms=5, elinewidth=1.2, lw=1.6, capsize=0, **style)


def _legend(ax: Axes, columns: int) -> None:
    handles, labels = ax.get_legend_handles_labels()
    fig = ax.get_figure()
    fig.legend(handles, labels, loc="outside lower center", ncols=columns)  # type: ignore[union-attr]


def bytes_and_loss(loss: pd.DataFrame, whole: int, lowest: float) -> None:
    """What smaller downloads lose, as a share of DUET's gain: -1 is the base. With intervals.

    Args:
        loss: of `tables.against` the whole download, divided by the gain; with `kind` and `bytes`.
        whole: bytes of the whole download. lowest: end of the axis; what lies below it is drawn at
            its edge, hollow.
    """
    panels = _panels("lost of DUET's gain", 3.6)
    for backbone, ax in panels.items():
        for level, dashes in ((0, "-"), (-1, "--")):
            ax.axhline(level, color=COLORS["grey"], lw=1.2, ls=dashes)
        ax.axvline(whole, color=COLORS["grey"], lw=1, ls=":")
        place = (whole, 0.97 * lowest)
        ax.annotate(
            "whole", place, rotation=90, ha="right", va="bottom", color=COLORS["grey"], fontsize=10
        )
        for kind, style in SMALLER.items():
            of = loss[(loss["backbone"] == backbone) & (loss["kind"] == kind)]
            of = of.sort_values("bytes")
            seen, gone = of[of["mean"] >= lowest], of[of["mean"] < lowest]
            _line(ax, seen["bytes"], seen, style)
            edge = {"ls": "", "marker": "v", "ms": 8, "mfc": "none", "color": style["color"]}
            ax.plot(gone["bytes"], np.full(len(gone), 0.96 * lowest), **edge)
        ax.set(xscale="log", ylim=(lowest, 0.15), xlim=(3, 15_000))
        ax.set_xticks([10, 100, 1000], ["10", "100", "1,000"])
        ax.set_yticks([0, -0.5, -1], ["nothing", "half", "all of it"])
        ax.minorticks_off()
    panels["sasrec"].set_xlabel("bytes of a download")
    _legend(panels["sasrec"], 3)
    plt.show()


def ages(table: pd.DataFrame, kinds: Sequence[str] = tuple(TRAINED)) -> None:
    """How far DUET is ahead of the base with layers of some clicks ago, with intervals.

    Args:
        table: of `tables.against` the base, with `kind` and `age`. kinds: those that are drawn.
    """
    panels = _panels("AUC less the base's")
    for backbone, ax in panels.items():
        ax.axhline(0, color=COLORS["grey"], lw=1.2, ls="--")
        for kind in kinds:
            of = table[(table["backbone"] == backbone) & (table["kind"] == kind)]
            _line(ax, of["age"], of, TRAINED[kind])
        ax.set_xticks(range(int(table["age"].max()) + 1))
    panels["sasrec"].set_xlabel("age of the layers, clicks")
    if len(kinds) > 1:
        _legend(panels["sasrec"], len(kinds))
    plt.show()


def asks(table: pd.DataFrame, kind: str) -> None:
    """How far DUET is ahead of the base when it asks at a share of the clicks, by rule.

    Args:
        table: of `tables.against` the base, with `kind`, `rule` and `asks`; all of it sets the
            upper end. kind: of `TRAINED`, the one that is drawn.
    """
    panels = _panels("AUC less the base's")
    low, high = table["low"][table["kind"] == kind].min(), table["high"].max()
    low = min(low, -0.1 * high)
    for backbone, ax in panels.items():
        ax.axhline(0, color=COLORS["grey"], lw=1.2, ls="--")
        for rule, style in RULES.items():
            of = table[(table["backbone"] == backbone) & (table["rule"] == rule)]
            of = of[of["kind"] == kind].sort_values("asks")
            _line(ax, of["asks"], of, style)
        ax.set(xlim=(0, 1.05), ylim=(low - 0.05 * (high - low), high + 0.05 * (high - low)))
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    panels["sasrec"].set_xlabel("requests per click")
    _legend(panels["sasrec"], 3)
    plt.show()


def moves(titles: Sequence[str], moved: Sequence[float], asked: Sequence[bool], far: float) -> None:
    """One user's clicks, and how far each has moved the embedding since the last request.

    Args:
        titles: of the films clicked, in order. moved: the distance after each. asked: whether the
            device asks then. far: the distance from which it does.
    """
    _, ax = plt.subplots(figsize=(7, 0.36 * len(titles) + 0.9))
    places = np.arange(len(titles))
    colors = [COLORS["blue"] if ask else COLORS["grey"] for ask in asked]
    ax.barh(places, moved, color=colors, height=0.62)
    ax.axvline(far, color=INK, lw=1.2, ls="--")
    names = [title.rpartition(" (")[0] or title for title in titles]  # without the year
    ax.set_yticks(places, [name if len(name) < 32 else name[:30] + "…" for name in names])
    ax.set_ylabel("clicked, from first to last")
    ax.invert_yaxis()
    for y, (distance, ask) in enumerate(zip(moved, asked, strict=True)):
        if ask:
            ax.text(
                distance + 0.02 * far, y, "asks", va="center", color=COLORS["blue"], fontsize=10
            )
    ax.set_xlim(0, 1.15 * max(*moved, far))
    ax.set_xlabel("moved since the last request, in usual moves")
    plt.show()
