"""Figures of chapter 6, fine-tuning on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from duetbook.plots.chapter5 import arrow, box
from duetbook.style import COLORS, INK, METHOD_STYLE

STYLE: dict[str, dict[str, Any]] = {
    "base": METHOD_STYLE["base"],
    "finetune": {
        "label": "fine-tuning",
        "color": COLORS["green"],
        "linestyle": (0, (5, 1)),
        "marker": "s",
    },
    "duet": METHOD_STYLE["duet"],
}
# The looks of lines that are told apart by order alone: users, rates.
LOOKS = (
    {"color": COLORS["blue"], "linestyle": "-", "marker": "o"},
    {"color": COLORS["orange"], "linestyle": "--", "marker": "^"},
    {"color": COLORS["purple"], "linestyle": "-.", "marker": "s"},
    {"color": COLORS["amber"], "linestyle": ":", "marker": "D"},
)


def where_we_are() -> None:
    """Two ways to a model of one's own: trained on the device, or written in the cloud."""
    _, ax = plt.subplots(figsize=(7, 4.6))
    ax.set(xlim=(0, 10), ylim=(0, 6.8))
    ax.axis("off")
    grey, green, blue = (COLORS[c] for c in ("grey", "green", "blue"))
    ax.text(0.0, 6.5, "cloud", weight="bold", va="center")
    ax.text(0.0, 3.2, "device", weight="bold", va="center")
    ax.axhline(3.55, color=grey, lw=1, ls=":")
    ax.axvline(5.9, ymin=0.02, ymax=0.98, color=grey, lw=1, ls=":")
    ax.text(3.45, 6.5, "Fine-tuning (this chapter)", ha="center", va="center", color=green)
    ax.text(7.95, 6.5, "DUET (chapters 4, 5)", ha="center", va="center", color=blue)
    box(ax, 2.1, 4.4, 2.7, 1.3, "base model\n$\\Theta_g$, trained once", grey)
    box(ax, 1.0, 1.45, 2.1, 1.3, "own clicks\nwith labels", green)
    box(ax, 3.7, 1.45, 2.0, 1.3, "own model\n$\\Theta_d$", green)
    arrow(ax, (4.1, 4.4), (4.6, 2.75))
    ax.text(4.5, 3.85, "once", va="center", fontsize=10.5)
    arrow(ax, (3.1, 2.1), (3.7, 2.1))
    arrow(ax, (4.3, 1.45), (2.4, 1.45), -0.45)
    ax.text(3.35, 0.3, "loss, gradient, step: repeat", ha="center", va="center", fontsize=10.5)
    box(ax, 6.6, 4.4, 2.9, 1.3, "generator\nwrites the layers", blue)
    box(ax, 6.3, 1.45, 1.5, 1.3, "clicks,\nno labels", blue)
    box(ax, 8.2, 1.45, 1.6, 1.3, "own\nlayers", blue)
    arrow(ax, (7.0, 2.75), (7.4, 4.4))
    arrow(ax, (8.7, 4.4), (9.0, 2.75))
    ax.text(8.05, 0.3, "nothing is trained here", ha="center", va="center", fontsize=10.5)
    plt.show()


