"""Figures of chapter 3: where the network sits, what masks hide, learning curves, ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from duetbook.style import COLORS, INK

# From a pale grey, not from white, which a dark page would turn into black.
WEIGHTS = LinearSegmentedColormap.from_list("weights", ["#e6e9ee", "#7fb2d6", COLORS["blue"]])
BACKBONE_STYLE = {
    "din": {"color": COLORS["orange"], "marker": "s", "label": "DIN"},
    "sasrec": {"color": COLORS["green"], "marker": "^", "label": "SASRec"},
    "gru4rec": {"color": COLORS["purple"], "marker": "o", "label": "GRU4Rec"},
}


def _box(ax: Axes, xy: tuple[float, float], text: str, color: str, new: bool) -> None:
    """A box of 2.2 × 1.0 around a point: filled if the chapter builds it, dashed if it does not."""
    x, y = xy
    ax.add_patch(
        FancyBboxPatch(
            (x - 1.1, y - 0.5),
            2.2,
            1.0,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=color + "26" if new else "none",
            edgecolor=color,
            linestyle="-" if new else "--",
            linewidth=1.8,
        )
    )
    ax.text(x, y, text, ha="center", va="center")


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.8})


def place() -> None:
    """The network in the whole: static layers, dynamic layers, and who fills the latter."""
    _, ax = plt.subplots(figsize=(7, 4.0))
    grey, blue, orange = COLORS["grey"], COLORS["blue"], COLORS["orange"]
    row = (1.2, 4.2, 7.2)
    _box(ax, (row[0], 0.8), "clicks,\ncandidates", grey, new=False)
    _box(ax, (row[1], 0.8), "static layers\n" r"$\Theta_g^b$", blue, new=True)
    _box(ax, (row[2], 0.8), "dynamic layers\n" r"$\Theta_g^c$", orange, new=True)
    for a, b in ((row[0], row[1]), (row[1], row[2])):
        _arrow(ax, (a + 1.15, 0.8), (b - 1.15, 0.8), INK)
    _arrow(ax, (row[2] + 1.15, 0.8), (9.2, 0.8), INK)
    ax.text(9.3, 0.8, "scores", va="center")
    above = (
        "one ordinary set\n(this chapter)",
        "a HyperNetwork\n(chapter 2)",
        "PPG and SWA\n(4 and 5)",
    )
    for x, text in zip((1.7, 5.2, 8.7), above, strict=True):
        new = "this" in text
        _box(ax, (x, 3.6), text, orange if new else grey, new=new)
        _arrow(ax, (x, 3.05), (row[2] + 0.3 * (x - 5.2) / 3.5, 1.4), orange if new else grey)
    ax.text(0.1, 2.2, "who fills the\ndynamic layers?", va="center", color=grey)
    ax.set(xlim=(0, 10.4), ylim=(0.1, 4.3))
    ax.axis("off")


def _grid(
    ax: Axes, values: Tensor, rows: Sequence[str], columns: Sequence[str], title: str, digits: int
) -> None:
    """A matrix as coloured squares with its numbers in them; zeros as a small dot."""
    top = max(float(values.max()), 1e-9)
    ax.imshow(values.numpy(), cmap=WEIGHTS, vmin=0, vmax=top)
    for i, line in enumerate(values.tolist()):
        for j, value in enumerate(line):
            color = "#f7f8fa" if value > 0.65 * top else INK
            text = f"{value:.{digits}f}" if value else "·"
            ax.text(j, i, text, ha="center", va="center", color=color, fontsize=10)
    ax.set_xticks(range(len(columns)), columns, rotation=90)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title)


def masks(padding: Tensor, causal: Tensor, films: Sequence[str]) -> None:
    """What each mask lets through, side by side, and both together.

    Args:
        padding: `[L]` True at real clicks. causal: `[L, L]`. films: names of the L places.
    """
    steps = len(films)
    panels = {
        "padding": padding.expand(steps, steps),
        "causal": causal,
        "both": causal & padding,
    }
    _, axes = plt.subplots(1, 3, figsize=(7, 3.4), sharey=True)
    for ax, (title, allowed) in zip(axes, panels.items(), strict=True):
        _grid(ax, allowed.float(), films, films, title, digits=0)
    axes[0].set_ylabel("who looks")
    axes[1].set_xlabel("at whom (1: may look)")


def attention(
    panels: Mapping[str, Tensor], rows: Sequence[str], columns: Sequence[str], digits: int = 2
) -> None:
    """Attention weights, one matrix a panel.

    Args:
        panels: title to `[rows, columns]` weights.
    """
    height = 1.6 + 0.36 * len(rows)
    _, axes = plt.subplots(1, len(panels), figsize=(7, height), sharey=True, squeeze=False)
    for ax, (title, weights) in zip(axes[0], panels.items(), strict=True):
        _grid(ax, weights, rows, columns, title, digits)


def learning_curve(
    live: Sequence[Mapping[str, float]], recorded: Sequence[Mapping[str, float]], best_epoch: int
) -> None:
    """Loss and validation AUC by epoch: this run over a recorded one, and the epoch it kept.

    Args:
        live, recorded: `epoch`, `loss` and `valid_auc` of each epoch. best_epoch: of the record.
    """
    _, axes = plt.subplots(1, 2, figsize=(7, 3.0))
    for ax, what, label in zip(axes, ("loss", "valid_auc"), ("training loss", "validation AUC"),
                               strict=True):  # fmt: skip
        for curve, style, name in (
            (recorded, {"color": COLORS["grey"], "linestyle": "--"}, "recorded run"),
            (live, {"color": COLORS["blue"], "marker": "o"}, "this run"),
        ):
            ax.plot([e["epoch"] for e in curve], [e[what] for e in curve], label=name, **style)
        ax.axvline(best_epoch, color=COLORS["orange"], linestyle=":", label="epoch kept")
        ax.set(xlabel="epoch", title=label)
    axes[0].legend(loc="upper center")


def ranks(full: Tensor, sampled: Tensor, n_items: int, k: int = 10) -> None:
    """Rank among 101 against rank among all items, one dot a session; both top tens are shaded.

    Args:
        full, sampled: `[N]` ranks from 1. n_items: how many items a user
            has not seen, about: the expected line ends there.
    """
    _, ax = plt.subplots(figsize=(7, 3.6))
    ax.axhspan(0.9, k, color=COLORS["sky"], alpha=0.18, label=f"top {k} of the sample")
    ax.axvspan(0.9, k, color=COLORS["amber"], alpha=0.22, label=f"top {k} of all")
    ax.scatter(full, sampled, s=9, color=COLORS["blue"], alpha=0.45, linewidth=0)
    expected = [1 + 100 * (x - 1) / (n_items - 1) for x in range(1, n_items + 1)]
    ax.plot(range(1, n_items + 1), expected, color=INK, linewidth=1.4, label="expected")
    ax.set(xscale="log", yscale="log", xlim=(0.9, 1.1 * float(full.max())), ylim=(0.9, 120))
    ax.set(xlabel="rank of the right film among all", ylabel="rank among 101")
    ax.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    ax.set_yticks([1, 10, 100], ["1", "10", "100"])
    ax.legend(loc="upper left")


def base_records(records: pd.DataFrame) -> None:
    """Test AUC of each backbone's base model: a mark for each seed, a bar for the mean.

    Args:
        records: with columns `backbone` and `auc`, a row for each seed.
    """
    _, ax = plt.subplots(figsize=(7, 2.4))
    names = [name for name in BACKBONE_STYLE if name in set(records["backbone"])]
    for y, name in enumerate(names):
        auc = records.loc[records["backbone"] == name, "auc"]
        style: dict[str, Any] = BACKBONE_STYLE[name]
        ax.scatter(
            auc, [y] * len(auc), s=60, color=style["color"], marker=style["marker"], alpha=0.7
        )
        ax.plot([auc.mean()] * 2, [y - 0.28, y + 0.28], color=INK)
    ax.set_yticks(range(len(names)), [BACKBONE_STYLE[name]["label"] for name in names])
    ax.set(
        xlabel="test AUC (a mark for each seed, a line at the mean)", ylim=(-0.6, len(names) - 0.4)
    )
