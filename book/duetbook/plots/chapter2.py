"""Figures of chapter 2: the HyperNetwork, its blocks, its price and its start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from duetbook.style import COLORS

LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")


def _box(axes: Axes, x: float, y: float, text: str, color: str, new: bool) -> None:
    """A rounded box of 2.0 × 0.9 around (x, y); filled if it is what the chapter adds."""

    def frame(**look: Any) -> FancyBboxPatch:
        style = "round,pad=0.02,rounding_size=0.12"
        return FancyBboxPatch((x - 1.0, y - 0.45), 2.0, 0.9, boxstyle=style, **look)

    axes.add_patch(frame(facecolor="none", edgecolor=color, linewidth=1.8))
    if new:
        axes.add_patch(frame(facecolor=color, alpha=0.22, linewidth=0))
    axes.text(x, y, text, ha="center", va="center", fontsize=11)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.8})


def place() -> None:
    """Where the HyperNetwork sits: it writes the dynamic layers, and nothing reaches it."""
    _, axes = plt.subplots(figsize=(7, 3.5))
    ink, new = COLORS["grey"], COLORS["amber"]
    x = (1.1, 3.9, 6.7, 9.5)
    for at, text in zip(x, ("clicks", "static\nlayers", "dynamic\nlayers", "scores"), strict=True):
        _box(axes, at, 0.5, text, ink, new=False)
    for a, b in zip(x[:-1], x[1:], strict=True):
        _arrow(axes, (a + 1.05, 0.5), (b - 1.05, 0.5), ink)
    _box(axes, 3.9, 3.0, "a latent $z$\nper block", new, new=True)
    _box(axes, 6.7, 3.0, "generator\n$g$", new, new=True)
    _arrow(axes, (4.95, 3.0), (5.65, 3.0), new)
    _arrow(axes, (6.7, 2.5), (6.7, 1.0), new)
    axes.text(6.9, 1.75, "$K$: the same\non every device", va="center", fontsize=11)
    axes.plot([1.1, 1.1, 2.4], [1.0, 3.0, 3.0], color=ink, linestyle=":", linewidth=1.8)
    axes.text(2.62, 3.0, "✕", ha="center", va="center", color=COLORS["orange"], fontsize=14)
    axes.text(1.3, 1.75, "no way from the\nclicks to $z$", va="center", fontsize=11)
    axes.set(xlim=(0, 10.6), ylim=(-0.1, 3.6))
    axes.axis("off")


def blocks(z: Tensor, kernel: Tensor) -> None:
    """A matrix and the latents that its blocks come from, a colour each.

    Args:
        z: `[i, j, Z]` latents. kernel: `[C_in, C_out]`.
    """
    i, j = z.shape[:2]
    height, width = kernel.shape[0] // i, kernel.shape[1] // j
    _, (left, right) = plt.subplots(1, 2, figsize=(7, 3.5), width_ratios=(1, 1))
    palette = list(COLORS.values())
    for row in range(i):
        for column in range(j):
            color = palette[(row * j + column) % len(palette)]
            code = ", ".join(f"{value:g}" for value in z[row, column].tolist())
            _tile(left, column, row, 1, 1, color)
            name = f"$z'_{{{row + 1},{column + 1}}}$"
            left.text(
                column + 0.5, row + 0.5, f"{name}\n({code})", ha="center", va="center", fontsize=12
            )
            _tile(right, column * width, row * height, width, height, color)
    for (row, column), value in np.ndenumerate(kernel.cpu().numpy()):
        right.text(column + 0.5, row + 0.5, f"{value:g}", ha="center", va="center", fontsize=12)
    left.set(xlim=(0, j), ylim=(i, 0), title="one latent a block")
    right.set(xlim=(0, kernel.shape[1]), ylim=(kernel.shape[0], 0), title="the matrix $K$")
    for axes in (left, right):
        axes.set_aspect("equal")
        axes.axis("off")


def _tile(axes: Axes, x: float, y: float, width: float, height: float, color: str) -> None:
    corner, size = (x + 0.02 * width, y + 0.02 * height), (0.96 * width, 0.96 * height)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=2.5))
    axes.add_patch(Rectangle(corner, *size, facecolor=color, alpha=0.2, linewidth=0))


def singular_values(matrices: Mapping[str, Tensor]) -> None:
    """Singular values of some matrices, largest first, on a logarithmic scale.

    Args:
        matrices: label to `[N_in, N_out]`.
    """
    _, axes = plt.subplots(figsize=(7, 3.4))
    palette = (COLORS["grey"], COLORS["amber"], COLORS["blue"], COLORS["green"])
    for (label, matrix), color, marker in zip(matrices.items(), palette, MARKERS, strict=False):
        values = np.linalg.svd(matrix.detach().double().cpu().numpy(), compute_uv=False)
        axes.plot(
            np.arange(1, len(values) + 1), values, marker, color=color, markersize=5, label=label
        )
    axes.set_yscale("log")
    axes.set(xlabel="place of the singular value", ylabel="singular value")
    axes.legend(loc="best")


def price(
    blocks_to: int,
    stored: Callable[[int], int],
    generated: Mapping[str, Callable[[int], int]],
    here: int,
) -> None:
    """Numbers to keep, over the number of blocks: the kernels themselves against a generator.

    Args:
        blocks_to: right end of the axis. stored: numbers in n kernels. generated: for each label,
            numbers in generator and latents for n blocks. here: blocks of the book's two layers.
    """
    n = np.unique(np.geomspace(1, blocks_to, 200).astype(int))
    _, axes = plt.subplots(figsize=(7, 3.8))
    kept = np.array([stored(int(k)) for k in n])
    axes.plot(n, kept, color=COLORS["grey"], linestyle="--", label="the kernels themselves")
    palette = (COLORS["amber"], COLORS["blue"], COLORS["green"])
    for (label, count), color, line in zip(
        generated.items(), palette, ("-", "-.", ":"), strict=False
    ):
        numbers = np.array([count(int(k)) for k in n])
        axes.plot(n, numbers, color=color, linestyle=line, label=label)
        first = pays_from(stored, count, blocks_to)
        if first is not None:
            axes.plot(first, count(first), "o", color=color, markersize=8)
            axes.annotate(
                f"pays from {first:,}",
                (first, count(first)),
                xytext=(8, -14),
                textcoords="offset points",
            )
    axes.axvline(here, ymax=0.6, color=COLORS["orange"], linestyle=":", linewidth=1.5)
    axes.text(
        here * 1.08, kept[0] * 1.1, "this book's\ntwo layers", va="bottom", color=COLORS["orange"]
    )
    axes.set(xscale="log", yscale="log", xlabel="blocks to generate", ylabel="numbers to keep")
    axes.legend(loc="upper left")


def pays_from(
    stored: Callable[[int], int], generated: Callable[[int], int], most: int
) -> int | None:
    """The first number of blocks, up to `most`, at which generating keeps fewer numbers."""
    return next((n for n in range(1, most + 1) if generated(n) < stored(n)), None)


def activations(measured: Mapping[str, Sequence[float]], factor: Mapping[str, float]) -> None:
    """Spread of the activations after each layer: measured (marks) and predicted (lines).

    Args:
        measured: for each start, the standard deviation after layers 1, 2, ...
        factor: for each start, what one layer should multiply the standard deviation by.
    """
    _, axes = plt.subplots(figsize=(7, 3.9))
    palette = (COLORS["orange"], COLORS["purple"], COLORS["green"], COLORS["blue"])
    for (label, values), color, marker, line in zip(
        measured.items(), palette, MARKERS, LINES, strict=False
    ):
        layer = np.arange(len(values) + 1)
        axes.plot(layer, float(factor[label]) ** layer, color=color, linestyle=line, linewidth=1.2)
        axes.plot(layer[1:], values, marker, color=color, markersize=6)
        axes.plot([], [], color=color, linestyle=line, marker=marker, label=label)
    axes.set_yscale("log")
    axes.set(xlabel="after layer", ylabel="spread of the activations")
    axes.legend(loc="upper left")
