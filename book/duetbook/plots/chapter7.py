"""Figures of chapter 7: intervals, and what is not measured yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from duetbook.plots.chapter5 import arrow, box
from duetbook.style import COLORS, INK, METHOD_STYLE
from duetlib.evidence.tables import NOT_MEASURED, interval

BACKBONES = {"din": "DIN", "sasrec": "SASRec", "gru4rec": "GRU4Rec"}
DATASETS = {"ml-1m": "MovieLens-1M", "ml-100k": "MovieLens-100k"}
METRICS = {
    "auc": "AUC",
    "user_auc": "user AUC",
    "hr10": "HR@10, of 101",
    "ndcg10": "NDCG@10, of 101",
    "hr10_full": "HR@10, of all",
    "ndcg10_full": "NDCG@10, of all",
}


def where_we_are() -> None:
    """From sessions to a verdict; in the middle the records, which all tables are made of."""
    _, ax = plt.subplots(figsize=(7, 3.7))
    ax.set(xlim=(0, 10), ylim=(0, 5.3))
    ax.axis("off")
    grey, blue, orange = COLORS["grey"], COLORS["blue"], COLORS["orange"]
    box(ax, 0.1, 3.4, 2.7, 1.6, "protocol\nwho is tested on what,\nwho picks the epoch", blue)
    box(ax, 3.65, 3.4, 2.7, 1.6, "runs (chapters 3 to 6)\nmethods × backbones\n× seeds", grey)
    box(ax, 7.2, 3.4, 2.7, 1.6, "records\none line a run, with\nwhat each user adds", grey)
    box(ax, 7.2, 0.4, 2.7, 1.6, "interval\nother users,\nother seeds", blue)
    box(ax, 3.65, 0.4, 2.7, 1.6, "verdict\nahead, behind\nor undecided", blue)
    box(ax, 0.1, 0.4, 2.7, 1.6, "controls\nwhere does the\ngain come from?", orange)
    arrow(ax, (2.8, 4.2), (3.65, 4.2))
    arrow(ax, (6.35, 4.2), (7.2, 4.2))
    arrow(ax, (8.55, 3.4), (8.55, 2.0))
    arrow(ax, (7.2, 1.2), (6.35, 1.2))
    arrow(ax, (3.65, 1.2), (2.8, 1.2))
    plt.show()


def draws(means: Mapping[str, NDArray[np.float64]], observed: float) -> None:
    """What a mean might have been: one histogram a way to draw again, its middle 95 % as a bar.

    Args:
        means: for each way its draws. observed: the mean that was measured.
    """
    _, axes = plt.subplots(len(means), 1, figsize=(7, 1.35 * len(means) + 0.4), sharex=True)
    every = np.concatenate(list(means.values()))
    edges = np.linspace(every.min(), every.max(), 26)
    looks = zip(means.items(), COLORS.values(), strict=False)
    for ax, ((name, drawn), color) in zip(np.atleast_1d(axes), looks, strict=True):
        counts, _, _ = ax.hist(
            drawn, edges, weights=np.full(len(drawn), 1 / len(drawn)), color=color
        )
        low, high = np.percentile(drawn, [2.5, 97.5])
        ax.plot([low, high], [1.22 * counts.max()] * 2, color=INK, lw=4, solid_capstyle="butt")
        ax.axvline(observed, color=INK, ls="--", lw=1.2)
        ax.set_title(name, fontsize=11)
        ax.set(yticks=[], ylim=(0, 1.4 * counts.max()))
        ax.spines["left"].set_visible(False)
    np.atleast_1d(axes)[-1].set_xlabel("mean difference; the bar holds 95 % of the draws")
    plt.show()


def forest(
    panels: Mapping[str, pd.DataFrame],
    rows: Mapping[str, str],
    xlabel: str,
    lines: Mapping[float, str] = MappingProxyType({0.0: ""}),
    styles: Mapping[str, Mapping[str, Any]] = METHOD_STYLE,
    limits: tuple[float, float] | None = None,
) -> None:
    """A point and its 95 % interval for each row, a panel for each backbone, all to one scale.

    Args:
        panels: title to a table with one row a name of `rows` at most, columns `mean`, `low`,
            `high`, and where wanted `printed` (a star), `low_all` and `high_all` (a thin line, cut
            off at the panel's edge), `note` (said where there is no mean); the index has the names.
        rows: name to label, from the top. lines: where to draw a vertical line, and what to call
            it in place of its number. limits: of the axis, where not all that is there is wanted.
    """
    fig, axes = plt.subplots(
        1, len(panels), figsize=(7, 0.42 * len(rows) + 1.25), sharex=True, sharey=True
    )
    fig.set_layout_engine("constrained", w_pad=0.08)  # labels of neighbours stay apart
    places = dict(zip(rows, range(len(rows), 0, -1), strict=True))
    for ax, (title, table) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        for line in lines if table["mean"].notna().any() else ():  # not through "not measured"
            ax.axvline(line, color=COLORS["grey"], lw=1, ls="--")
        for name, y in places.items():
            row = table.T[name] if name in table.index else pd.Series({"mean": np.nan})
            _row(ax, y, row, styles.get(name, {"color": COLORS["blue"]}))
        ax.set_title(title)
        ax.tick_params(axis="y", length=0)
        if all(lines.values()):
            ax.set_xticks(list(lines), list(lines.values()))
        else:
            ax.locator_params(axis="x", nbins=2)  # three ticks at most: panels are narrow
    ax.set_ylim(0.4, len(rows) + 0.6)
    ax.set_xlim(*(limits or _limits(panels.values(), lines)))
    np.atleast_1d(axes)[0].set_yticks(list(places.values()), list(rows.values()))
    fig.supxlabel(xlabel, fontsize=11)
    plt.show()


def _limits(tables: Iterable[pd.DataFrame], lines: Iterable[float]) -> tuple[float, float]:
    """All intervals for one comparison, points and lines, with a margin."""
    wanted = ("mean", "low", "high", "printed")
    values = [np.asarray(t[c], float) for t in tables for c in wanted if c in t]
    every = np.concatenate([*values, np.array([*lines])])
    low, high = np.nanmin(every), np.nanmax(every)
    margin = 0.12 * (high - low) or 0.1
    return low - margin, high + margin


def _row(ax: Axes, y: float, row: pd.Series, style: Mapping[str, Any]) -> None:
    if not np.isfinite(row["mean"]):
        note: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "fontsize": 9.5,
            "color": COLORS["grey"],
        }
        ax.text(0.5, y, row.get("note", NOT_MEASURED), transform=ax.get_yaxis_transform(), **note)
        return
    color = style["color"]
    if np.isfinite(row.get("low_all", np.nan)):
        ax.plot([row["low_all"], row["high_all"]], [y, y], color=color, lw=1)
    ax.plot([row["low"], row["high"]], [y, y], color=color, lw=3.5, solid_capstyle="butt")
    ax.plot(row["mean"], y, style.get("marker", "o"), color=color, ms=4.5)
    if np.isfinite(row.get("printed", np.nan)):
        ax.plot(row["printed"], y - 0.28, "*", color=INK, ms=9, mfc="none")


def by_backbone(table: pd.DataFrame, backbones: Sequence[str] = tuple(BACKBONES)) -> dict[str, Any]:
    """A table with columns `backbone` and `method` as panels for `forest`."""
    return {BACKBONES[b]: table[table["backbone"] == b].set_index("method") for b in backbones}


def ahead_of_base(table: pd.DataFrame, methods: Sequence[str], xlabel: str) -> None:
    """Every method less the base, with the interval for one comparison (thick) and all (thin).

    Args:
        table: of `tables.differences`, with a column `printed` where a star is wanted.
    """
    rows = {name: METHOD_STYLE[name]["label"] for name in methods}
    forest(by_backbone(table), rows, xlabel)


def gain_by_metric(table: pd.DataFrame) -> None:
    """One method's gain in per cent of the base, metric by metric.

    Args:
        table: columns `backbone`, `metric`, `mean`, `low`, `high`, in per cent.
    """
    panels = by_backbone(table.rename(columns={"metric": "method"}))
    kinds = {"auc": "blue", "user_auc": "blue", "hr10": "orange", "ndcg10": "orange"}
    styles = {name: {"color": COLORS[kinds.get(name, "green")]} for name in METRICS}
    forest(panels, METRICS, "gain over the base, %", styles=styles)


def share_kept(table: pd.DataFrame, methods: Sequence[str]) -> None:
    """The share of DUET's gain that each method keeps: 0 is the base, 1 is DUET.

    The axis ends at -1 and 2.2: an interval may reach as far as it likes where the gain is small.

    Args:
        table: of `tables.kept`.
    """
    rows = {name: METHOD_STYLE[name]["label"] for name in methods}
    table = table[table["method"].isin(methods)]
    notes = np.where(table["gain"].isna(), NOT_MEASURED, "no gain to share")
    panels = by_backbone(table.rename(columns={"share": "mean"}).assign(note=notes))
    lines = {0.0: "base", 1.0: "DUET"}
    forest(panels, rows, "share of the gain of DUET without SWA", lines, limits=(-1.0, 2.2))


def figure_7(
    records: Mapping[str, pd.DataFrame], methods: Sequence[str], metric: str = "auc"
) -> None:
    """The paper's Figure 7: base, HyperNetwork and DUET side by side, every seed and the interval.

    Args:
        records: for each data set its records under one protocol; where there are none, it says so.
    """
    _, axes = plt.subplots(1, len(records), figsize=(7, 3.8))
    for ax, (dataset, runs) in zip(np.atleast_1d(axes), records.items(), strict=True):
        for i, backbone in enumerate(BACKBONES):
            of = runs[(runs["backbone"] == backbone) & runs["method"].isin(methods)]
            if of.empty:
                ax.text(
                    i,
                    0.5,
                    NOT_MEASURED,
                    transform=ax.get_xaxis_transform(),
                    rotation=90,
                    ha="center",
                    va="center",
                    color=COLORS["grey"],
                )
            for k, method in enumerate(methods):
                _seeds(
                    ax, i + 0.2 * (k - (len(methods) - 1) / 2), of[of["method"] == method], metric
                )
        ax.set_xticks(range(len(BACKBONES)), list(BACKBONES.values()))
        ax.set(title=DATASETS[dataset], xlim=(-0.5, len(BACKBONES) - 0.5))
        if runs[runs["method"].isin(methods)].empty:
            ax.set_yticks([])
    np.atleast_1d(axes)[0].set_ylabel("test " + METRICS[metric])
    marks = [plt.Line2D([], [], ls="", ms=8, **_look(name)) for name in methods]
    plt.gcf().legend(handles=marks, loc="outside lower center", ncols=len(methods))
    plt.show()


def _look(method: str) -> dict[str, Any]:
    return {k: v for k, v in METHOD_STYLE[method].items() if k != "linestyle"}


def _seeds(ax: Axes, x: float, runs: pd.DataFrame, metric: str) -> None:
    if runs.empty:
        return
    look = _look(runs["method"].iloc[0])
    low, high = interval(runs, metric)
    ax.plot([x, x], [low, high], color=look["color"], lw=2.5, alpha=0.6)
    ax.plot([x] * len(runs), runs[metric], ls="", mfc="none", mew=1.5, ms=6, **look)


def whose_layers(records: pd.DataFrame, methods: Sequence[str]) -> None:
    """The AUC of a trained DUET with layers that are not its own: mean and interval.

    Args:
        records: of one data set and protocol. methods: from the top.
    """
    rows = {name: METHOD_STYLE[name]["label"] for name in methods}
    panels: dict[str, pd.DataFrame] = {}
    for backbone, title in BACKBONES.items():
        found: dict[str, Any] = {}
        for method in methods:
            runs = records[(records["backbone"] == backbone) & (records["method"] == method)]
            if len(runs):
                low, high = interval(runs)
                found[method] = {"mean": runs["auc"].mean(), "low": low, "high": high}
        panels[title] = pd.DataFrame.from_dict(
            found, orient="index", columns=["mean", "low", "high"]
        )
    forest(panels, rows, "test AUC", lines={0.5: ""})
