"""Figures of chapter 1: one model and many devices, a user's clicks, drift, bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

from duetbook.style import COLORS, INK


def _box(ax: Axes, xywh: tuple[float, float, float, float], text: str, color: str | None) -> None:
    """A rounded box with text in its middle; without a colour it is dashed: not this chapter's."""
    x, y, width, height = xywh
    ax.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=color + "26" if color else "none",
            edgecolor=color or COLORS["grey"],
            linestyle="-" if color else "--",
            linewidth=1.6,
        )
    )
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=INK)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.8})


def overview() -> Figure:
    """Cloud and devices; what this chapter is about is filled, what later ones build is dashed."""
    fig, ax = plt.subplots(figsize=(7, 4.4))
    ax.set(xlim=(0, 10), ylim=(0, 6.3))
    ax.axis("off")
    _box(ax, (0.1, 4.2, 9.8, 1.95), "", None)
    ax.text(0.3, 5.82, "cloud", weight="bold", va="center")
    blue, orange = COLORS["blue"], COLORS["orange"]
    _box(ax, (0.35, 4.4, 3.6, 1.15), "global model $\\Theta_g$\nchapter 3", None)
    _box(ax, (4.2, 4.4, 3.0, 1.15), "generator\nchapters 2 and 4", None)
    _box(ax, (7.45, 4.4, 2.2, 1.15), "adapter\nchapter 5", None)
    for n, x in enumerate((0.1, 3.45, 6.8), start=1):
        text = f"device {n}\nclicks $S_{{R}}^{{({n})}}$\nmodel $\\Theta_d^{{({n})}}$"
        _box(ax, (x, 0.15, 3.1, 1.85), text, blue)
        _arrow(ax, (x + 1.1, 2.1), (x + 1.1, 4.1), blue)
        _arrow(ax, (x + 2.0, 4.1), (x + 2.0, 2.1), orange)
    ax.text(1.05, 3.1, "clicks", color=blue, ha="right", va="center")
    ax.text(2.25, 3.1, "layers", color=orange, va="center")
    return fig


def strip(time: Sequence[int], n_valid: int = 1, n_test: int = 1) -> Figure:
    """A user's clicks in order, by what they serve as; a bracket joins those of the same second.

    Args:
        time: `[N]` seconds, in order.
    """
    n = len(time)
    roles = {
        "first click: history only": (0, 1, COLORS["grey"], "."),
        "training targets": (1, n - n_valid - n_test, COLORS["sky"], ""),
        "validation": (n - n_valid - n_test, n - n_test, COLORS["amber"], "//"),
        "test": (n - n_test, n, COLORS["orange"], "xx"),
    }
    fig, ax = plt.subplots(figsize=(7, 1.9))
    for label, (first, last, color, hatch) in roles.items():
        bars = ax.bar(range(first, last), 1, 0.86, label=label, color=color + "55", hatch=hatch)
        for bar in bars:
            bar.set(edgecolor=color, linewidth=1.2)
    starts = np.flatnonzero(np.diff(time, prepend=time[0] - 1)).tolist()
    for start, end in zip(starts, [*starts[1:], n], strict=True):
        if end - start > 1:
            xs = [start - 0.35, start - 0.35, end - 0.65, end - 0.65]
            ax.plot(xs, [-0.12, -0.28, -0.28, -0.12], color=INK, linewidth=1.4)
    ax.set(xlim=(-0.6, n - 0.4), ylim=(-0.75, 1.05))
    ax.text(n - 0.55, -0.62, "brackets: the same second", ha="right", va="center")
    ax.text(-0.5, -0.62, "oldest", va="center")
    ax.axis("off")
    fig.legend(loc="outside upper center", ncols=4, handlelength=1.1, columnspacing=1.2)
    return fig


def drift(beyond: NDArray[np.float64], means: Mapping[str, tuple[float, float, float]]) -> Figure:
    """How far each user's drift lies beyond chance, and mean divergences side by side.

    Args:
        beyond: `[U]` bits, consecutive windows less shuffled ones. means: for each comparison its
            mean and the ends of its interval, from the top down.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6))
    left.hist(beyond, bins=30, color=COLORS["blue"] + "90", edgecolor=COLORS["blue"], linewidth=0.6)
    left.axvline(0, color=INK, linewidth=1.4, linestyle="--")
    left.text(-0.01, 0.97, "chance", ha="right", va="top", transform=left.get_xaxis_transform())
    left.set(xlabel="beyond chance (bits)", ylabel="users", title="Every user")
    left.set_xlim(beyond.min() - 0.06, beyond.max() + 0.01)
    colors = [COLORS["amber"], COLORS["orange"], COLORS["blue"], COLORS["grey"]]
    for y, (label, (mean, low, high)) in enumerate(means.items()):
        error = [[mean - low], [high - mean]]
        right.errorbar(mean, -y, xerr=error, fmt="s^Do"[y], color=colors[y], capsize=4)
        right.text(mean, 0.2 - y, label, ha="center", va="bottom")
    lows, highs = [m[1] for m in means.values()], [m[2] for m in means.values()]
    room = 0.5 * (max(highs) - min(lows))
    right.set(xlim=(min(lows) - room, max(highs) + room), ylim=(0.6 - len(means), 0.7))
    right.set(yticks=[], xlabel="divergence (bits)", title="Means, 95 % interval")
    right.locator_params(axis="x", nbins=4)
    right.spines["left"].set_visible(False)
    return fig


def device_bytes(parts: Mapping[str, int]) -> Figure:
    """Bytes of each part as dots on a logarithmic axis, the number beside each.

    Args:
        parts: bytes by name. What is sent (its name ends in "up" or "down") is in colour.
    """
    fig, ax = plt.subplots(figsize=(7, 3.2))
    for y, (part, n_bytes) in enumerate(parts.items()):
        sent = part.endswith(("up", "down"))
        color = COLORS["orange"] if sent else COLORS["grey"]
        ax.plot(n_bytes, -y, "D" if sent else "o", color=color, markersize=9)
        ax.text(n_bytes * 1.35, -y, size(n_bytes), va="center")
    ax.set_yticks([-y for y in range(len(parts))], list(parts))
    ax.set(xscale="log", xlim=(60, 12 * max(parts.values())), xlabel="bytes (logarithmic)")
    ax.grid(axis="x", color=COLORS["grey"], alpha=0.25)
    ax.margins(y=0.1)
    return fig


def size(n_bytes: int) -> str:
    """Bytes for a reader: `120 bytes`, `8.25 KiB`, `2.70 MiB`."""
    if n_bytes < 1024:
        return f"{n_bytes} bytes"
    if n_bytes < 1024**2:
        return f"{n_bytes / 1024:.2f} KiB"
    return f"{n_bytes / 1024**2:.2f} MiB"
