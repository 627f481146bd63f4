"""Figures of chapter 10, device and cloud for real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch

from duetbook.style import COLORS, INK

CLOUD, DEVICE, ALONE = COLORS["blue"], COLORS["orange"], COLORS["grey"]
GOAL = 0.15  # how far a prediction may be off
PARTS = {"prefix": "grey", "signature": "purple", "header": "sky", "numbers": "orange"}


def _box(ax: Axes, x: float, y: float, size: tuple[float, float], text: str, color: str) -> None:
    """A box around its text, by its middle."""
    width, height = size
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.1"
    ax.add_patch(FancyBboxPatch(corner, width, height, style, fc="none", ec=color, lw=1.8))
    ax.text(x, y, text, ha="center", va="center", fontsize=10, linespacing=1.2)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    arrow = {"arrowstyle": "-|>", "color": color, "lw": 1.8, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=arrow)


def where_we_are() -> None:
    """What each side holds, what crosses between them, and whose weights a device may use."""
    _, ax = plt.subplots(figsize=(7, 4.1))
    ax.set(xlim=(0, 10), ylim=(0, 5.9))
    ax.axis("off")
    for y, name, color in ((5.6, "cloud", CLOUD), (2.45, "device", DEVICE)):
        ax.text(0.05, y, name, weight="bold", color=color, va="center")
    _box(ax, 2.4, 4.5, (2.1, 0.9), "check\nthe request", CLOUD)
    _box(ax, 5.0, 4.5, (2.1, 0.9), "neck and\ngenerators", CLOUD)
    _box(ax, 7.6, 4.5, (2.1, 0.9), "sign", CLOUD)
    _box(ax, 2.4, 1.45, (2.1, 0.9), "clicks or\nembedding", DEVICE)
    _box(ax, 5.4, 1.45, (1.7, 0.9), "rank", DEVICE)
    _box(ax, 7.6, 1.45, (2.1, 0.9), "verify", DEVICE)
    for x in (3.45, 6.05):
        _arrow(ax, (x, 4.5), (x + 0.5, 4.5), CLOUD)
    _arrow(ax, (2.4, 1.9), (2.4, 4.05), INK)
    _arrow(ax, (7.6, 4.05), (7.6, 1.9), INK)
    _arrow(ax, (6.55, 1.45), (6.25, 1.45), DEVICE)
    ax.text(2.55, 3.25, "request,\nwith a nonce", va="center", fontsize=10)
    ax.text(7.45, 3.25, "signed weights", va="center", ha="right", fontsize=10)
    ax.text(7.6, 5.3, "private key", ha="center", color=CLOUD, fontsize=10)
    ax.text(9.0, 1.45, "public\nkey", va="center", color=DEVICE, fontsize=10)
    ax.text(5.0, 0.35, "fresh, else last good, else shipped", ha="center", fontsize=10)
    _arrow(ax, (5.4, 0.62), (5.4, 1.0), DEVICE)
    ax.plot([0, 10], [2.85, 2.85], color=INK, lw=1, ls=(0, (4, 4)), zorder=0)
    plt.show()


def message(of: Mapping[str, Mapping[str, int]]) -> None:
    """Messages as bars: how many of their bytes are what.

    Args:
        of: label to the bytes of prefix, signature, header (with its length) and numbers.
    """
    _, axes = plt.subplots(len(of), 1, figsize=(7, 1.15 * len(of) + 0.7))
    for ax, (label, parts) in zip(np.atleast_1d(axes), of.items(), strict=True):
        ends = np.cumsum([0, *parts.values()])
        for (name, size), start in zip(parts.items(), ends[:-1], strict=True):
            color = COLORS[PARTS[name]]
            ax.barh([0], [size], left=start, height=0.7, color=color + "66", ec=color)
            if size > 0.07 * ends[-1]:
                ax.text(start + size / 2, 0, f"{size:,}", ha="center", va="center", fontsize=10)
        ax.set(yticks=[], xlim=(0, ends[-1]), ylim=(-0.5, 0.5))
        ax.set_title(f"{label}: {ends[-1]:,} bytes", fontsize=11)
        ax.spines["left"].set_visible(False)
    handles = [Patch(fc=COLORS[c] + "66", ec=COLORS[c], label=name) for name, c in PARTS.items()]
    np.atleast_1d(axes)[0].figure.legend(handles=handles, loc="outside lower center", ncols=4)
    plt.show()


class Event(NamedTuple):
    """Something that happened.

    Attributes:
        what: in words. side: `device` or `cloud`. seconds: on the clock of the process.
    """

    what: str
    side: str
    seconds: float


def exchange(events: Sequence[Event]) -> None:
    """A sequence diagram: time goes down, step by step, each with its milliseconds.

    Args:
        events: in any order. The distance between two lines is not to scale; the numbers are.
    """
    ordered = sorted(events, key=lambda event: event.seconds)
    x = {"device": 2.9, "cloud": 7.1}
    _, ax = plt.subplots(figsize=(7, 0.52 * len(ordered) + 0.8))
    for side, color in (("device", DEVICE), ("cloud", CLOUD)):
        ax.plot([x[side]] * 2, [-0.4, len(ordered) - 0.5], color=color, lw=1.6)
        ax.text(x[side], -0.75, side, ha="center", weight="bold", color=color)
    for n, (one, other) in enumerate(pairwise(ordered)):
        if one.side != other.side:
            gap = 0.06 if other.side == "cloud" else -0.06
            _arrow(ax, (x[one.side] + gap, n), (x[other.side] - gap, n + 1), INK)
    for n, event in enumerate(ordered):
        left = event.side == "device"
        color = DEVICE if left else CLOUD
        ax.plot(x[event.side], n, "o", color=color, ms=7)
        ms = 1e3 * (event.seconds - ordered[0].seconds)
        place = x[event.side] + (-0.2 if left else 0.2)
        text = f"{event.what}  {ms:.2f} ms" if left else f"{ms:.2f} ms  {event.what}"
        ax.text(place, n, text, ha="right" if left else "left", va="center", fontsize=10)
    ax.set(xlim=(0, 10), ylim=(len(ordered) - 0.4, -1.0))
    ax.axis("off")
    plt.show()


KINDS = (("device", "device, new connection", DEVICE, "o"), ("kept", "open connection", CLOUD, "D"))


def by_link(table: pd.DataFrame) -> None:
    """The small payload over each link: measured quartiles, and the prediction as an upright line.

    Args:
        table: a row for each link and connection, with `profile`, `connection`, `low`,
            `measured`, `high`, `predicted` and `bytes_alone`, all in milliseconds.
    """
    names = list(dict.fromkeys(table.profile))
    _, ax = plt.subplots(figsize=(7, 0.36 * len(names) + 1.3))
    for kind, _, color, marker in KINDS:
        rows = table[table.connection == kind]
        y = np.array([names.index(name) for name in rows.profile])
        ax.hlines(y, rows.low, rows.high, color=color, lw=2)
        ax.plot(rows.measured, y, marker, color=color, ms=6)
        ax.vlines(rows.predicted, y - 0.38, y + 0.38, color=INK, lw=1.6)
    alone = table.drop_duplicates("profile")
    ax.plot(alone.bytes_alone, range(len(names)), "x", color=ALONE, ms=7, mew=1.8)
    ax.set(xscale="log", xlabel="milliseconds until the weights are there", xlim=(0.07, 400))
    ax.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    handles = [
        Line2D([], [], color=color, marker=marker, label=label) for _, label, color, marker in KINDS
    ]
    handles += [
        Line2D([], [], color=INK, marker="|", ms=12, mew=1.6, ls="", label="predicted"),
        Line2D([], [], color=ALONE, marker="x", ms=7, mew=1.8, ls="", label="bytes / bandwidth"),
    ]
    ax.figure.legend(handles=handles, loc="outside lower center", ncols=2)
    plt.show()


def all_downloads(table: pd.DataFrame) -> None:
    """Measured over predicted for every download: below near 1, above what is far off.

    Args:
        table: as in `by_link`, and `payload`; for all payloads and connections.
    """
    sizes = {"height_ratios": (1, 3)}
    _, (far, near) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, gridspec_kw=sizes)
    looks = zip(dict.fromkeys(table.payload), "oD^", ("orange", "green", "blue"), strict=False)
    for payload, marker, color in looks:
        rows = table[table.payload == payload]
        for ax in (far, near):
            look = {"color": COLORS[color], "ms": 6, "alpha": 0.75, "label": payload}
            ax.plot(rows.predicted, rows.measured / rows.predicted, marker, **look)
    near.axhspan(1 - GOAL, 1 + GOAL, color=COLORS["sky"] + "33", lw=0)
    near.axhline(1, color=INK, lw=1)
    outside = table[(table.measured / table.predicted - 1).abs() > GOAL]
    for _, row in outside[outside.profile != "lossy"].sort_values("predicted").iterrows():
        left = row.predicted == outside[outside.profile != "lossy"].predicted.min()
        place, shift = (row.predicted, row.measured / row.predicted), (-8 if left else 8, 0)
        text = f"{row.profile}, {row.connection}"
        side = "right" if left else "left"
        near.annotate(
            text, place, shift, textcoords="offset points", ha=side, va="center", fontsize=9.5
        )
    lost = outside[outside.profile == "lossy"]
    if len(lost):
        ratio = lost.measured / lost.predicted
        far.set(ylim=(0, 1.2 * ratio.max()))
        place = (lost.predicted.max() * 1.12, ratio.min())
        far.text(*place, "lossy, 5 % loss", va="center", fontsize=9.5)
    near.set(xscale="log", ylim=(0.8, 1.6), xlabel="predicted, ms", ylabel="measured / predicted")
    near.set_xticks([10, 100, 1000], ["10", "100", "1000"])
    near.minorticks_off()
    near.legend(loc="upper left")
    far.spines["bottom"].set_visible(False)
    far.tick_params(axis="x", length=0)
    plt.show()
