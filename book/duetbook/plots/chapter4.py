"""Figures of chapter 4, and the small statistics that they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from scipy import stats
from sklearn.manifold import TSNE
from torch import Tensor

from duetbook.style import COLORS, INK, METHOD_STYLE

BACKBONE_NAMES = {"sasrec": "SASRec", "din": "DIN", "gru4rec": "GRU4Rec"}


def _box(ax: Axes, x: float, y: float, text: str, color: str, width: float = 1.5) -> None:
    shape = FancyBboxPatch(
        (x - width / 2, y - 0.36), width, 0.72, boxstyle="round,pad=0.02", fc="none", ec=color, lw=2
    )
    ax.add_patch(shape)
    ax.text(x, y, text, ha="center", va="center", fontsize=10.5, linespacing=1.15)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, lw=1.6, color=color)
    )


def where_it_sits() -> None:
    """DUET as a whole: the generator in the cloud above, the model on the device below."""
    _, ax = plt.subplots(figsize=(7, 3.9))
    cloud, device = COLORS["blue"], COLORS["grey"]
    _box(ax, 0.85, 3.3, "clicks", device, 1.1)
    _box(ax, 2.55, 3.3, r"neck $E_{share}$", cloud)
    for n, x in ((1, 4.6), (2, 6.6)):
        _box(ax, x, 3.3, rf"$L_{{layer}}^{{({n})}}$", cloud, 1.3)
        _box(ax, x, 2.1, rf"generator $g^{{({n})}}$", cloud, 1.75)
        _arrow(ax, (x, 2.92), (x, 2.48), cloud)
        _box(ax, x, 0.55, f"dynamic\nlayer {n}", COLORS["orange"], 1.3)
        _arrow(ax, (x, 1.72), (x, 0.95), COLORS["orange"])
    _arrow(ax, (1.42, 3.3), (1.78, 3.3), cloud)
    _arrow(ax, (3.32, 3.3), (3.93, 3.3), cloud)
    ax.plot([3.6, 3.6, 5.75, 5.75], [3.3, 3.85, 3.85, 3.3], color=cloud, lw=1.6)
    _arrow(ax, (5.74, 3.3), (5.93, 3.3), cloud)
    _box(ax, 0.85, 0.55, "clicks", device, 1.1)
    _box(ax, 2.55, 0.55, "static\nlayers", device, 1.3)
    _arrow(ax, (1.42, 0.55), (1.88, 0.55), device)
    _arrow(ax, (3.22, 0.55), (3.93, 0.55), device)
    _arrow(ax, (5.27, 0.55), (5.93, 0.55), device)
    _arrow(ax, (0.85, 0.93), (0.85, 2.92), cloud)
    _arrow(ax, (7.27, 0.55), (7.68, 0.55), device)
    ax.text(7.74, 0.55, "scores", va="center", fontsize=10.5)
    ax.axhline(1.42, color=INK, lw=1, ls=(0, (4, 4)))
    ax.text(8.45, 1.52, "cloud", ha="right", fontsize=10.5, color=cloud, weight="bold")
    ax.text(8.45, 1.13, "device", ha="right", fontsize=10.5, color=device, weight="bold")
    ax.set(xlim=(0.15, 8.5), ylim=(0, 4.05))
    ax.axis("off")


def layers_of(K: Tensor, names: Sequence[str], features: Sequence[str] = ()) -> None:
    """Generated matrices as tables of numbers, the bias set apart as the last row.

    Args:
        K: `[B, N_in + 1, N_out]`. names: of the B devices.
        features: names of the inputs, and of as many outputs, where they have any.
    """
    values = K.detach().cpu().numpy()
    _, axes = plt.subplots(1, len(names), figsize=(7, 2.7))
    limit = np.abs(values).max()
    n_in, n_out = K.shape[1] - 1, K.shape[2]
    rows = [*(features or [f"input {i + 1}" for i in range(n_in)]), "bias"]
    columns = features or [f"out {n + 1}" for n in range(n_out)]
    for ax, one, name in zip(np.atleast_1d(axes), values, names, strict=True):
        ax.imshow(one, cmap="RdBu_r", vmin=-2 * limit, vmax=2 * limit, aspect="auto")
        for (r, n), value in np.ndenumerate(one):
            ax.text(n, r, f"{value:g}", ha="center", va="center", fontsize=12, color=INK)
        ax.axhline(n_in - 0.5, color=INK, lw=2)
        ax.set_yticks(range(len(one)), rows if ax is np.atleast_1d(axes)[0] else [""] * len(one))
        ax.set_xticks(range(n_out), columns)
        ax.set_title(name, fontsize=11)
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)


def block_diagonal(weight: Tensor) -> None:
    """The layers of B devices as one block-diagonal matrix: what a grouped convolution multiplies.

    Args:
        weight: `[B, N_in, N_out]`.
    """
    blocks = torch.block_diag(*weight.detach().cpu()).numpy()
    n_devices, n_in, n_out = weight.shape
    shown = np.ma.masked_where(
        ~np.kron(np.eye(n_devices, dtype=bool), np.ones((n_in, n_out), bool)), blocks
    )
    _, ax = plt.subplots(figsize=(7, 3.6))
    limit = 1.3 * np.abs(blocks).max()
    ax.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for b in range(n_devices):
        ax.text(
            (b + 1) * n_out if b < n_devices - 1 else b * n_out - 1,
            b * n_in + (n_in - 1) / 2,
            f"device {b + 1}",
            ha="left" if b < n_devices - 1 else "right",
            va="center",
            fontsize=10.5,
        )
    ax.set(
        xlabel=f"B · N_out = {n_devices * n_out} outputs",
        ylabel=f"B · N_in = {n_devices * n_in} inputs",
    )
    ax.set_xticks([]), ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(True)


def timing(table: pd.DataFrame) -> None:
    """Milliseconds over B: one panel for each pass, one line for each way.

    Args:
        table: columns `way`, `pass`, `B`, `ms`.
    """
    passes = list(dict.fromkeys(table["pass"]))
    _, axes = plt.subplots(1, len(passes), figsize=(7, 3.6), sharey=True)
    looks = {
        "loop": (COLORS["grey"], "o", "--"),
        "batched": (COLORS["blue"], "D", "-"),
        "grouped": (COLORS["orange"], "^", "-."),
    }
    for ax, one in zip(axes, passes, strict=True):
        for way, part in table[table["pass"] == one].groupby("way", sort=False):
            color, marker, line = looks[str(way)]
            ax.loglog(part["B"], part["ms"], marker=marker, color=color, ls=line, label=way)
        ax.set(xlabel="devices in the batch, B")
        ax.set_title(one)
    axes[0].set_ylabel("milliseconds")
    axes[0].legend()


def variance_left(variance: Mapping[str, np.ndarray], limit: int) -> None:
    """The share of the variance between devices that the first components leave out.

    Args:
        variance: name of a layer to the explained-variance ratios of all its components.
        limit: the component with which it must end.
    """
    _, ax = plt.subplots(figsize=(7, 3.3))
    looks = zip(COLORS.values(), ("o", "^", "D"), strict=False)
    for (name, ratio), (color, marker) in zip(variance.items(), looks, strict=False):
        left = np.cumsum(ratio[::-1])[::-1][: limit + 8]  # summed from the small end
        ax.semilogy(range(len(left)), left, marker=marker, ms=4, lw=1.2, color=color, label=name)
    ax.axvline(limit, color=INK, lw=1, ls=":")
    ax.text(limit - 0.4, 2e-2, f"D = {limit}", ha="right", fontsize=10.5)
    ax.axhline(0.01, color=INK, lw=1, ls="--")
    ax.text(limit + 7.5, 0.016, "1 %", ha="right", fontsize=10.5)
    ax.set(xlabel="principal components", ylabel="share of variance left")
    ax.legend(loc="lower left")


def map_of_layers(
    generated: Mapping[str, Tensor], base: Sequence[Tensor], value: np.ndarray, label: str
) -> None:
    """A t-SNE map of every device's layer, with the base's one layer among them.

    Args:
        generated: name of a layer to `[N, P_n]`, a row for each device.
        base: for each of them `[P_n]`, the layer that all devices share.
        value: `[N]` what the dots are coloured by. label: what that is.
    """
    # without its yellow end, which is lost on paper, and in the dark where a figure is turned over
    shades = ListedColormap(plt.get_cmap("viridis")(np.linspace(0, 0.75, 256)))
    _, axes = plt.subplots(1, len(generated), figsize=(7, 3.9))
    for ax, (name, rows), one in zip(axes, generated.items(), base, strict=True):
        points = torch.cat([rows, one.unsqueeze(0)]).detach().cpu().numpy()
        tsne = TSNE(init="pca", perplexity=30, max_iter=500, random_state=0)
        place = tsne.fit_transform(points)
        dots = ax.scatter(*place[:-1].T, c=value, cmap=shades, s=7, lw=0)
        ax.scatter(*place[-1:].T, marker="*", s=260, c=COLORS["orange"], ec=INK, label="base")
        ax.set_title(name)
        ax.set_xticks([]), ax.set_yticks([])
    axes[0].legend(loc="best", handletextpad=0.2)
    bar = plt.colorbar(dots, ax=axes, orientation="horizontal", aspect=40, pad=0.03)
    bar.set_label(label)


def paired(
    records: pd.DataFrame, method: str, against: str = "base", metric: str = "auc"
) -> pd.DataFrame:
    """Differences between two methods, seed by seed, and what they say together.

    Args:
        records: rows with `backbone`, `method`, `seed` and the metric; one a seed and method.
        method, against: the difference is `method` less `against`.

    Returns:
        A row for each backbone: `differences` (a tuple), `seeds`, `mean`, and `low` and `high` of
        the 95 % t-interval, which needs two seeds and is not a number with one.
    """
    rows = {}
    for backbone, part in records.groupby("backbone", sort=False):
        wide = part.pivot(index="seed", columns="method", values=metric)
        wide = wide.reindex(columns=[method, against]).dropna()
        if wide.empty:
            continue
        d = (wide[method] - wide[against]).to_numpy()
        n = len(d)
        half = stats.t.ppf(0.975, n - 1) * d.std(ddof=1) / n**0.5 if n > 1 else np.nan
        mean = d.mean()
        rows[backbone] = (tuple(d), n, mean, mean - half, mean + half)
    columns = ["differences", "seeds", "mean", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def seeds_and_intervals(records: pd.DataFrame, method: str, against: str = "base") -> None:
    """Left, the AUC of every seed; right, the paired difference with its 95 % interval.

    Args: as in `paired`.
    """
    table = paired(records, method, against)
    _, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6))
    place = {backbone: i for i, backbone in enumerate(table.index)}
    for name, shift in ((against, -0.13), (method, 0.13)):
        part = records[(records["method"] == name) & records["backbone"].isin(place)]
        look: dict[str, Any] = {k: v for k, v in METHOD_STYLE[name].items() if k != "linestyle"}
        x = part["backbone"].map(place) + shift
        left.plot(x, part["auc"], ls="none", ms=7, mfc="none", mew=1.6, **look)
    left.set(ylabel="test AUC", xlim=(-0.5, len(place) - 0.5))
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=1)
    for backbone, row in table.iterrows():
        i = place[backbone]
        right.plot([i] * row["seeds"], row["differences"], "o", mfc="none", mew=1.6, color=INK)
        right.plot([i + 0.18] * 2, [row["low"], row["high"]], color=COLORS["blue"], lw=3)
        right.plot(i + 0.18, row["mean"], "D", color=COLORS["blue"], ms=7)
    right.axhline(0, color=INK, lw=1, ls="--")
    right.set(ylabel="difference, seed by seed", xlim=(-0.5, len(place) - 0.5))
    for ax in (left, right):
        ax.set_xticks(range(len(place)), [BACKBONE_NAMES.get(b, b) for b in place])