def live(watched: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """Some users' fine-tuning, step by step: the loss on their own clicks, and the held-out score.

    Args:
        watched: for each user the loss and the score, from step 0.
    """
    _, axes = plt.subplots(1, 2, figsize=(7, 3.6))
    titles = ("Loss on own clicks", "Score on held-out clicks")
    for k, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        for (user, curves), look in zip(watched.items(), LOOKS, strict=False):
            ax.plot(range(len(curves[k])), curves[k], **{**look, "marker": None}, label=user)
        ax.set(title=title, xlabel="step")
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("cross-entropy")
    axes[1].set_ylabel("user AUC")
    axes[0].legend(loc="lower left")
    plt.show()


def sweep(tried: pd.DataFrame, own_at_start: float) -> None:
    """All users: the loss on own clicks and the change of the validation score, over the steps.

    Args:
        tried: a row for each setting: `rate`, `steps`, `own` (mean loss), and `gain`, `low`, `high`
            (mean change of the score and its interval). own_at_start: the loss before any step.
    """
    _, (left, right) = plt.subplots(1, 2, figsize=(7, 3.8))
    for (rate, part), look in zip(tried.groupby("rate"), LOOKS, strict=False):
        left.plot(part.steps, part.own, **look, label=f"rate {rate:g}")
        right.plot(part.steps, part.gain, **look)
        right.fill_between(part.steps, part.low, part.high, color=look["color"], alpha=0.18, lw=0)
    left.axhline(own_at_start, color=INK, lw=1, ls=":")
    right.axhline(0, color=INK, lw=1, ls=":")
    left.text(tried.steps.max(), own_at_start, "base", ha="right", va="bottom", fontsize=10)
    left.set(title="Loss on own clicks", ylabel="cross-entropy")
    left.set_ylim(0, 1.12 * max(own_at_start, tried.own.max()))
    right.set(title="Change of the score", ylabel="validation user AUC, less base")
    steps = sorted(tried.steps.unique())
    for ax in (left, right):
        ax.set(xscale="log", xlabel="steps")
        ax.set_xticks(steps, [str(s) for s in steps])
        ax.minorticks_off()
    left.legend(loc="lower left")
    plt.show()


def dots(ax: Axes, values: pd.Series, training: pd.Series) -> None:
    """Values as dots on a logarithmic axis, the number above each; training has its own mark."""
    for y, (value, trains) in enumerate(zip(values, training, strict=True)):
        look = STYLE["finetune" if trains else "duet"]
        ax.plot(value, -y, look["marker"], color=look["color"], ms=8)
        ax.annotate(
            short(value), (value, -y), (0, 8), textcoords="offset points", ha="center", fontsize=10
        )
    ax.set_yticks([-y for y in range(len(values))], list(values.index))
    low, high = values.min() / 3, values.max() * 3
    ax.set(xscale="log", xlim=(low, high), ylim=(0.5 - len(values), 0.7))
    powers = 10.0 ** np.arange(np.ceil(np.log10(low)), np.floor(np.log10(high)) + 1)
    ax.set_xticks(powers, [f"{power:,g}" for power in powers])
    ax.grid(axis="x", color=COLORS["grey"], alpha=0.25)
    ax.minorticks_off()


def short(value: float) -> str:
    """Three digits at most before a unit: `0.28`, `8.4`, `25`, `60,000`."""
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def costs(table: pd.DataFrame) -> None:
    """What each piece of work costs, in multiply-adds and in milliseconds.

    Args:
        table: a row for each piece of work; columns `million multiply-adds`, `ms`, and `training`,
            which says whether it trains.
    """
    _, axes = plt.subplots(1, 2, figsize=(7, 3.5), sharey=True)
    for ax, column in zip(axes, ("million multiply-adds", "ms"), strict=True):
        dots(ax, table[column], table["training"])
        ax.set_xlabel(column)
    plt.show()


def figure_1d(panels: Mapping[str, Mapping[str, float | None]]) -> None:
    """Figure 1(d) with our own numbers: a panel a question, a row a method.

    Args:
        panels: for each title the value of each method; None where nobody has measured it. A panel
            whose values are close together, and far from zero, is drawn as dots.
    """
    _, axes = plt.subplots(2, 2, figsize=(7, 4.8), sharey=True)
    for ax, (title, values) in zip(axes.flat, panels.items(), strict=True):
        known = [v for v in values.values() if v is not None]
        close = bool(known) and min(known) > 0.8 * max(known)
        low = min(known) - 0.3 * (np.ptp(known) or 0.01) if close else 0.0
        room = max((max(known) if known else 1) - low, 1e-9)
        for y, (method, value) in enumerate(values.items()):
            look = STYLE[method]
            if value is None:
                ax.text(low + 0.03 * room, -y, "not measured", va="center", fontsize=10)
                continue
            if not close:
                ax.barh(-y, value, 0.5, color=look["color"] + "77", ec=look["color"], lw=1.4)
            else:
                ax.plot(value, -y, look["marker"], color=look["color"], ms=8)
            text = f"{value:.4f}" if close else short(value) if value else "0"
            ax.text(value + 0.05 * room, -y, text, va="center", fontsize=10)
        ax.set_title(title, fontsize=11, pad=9)
        ax.set(xlim=(low, low + 1.5 * room), xticks=[])
        ax.spines["bottom"].set_visible(False)
        ax.set_yticks([-y for y in range(len(values))], [STYLE[m]["label"] for m in values])
        ax.set_ylim(0.5 - len(values), 0.5)
    plt.show()
