"""Figures of chapter 5, the Stable Weight Adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from duetbook.style import COLORS, INK, METHOD_STYLE
from duetlib.swa import adapter_weights

# By N_p; 0 is the base, which generates nothing.
N_P_STYLE: dict[int, dict[str, Any]] = {
    0: METHOD_STYLE["base"],
    1: {**METHOD_STYLE["duet_no_swa"], "label": "$N_p$ = 1 (no SWA)"},
    2: {"color": COLORS["amber"], "linestyle": ":", "marker": "s", "label": "$N_p$ = 2"},
    3: {"color": COLORS["purple"], "linestyle": (0, (5, 1)), "marker": "v", "label": "$N_p$ = 3"},
    5: {**METHOD_STYLE["duet"], "label": "$N_p$ = 5"},
}

# What a spectrum is of: the generators' codes are dotted, their layers have marks.
SPECTRUM_STYLE: dict[str, dict[str, Any]] = {
    "layers, untrained": {"color": COLORS["grey"], "linestyle": "--"},
    "codes, $N_p$ = 1": {"color": COLORS["orange"], "linestyle": ":"},
    "codes, $N_p$ = 5": {"color": COLORS["blue"], "linestyle": (0, (1, 3))},
    "layers, $N_p$ = 1": {"color": COLORS["orange"], "linestyle": "-.", "marker": "^", "ms": 5},
    "layers, $N_p$ = 5": {"color": COLORS["blue"], "linestyle": "-", "marker": "D", "ms": 4},
}


def box(ax: Axes, x: float, y: float, w: float, h: float, text: str, color: str) -> None:
    """A rounded box with its text in the middle."""
    style = "round,pad=0,rounding_size=0.12"
    ax.add_patch(FancyBboxPatch((x, y), w, h, style, fc=color + "22", ec=color, lw=1.6))
    ax.text(x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=10.5, linespacing=1.35)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0) -> None:
    """A thin arrow, straight or bent."""
    style = {"arrowstyle": "-|>", "color": INK, "lw": 1.3, "shrinkA": 2, "shrinkB": 2}
    ax.annotate("", end, start, arrowprops={**style, "connectionstyle": f"arc3,rad={bend}"})


def where_we_are() -> None:
    """The whole of DUET, with the adapter between the generators and the layer they write."""
    _, ax = plt.subplots(figsize=(7, 4.3))
    ax.set(xlim=(0, 10), ylim=(0, 6.2))
    ax.axis("off")
    grey, orange, blue, green = (COLORS[c] for c in ("grey", "orange", "blue", "green"))
    ax.text(0.1, 5.95, "Cloud", weight="bold", va="center")
    box(ax, 0.1, 3.9, 2.0, 1.5, "neck\nreads the clicks\n(Eq. 5)", grey)
    box(ax, 3.0, 3.9, 2.6, 1.5, "one generator\n$W_1, B_1, W_2, B_2$\n(Eq. 6)", orange)
    box(ax, 6.9, 3.9, 2.9, 1.5, "a layer\nfor this device\n$K$", green)
    for shift in (0.36, 0.18, 0.0):
        background = FancyBboxPatch(
            (3.0 + shift, 1.75 - shift),
            2.3,
            1.0,
            "round,pad=0,rounding_size=0.12",
            fc="#f7ded0",
            ec=orange,
            lw=1.6,
        )
        ax.add_patch(background)
    ax.text(4.15, 2.25, "$M$ generators", ha="center", va="center", fontsize=10.5)
    box(ax, 6.9, 1.25, 2.9, 1.5, "adapter (this chapter)\n$p$ from Eq. 8,\nblend by Eq. 9", blue)
    arrow(ax, (2.1, 4.65), (3.0, 4.65))
    ax.text(2.55, 4.85, "$e$", ha="center", fontsize=11)
    arrow(ax, (5.6, 4.65), (6.9, 4.65))
    arrow(ax, (5.75, 2.0), (6.9, 2.0))
    arrow(ax, (7.1, 2.75), (5.4, 3.9))
    ax.axhline(0.95, color=grey, lw=1, ls=":")
    ax.text(0.1, 0.5, "Device", weight="bold", va="center")
    ax.text(1.3, 0.5, "sends its clicks", va="center", fontsize=10.5)
    ax.text(9.8, 0.5, "ranks with the layer it gets", ha="right", va="center", fontsize=10.5)
    arrow(ax, (0.7, 0.75), (0.7, 3.9))
    ax.plot([9.9, 9.9], [4.65, 4.65], alpha=0)
    ax.annotate(
        "",
        (9.95, 0.6),
        (9.8, 4.65),
        arrowprops={
            "arrowstyle": "-|>",
            "color": INK,
            "lw": 1.3,
            "connectionstyle": "angle,angleA=0,angleB=90",
        },
    )
    plt.show()


def tau_curves(p_prime: Tensor, lowest: float = 1 / 30, highest: float = 30.0) -> None:
    """The weights p over the temperature: as printed on the left, tempered on the right.

    Args:
        p_prime: `[M]` row sums.
    """
    taus = np.geomspace(lowest, highest, 121)
    _, axes = plt.subplots(1, 2, figsize=(7, 3.3), sharey=True)
    styles = ("-", "--", "-.", ":", (0, (5, 1)))
    names = list(COLORS.values())
    kinds = (("as_printed", "As printed"), ("tempered", "Tempered"))
    for ax, (kind, title) in zip(axes, kinds, strict=True):
        p = torch.stack([adapter_weights(p_prime, float(t), kind) for t in taus])  # type: ignore[arg-type]
        for i in range(len(p_prime)):
            ax.plot(taus, p[:, i].numpy(), color=names[i], ls=styles[i], label=f"$p_{i + 1}$")
        ax.axvline(1, color=COLORS["grey"], lw=1)
        ax.set(xscale="log", title=title, xlabel="temperature τ", ylim=(-0.03, 1.03))
        ax.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes[0].set_ylabel("weight of a generator")
    axes[0].legend(loc="upper right")
    plt.show()


def trained_weights(p_of_layer: Sequence[Tensor], bounds: tuple[float, float]) -> None:
    """The weights p of each dynamic layer beside 1/M, in the band that Eq. 8 can reach.

    Args:
        p_of_layer: `[M]` for each dynamic layer. bounds: least and greatest p for row sums that
            are not negative.
    """
    _, axes = plt.subplots(1, len(p_of_layer), figsize=(7, 3.2), sharey=True)
    for n, (ax, p) in enumerate(zip(np.atleast_1d(axes), p_of_layer, strict=True)):
        m = len(p)
        ax.axhspan(*bounds, color=COLORS["sky"], alpha=0.18, lw=0, label="within reach of Eq. 8")
        ax.axhline(1 / m, color=COLORS["grey"], ls="--", lw=1.5, label="plain average, $1/N_p$")
        ax.plot(range(1, m + 1), p.tolist(), "D", color=COLORS["blue"], ms=7, label="trained $p$")
        ax.set(title=f"Dynamic layer {n + 1}", xlabel="generator", ylim=(0, 0.58))
        ax.set_xticks(range(1, m + 1))
    np.atleast_1d(axes)[0].set_ylabel("weight p")
    np.atleast_1d(axes)[-1].legend(loc="upper right", ncols=1)
    plt.show()


def spectra(shares: Mapping[str, Sequence[Tensor]], most: int = 26) -> None:
    """The share of the variance between users that the first directions leave over.

    Args:
        shares: for each key of `SPECTRUM_STYLE` and each dynamic layer, `[K]` the share that each
            direction holds, the largest first. most: directions to draw.
    """
    n_layers = len(next(iter(shares.values())))
    _, axes = plt.subplots(1, n_layers, figsize=(7, 4.3), sharey=True, squeeze=False)
    for n, ax in enumerate(axes[0]):
        for name, of_layer in shares.items():
            left = of_layer[n].flip(0).cumsum(0).flip(0)[: most + 1].cpu()  # from the small end
            ax.semilogy(range(len(left)), left, label=name, **SPECTRUM_STYLE[name])
        for share, text in ((0.1, "10 %"), (0.01, "1 %")):
            ax.axhline(share, color=INK, lw=1, ls=(0, (2, 4)))
            ax.text(most, 1.12 * share, text, ha="right", va="bottom", fontsize=9.5)
        ax.set(title=f"Dynamic layer {n + 1}", xlabel="directions kept", ylim=(4e-4, 1.4))
    axes[0][0].set_ylabel("share of variance left")
    handles, names = axes[0][0].get_legend_handles_labels()
    axes[0][0].figure.legend(handles, names, loc="outside lower center", ncols=3)
    plt.show()


def directions_kept(auc: Mapping[int, Mapping[int, float]]) -> None:
    """Test AUC when every user's layers are rebuilt from their first k coordinates.

    Args:
        auc: for each N_p the AUC by k, the same k for all; the last stands for all directions.
    """
    _, ax = plt.subplots(figsize=(7, 3.5))
    for n_p, by_k in auc.items():
        ax.plot(range(len(by_k)), list(by_k.values()), **N_P_STYLE[n_p])
        ax.set_xticks(range(len(by_k)), [str(k) for k in by_k])
    ax.set(xlabel="directions kept in each layer (0: the mean layer for everybody)")
    ax.set_ylabel("test AUC")
    ax.legend(loc="lower right")
    plt.show()


def curve_table(records: pd.DataFrame) -> pd.DataFrame:
    """The learning curves of records, one row for each run and epoch.

    Returns:
        Columns `n_p`, `seed`, `epoch`, `loss`, `valid_auc`.
    """
    rows = [
        {"n_p": n_p, "seed": seed, **epoch}
        for n_p, seed, curve in zip(records.n_p, records.seed, records.curve, strict=True)
        for epoch in curve
    ]
    return pd.DataFrame(rows)


def run_curves(records: pd.DataFrame, first: int = 4) -> None:
    """Validation AUC over epochs: a panel for each N_p, a line for each run.

    No mean is drawn: it would be smoother than any of its runs.

    Args:
        records: runs that differ in `n_p` and `seed` alone. first: the epoch to begin at, so that
            the steep start does not hide the rest.
    """
    curves = curve_table(records).query("epoch >= @first")
    numbers = sorted(curves.n_p.unique())
    fig, axes = plt.subplots(1, len(numbers), figsize=(7, 3.0), sharex=True, sharey=True)
    for ax, n_p in zip(np.atleast_1d(axes), numbers, strict=True):
        style = N_P_STYLE[n_p]
        for _, run in curves[curves.n_p == n_p].groupby("seed"):
            ax.plot(run.epoch, run.valid_auc, color=style["color"], lw=1.4, marker=".", ms=4)
        ax.set_title(style["label"].replace(" (no SWA)", ""))
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    np.atleast_1d(axes)[0].set_ylabel("validation AUC")
    fig.supxlabel("epoch", fontsize=11)
    plt.show()


def std_factors(interval: Callable[[float, int], tuple[float, float]], most: int = 30) -> None:
    """How far from the measured one the true standard deviation may lie, over the number of seeds.

    Args:
        interval: gives the ends of the interval for a standard deviation and a number of seeds.
    """
    seeds = np.arange(3, most + 1)
    ends = np.array([interval(1.0, int(n)) for n in seeds])  # [seeds, 2]
    _, ax = plt.subplots(figsize=(7, 3.3))
    ax.fill_between(seeds, ends[:, 0], ends[:, 1], color=COLORS["sky"], alpha=0.25, lw=0)
    for end in ends.T:
        ax.plot(seeds, end, color=COLORS["blue"])
    ax.axhline(1, color=COLORS["grey"], ls="--", lw=1.5)
    for n, where in ((3, (10, 0)), (5, (10, 2))):
        high = ends[n - 3, 1]
        ax.plot([n], [high], "o", color=COLORS["orange"], ms=7)
        ax.annotate(
            f"{n} seeds: up to {high:.1f} times",
            (n, high),
            where,
            textcoords="offset points",
            va="center",
        )
    ax.set(yscale="log", xlabel="number of seeds", ylabel="true over measured\nstandard deviation")
    ax.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    ax.minorticks_off()
    plt.show()


def paper_spreads(
    ratios: Mapping[tuple[str, str], float],
    by_n_p: Mapping[str, Mapping[int, float]],
    needed: float,
) -> None:
    """The printed spreads: Table 1 as ratios, Table 4 over N_p.

    Args:
        ratios: spread without over with SWA, by data set and backbone. by_n_p: for each model the
            spread by N_p. needed: the ratio from which two spreads can be told apart.
    """
    _, (left, right) = plt.subplots(1, 2, figsize=(7, 3.9), width_ratios=(1.15, 1))
    backbones = {"din": "DIN", "sasrec": "SASRec", "gru4rec": "GRU4Rec"}
    datasets = {"ml-1m": "1M", "ml-100k": "100k"}
    names = [f"{backbones[b]}, {datasets[d]}" for d, b in ratios]
    places = range(len(names), 0, -1)
    colors = [COLORS["blue"] if r > 1 else COLORS["orange"] for r in ratios.values()]
    left.hlines(places, 1, list(ratios.values()), color=colors)
    left.scatter(list(ratios.values()), places, c=colors, marker="D", s=45, zorder=3)
    left.axvline(1, color=COLORS["grey"], lw=1)
    left.axvline(needed, color=COLORS["purple"], ls="--", lw=1.5)
    left.annotate(
        "told apart by\n5 repeats",
        (needed, -0.05),
        (-5, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=9.5,
        color=COLORS["purple"],
    )
    left.set_yticks(places, names)
    left.set(title="Table 1", xlabel="std without / with SWA")
    left.set(xlim=(0, 4.2), ylim=(-0.6, len(names) + 0.6))
    looks = (("-", COLORS["blue"], 11), ("--", COLORS["amber"], -13))
    for (model, spreads), (style, color, offset) in zip(by_n_p.items(), looks, strict=True):
        right.plot(range(len(spreads)), list(spreads.values()), style, color=color, marker="o")
        last = list(spreads.values())[-1]
        name = model.rsplit("_", 1)[1].capitalize()
        right.annotate(
            name,
            (len(spreads) - 1, last),
            (0, offset),
            textcoords="offset points",
            ha="center",
            va="center",
        )
        right.set_xticks(range(len(spreads)), ["base", *(str(n) for n in list(spreads)[1:])])
    right.set(title="Table 4", xlabel="$N_p$", ylabel="std of accuracy (%)", ylim=(0, 4.9))
    right.margins(x=0.12)
    plt.show()


def spread_ratios(table: pd.DataFrame) -> None:
    """How many times larger the spread over runs is without the SWA, with its interval.

    Args:
        table: a row for each backbone and source, with `backbone`, `source`, `ratio`, `low` and
            `high`.
    """
    _, ax = plt.subplots(figsize=(7, 3.4))
    looks = (("o", COLORS["grey"], 0.14), ("D", COLORS["blue"], -0.14))
    names = {"din": "DIN", "sasrec": "SASRec", "gru4rec": "GRU4Rec"}
    places = {b: -i for i, b in enumerate(dict.fromkeys(table["backbone"]))}
    for (source, rows), (marker, color, shift) in zip(
        table.groupby("source", sort=False), looks, strict=False
    ):
        y = rows["backbone"].map(places) + shift
        ax.hlines(y, rows["low"], rows["high"], color=color, lw=2.5)
        ax.plot(rows["ratio"], y, marker, color=color, ms=7, ls="none", label=source)
    ax.axvline(1, color=INK, lw=1, ls="--")
    ax.set(xscale="log", xlabel="spread without SWA / spread with it")
    ticks = [0.1, 0.3, 1, 3, 10, 30]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_yticks(list(places.values()), [names.get(b, b) for b in places])
    ax.set_ylim(-len(places) + 0.5, 0.5)
    ax.figure.legend(loc="outside upper center", ncols=2)
    plt.show()
