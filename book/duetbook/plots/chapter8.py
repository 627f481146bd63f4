"""Figures of chapter 8: drawn faces, what a model says of them, and curves over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from data_prep.videos import CLASSES
from duetbook.plots.chapter5 import arrow, box
from duetbook.style import COLORS, INK, METHOD_STYLE
from duetlib.evidence.statistics import interval_over_seeds
from duetlib.evidence.tables import NOT_MEASURED
from duetlib.evidence.vision_tables import (
    curves,
    detail,
    error_of_people,
    only,
    oscillation,
    same_seeds,
)

PAPER = "#f6f4ef"  # behind faces: a picture that is turned over in the dark would be a negative
BACKBONES = {
    "mobilenet_v3_small": "MobileNetV3 Small",
    "mobilenet_v3_large": "MobileNetV3 Large",
}
_CENTRE: dict[str, Any] = {"ha": "center", "va": "center", "color": COLORS["grey"]}
N_P_LOOKS = {
    0: ("grey", "base"),
    1: ("orange", "$N_p$ = 1"),
    2: ("green", "$N_p$ = 2"),
    3: ("purple", "$N_p$ = 3"),
    5: ("blue", "$N_p$ = 5"),
}


def where_we_are() -> None:
    """The first frame goes up, layers come down, and serve all frames of the video."""
    _, ax = plt.subplots(figsize=(7, 3.6))
    ax.set(xlim=(0, 10), ylim=(0, 5.2))
    ax.axis("off")
    grey, blue, orange = COLORS["grey"], COLORS["blue"], COLORS["orange"]
    box(ax, 0.1, 0.3, 2.4, 1.5, "video\nfirst frame,\nand the others", grey)
    box(ax, 3.5, 0.3, 2.6, 1.5, "static trunk\nMobileNetV3 without\nits last layers", grey)
    box(ax, 7.2, 0.3, 2.7, 1.5, "dynamic layers\n1×1 convolution,\ntwo linear layers", blue)
    box(ax, 3.5, 3.4, 2.6, 1.5, "neck\nfirst frame, pooled,\nand a linear layer", orange)
    box(ax, 7.2, 3.4, 2.7, 1.5, "generators\n(and SWA)\nin the cloud", orange)
    arrow(ax, (2.5, 1.05), (3.5, 1.05))
    arrow(ax, (6.1, 1.05), (7.2, 1.05))
    arrow(ax, (4.8, 1.8), (4.8, 3.4))
    arrow(ax, (6.1, 4.15), (7.2, 4.15))
    arrow(ax, (8.55, 3.4), (8.55, 1.8))
    ax.axhline(2.6, 0.01, 0.99, color=grey, ls=":", lw=1.2)
    ax.text(0.1, 2.75, "cloud", color=grey, va="bottom", fontsize=10)
    ax.text(0.1, 2.45, "device", color=grey, va="top", fontsize=10)
    ax.text(4.65, 2.25, "first frame, pooled", ha="right", va="center", fontsize=10)
    ax.text(8.4, 2.95, "a video's own weights", ha="right", va="center", fontsize=10)
    plt.show()


# ---- faces


def _picture(frame: Tensor) -> NDArray[np.uint8]:
    """`[C, S, S]` to what matplotlib shows, grey as three equal channels."""
    picture = frame.movedim(0, -1).cpu().numpy()
    return np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture


def _faces(frames: Tensor, width: float = 7.0, titles: Sequence[str] = ()) -> tuple[Figure, Any]:
    """A grid of pictures `[R, N, C, S, S]`; titles stand over the first row."""
    rows, columns = frames.shape[:2]
    side = width / columns
    height = side * rows + (0.1 + 0.17 * max((t.count("\n") + 1 for t in titles), default=0))
    fig, axes = plt.subplots(
        rows, columns, figsize=(width, height), squeeze=False, facecolor=PAPER, layout="none"
    )
    fig.subplots_adjust(0, 0, 1, side * rows / height, wspace=0.03, hspace=0.03)
    for row, of_row in zip(axes, frames, strict=True):
        for ax, frame in zip(row, of_row, strict=True):
            ax.imshow(_picture(frame))
            ax.axis("off")
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(title, fontsize=9.5, loc="center", pad=4, weight="normal")
    return fig, axes


def people(portraits: Tensor) -> None:
    """People, a row each, at rest and in seven emotions.

    Args:
        portraits: `[N, 8, C, S, S]`, as `faces.portraits` gives them.
    """
    _faces(portraits, titles=CLASSES)
    plt.show()


def strengths(portraits: Mapping[str, Tensor], classes: Sequence[str]) -> None:
    """The same people at several strengths of what is personal, side by side.

    Args:
        portraits: what each strength is called, and its `[N, 8, C, S, S]`. classes: which to show.
    """
    columns = [CLASSES.index(name) for name in classes]
    names = [f"{strength}\n{name}" for strength in portraits for name in classes]
    shown = [of_one[:, columns] for of_one in portraits.values()]
    joined = np.concatenate([of_one.cpu().numpy() for of_one in shown], axis=1)
    _faces(Tensor(joined).byte(), titles=names)
    plt.show()


def video(frames: Tensor, titles: Sequence[str]) -> None:
    """The frames of one video `[T, C, S, S]`, side by side."""
    _faces(frames.unsqueeze(0), titles=titles)
    plt.show()


def sessions_of_faces(frames: Tensor, titles: Sequence[str]) -> None:
    """One person's apex in each session `[K, C, S, S]`, as the light turns."""
    _faces(frames.unsqueeze(0), titles=titles)
    plt.show()


def frame_by_frame(frames: Tensor, said: Mapping[str, Tensor], right: Sequence[int]) -> None:
    """What each model says of each frame: the probability of every class, and a ring at the right.

    Args:
        frames: `[T, C, S, S]`. said: a model's name and its probabilities `[T, K]`.
        right: `[T]` the true classes.
    """
    n = len(frames)
    fig, axes = plt.subplots(
        1 + len(said),
        n,
        figsize=(7, 1.25 + 1.55 * len(said)),
        facecolor=PAPER,
        gridspec_kw={"height_ratios": [1.0] + [1.3] * len(said)},
        sharex="row",
    )
    for ax, frame in zip(axes[0], frames, strict=True):
        ax.imshow(_picture(frame))
        ax.axis("off")
    colors = zip(said.items(), ("grey", "orange", "blue", "green"), strict=False)
    for row, ((name, probabilities), color) in zip(axes[1:], colors, strict=True):
        for t, ax in enumerate(row):
            bars = probabilities[t].cpu().numpy()
            ax.barh(range(len(CLASSES)), bars, color=COLORS[color], height=0.75)
            ax.plot(min(bars[right[t]] + 0.13, 1.02), right[t], "o", mfc="none", ms=6, color=INK)
            ax.set(xlim=(0, 1.12), xticks=[], yticks=[])
            ax.invert_yaxis()
            sure = bars.argmax() == right[t]
            ax.set_xlabel("right" if sure else CLASSES[int(bars.argmax())], fontsize=9.5)
        row[0].set_yticks(range(len(CLASSES)), CLASSES, fontsize=8)
        row[0].set_title(name, fontsize=10.5)
    fig.set_facecolor(PAPER)
    plt.show()


# ---- what the records say


def _bands(ax: Axes, table: pd.DataFrame, field: str, look: Mapping[str, Any]) -> None:
    """The mean over seeds, the quartiles as a band, and the extremes as thin lines."""
    of = table.pivot(index="epoch", columns="seed", values=field).dropna()
    values, color = of.to_numpy(float), look["color"]
    ax.plot(of.index, values.mean(1), **look)
    if values.shape[1] > 1:
        low, high = np.percentile(values, [25, 75], axis=1)
        ax.fill_between(of.index, low, high, color=color, alpha=0.22, lw=0)
        for end in (values.min(1), values.max(1)):
            ax.plot(of.index, end, color=color, lw=0.6, alpha=0.6)


def learning(records: pd.DataFrame, methods: Sequence[str], first: int = 1) -> None:
    """Training loss, and accuracy on the test people, epoch by epoch (Figures 5 and 6).

    Args:
        records: of one backbone. methods: which to draw. first: epoch to begin at.
    """
    table = curves(records)
    table = table[table["epoch"] >= first].assign(test=lambda t: 100 * t["test_accuracy"])
    _, axes = plt.subplots(2, 1, figsize=(7, 5.6), sharex=True)
    for method in methods:
        of = table[(table["method"] == method) & table["n_p"].isin([0, 1, 5])]
        if of.empty:
            continue
        style = METHOD_STYLE[method]
        look = {"color": style["color"], "ls": style["linestyle"], "label": style["label"]}
        _bands(axes[0], of, "loss", look)
        _bands(axes[1], of, "test", look)
    axes[0].set(ylabel="training loss", yscale="log")
    axes[1].set(ylabel="accuracy on test people, %", xlabel="epoch")
    axes[1].legend(loc="lower right", ncols=2)
    plt.show()


def figure_6(records: pd.DataFrame, methods: Sequence[str]) -> None:
    """Accuracy and loss on the test people at every 25th epoch: how seeds spread (Figure 6).

    A thick line is the mean, a ring the median, a box the quartiles, a thin line the extremes.

    Args:
        records: of one backbone. methods: a column each, N_p = 5 where it says nothing else.
    """
    _, axes = plt.subplots(2, len(methods), figsize=(7, 5.0), sharex=True, sharey="row")
    for (ax, below), method in zip(axes.T, methods, strict=True):
        style, runs = METHOD_STYLE[method], only(records, records["backbone"].iloc[0], method)
        ax.set_title(style["label"].replace(" without", "\nwithout"))
        for panel, field, scale in ((ax, "test_accuracy", 100), (below, "test_loss", 1)):
            if runs.empty:
                panel.text(0.5, 0.5, NOT_MEASURED, transform=panel.transAxes, ha="center")
                continue
            of = detail(runs, field)
            x, color = of["epoch"], style["color"]
            panel.vlines(x, scale * of["min"], scale * of["max"], color=color, lw=1)
            panel.vlines(x, scale * of["q25"], scale * of["q75"], color=color, lw=7, alpha=0.35)
            panel.plot(x, scale * of["mean"], color=color)
            panel.plot(x, scale * of["median"], "o", color=color, mfc="none", ms=4.5)
    axes[0, 0].set_ylabel("test accuracy, %")
    axes[1, 0].set(ylabel="test loss", yscale="log")
    axes[1, len(methods) // 2].set_xlabel("epoch")
    plt.show()


def figure_7(records: pd.DataFrame, methods: Sequence[str]) -> None:
    """The faces' half of Figure 7: every seed's accuracy, the mean, and the 95 % interval.

    Args:
        records: of one strength. methods: from left to right, N_p = 5 where it says nothing else.
    """
    _, axes = plt.subplots(1, 2, figsize=(7, 3.8), sharey=True)
    for ax, (backbone, title) in zip(axes, BACKBONES.items(), strict=True):
        for x, method in enumerate(methods):
            runs = only(records, backbone, method)
            accuracy = 100 * runs["accuracy"].to_numpy(float)
            color, marker = (METHOD_STYLE[method][key] for key in ("color", "marker"))
            if not len(accuracy):
                note: dict[str, Any] = {"rotation": 90, "ha": "center", "color": COLORS["grey"]}
                ax.text(
                    x, 0.5, NOT_MEASURED, transform=ax.get_xaxis_transform(), va="center", **note
                )
                continue
            ax.plot([x - 0.18] * len(accuracy), accuracy, marker, color=color, ms=6, alpha=0.6)
            ax.plot([x - 0.05, x + 0.3], [accuracy.mean()] * 2, color=color, lw=2.5)
            ends = interval_over_seeds(
                accuracy, people_error=100 * error_of_people(runs, "accuracy")
            )
            ax.plot([x + 0.125] * 2, ends, color=color, lw=1.5)
        labels = [
            METHOD_STYLE[method]["label"].replace(" without", "\nwithout") for method in methods
        ]
        ax.set_xticks(range(len(methods)), labels, rotation=25, ha="right")
        ax.set(title=title, xlim=(-0.5, len(methods) - 0.4))
    axes[0].set_ylabel("accuracy, %")
    plt.show()


def recalls(records: pd.DataFrame, methods: Sequence[str]) -> None:
    """The recall of each class: a mark for the mean over seeds, a line to the extremes.

    Args:
        records: of one backbone, one N_p for each method.
    """
    _, ax = plt.subplots(figsize=(7, 3.7))
    shifts = np.linspace(-0.22, 0.22, len(methods))
    for shift, method in zip(shifts, methods, strict=True):
        of = 100 * records[records["method"] == method][[f"recall_{name}" for name in CLASSES]]
        if of.empty:
            continue
        style, x = METHOD_STYLE[method], np.arange(len(CLASSES)) + shift
        color = style["color"]
        ax.vlines(x, of.min(), of.max(), color=color, lw=2)
        ax.plot(x, of.mean(), style["marker"], color=color, ms=7, label=style["label"])
    ax.set_xticks(range(len(CLASSES)), CLASSES, rotation=20)
    ax.set(ylabel="frames of a class classified right, %", ylim=(-4, 104))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.17), ncols=4)
    plt.show()


def by_generators(records: pd.DataFrame) -> None:
    """Test accuracy and training loss for each number of generators, on the same people (Figure 3).

    A column each: thin lines are seeds, the thick one their mean.

    Args:
        records: of one backbone.
    """
    of_duet = records[records["method"].isin(["base", "duet_no_swa", "duet"])]
    table = curves(same_seeds(of_duet)).assign(test=lambda t: 100 * t["test_accuracy"])
    fig, axes = plt.subplots(2, len(N_P_LOOKS), figsize=(7, 4.4), sharex=True, sharey="row")
    for column, (n_p, (color, label)) in zip(axes.T, N_P_LOOKS.items(), strict=True):
        column[0].set_title(label)
        of = table[table["n_p"] == n_p]
        for ax, field in zip(column, ("test", "loss"), strict=True):
            if of.empty:
                ax.text(
                    0.5, 0.5, NOT_MEASURED.replace(" ", "\n"), **_CENTRE, transform=ax.transAxes
                )
                continue
            by_seed = of.pivot(index="epoch", columns="seed", values=field)
            ax.plot(by_seed, color=COLORS[color], lw=0.6, alpha=0.5)
            ax.plot(by_seed.mean(axis=1), color=COLORS[color], lw=1.3)
    axes[0, 0].set_ylabel("test accuracy, %")
    axes[1, 0].set(ylabel="training loss", yscale="log")
    axes[1, 0].set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
    axes[1, 0].minorticks_off()
    axes[1, 0].locator_params(axis="x", nbins=2)
    fig.supxlabel("epoch", fontsize=11)
    plt.show()


def oscillations(records: pd.DataFrame) -> None:
    """How much each run's test accuracy jumps from epoch to epoch, a mark a seed.

    Args:
        records: of one backbone.
    """
    _, ax = plt.subplots(figsize=(7, 3.0))
    shown = records[records["method"].isin(["base", "duet_no_swa", "duet"])]
    for y, (n_p, (color, _)) in enumerate(N_P_LOOKS.items()):
        of = shown[shown["n_p"] == n_p]
        jumps = [oscillation(curve) for curve in of["curve"]]
        ax.plot(jumps, [y] * len(jumps), "o", color=COLORS[color], ms=7, alpha=0.7)
        if jumps:
            ax.plot(np.mean(jumps), y, "|", color=INK, ms=18, mew=2)
        else:
            ax.text(0.02, y, NOT_MEASURED, va="center", color=COLORS["grey"])
    ax.set_yticks(range(len(N_P_LOOKS)), [label for _, label in N_P_LOOKS.values()])
    ax.set_ylim(len(N_P_LOOKS) - 0.5, -0.5)
    ax.set(
        xlabel="jump of the test accuracy from epoch to epoch, percentage points", xlim=(0, None)
    )
    plt.show()


def ahead(table: pd.DataFrame, xlabel: str) -> None:
    """Differences with their intervals, a line each.

    Args:
        table: of `vision_tables.differences`, of one backbone.
    """
    _, ax = plt.subplots(figsize=(7, 0.42 * max(len(table), 1) + 1.0))
    if table.empty:
        ax.text(0.5, 0, NOT_MEASURED, ha="center", color=COLORS["grey"])
    for y, row in enumerate(table.to_dict("records")):
        color, marker = (METHOD_STYLE[row["method"]][key] for key in ("color", "marker"))
        if np.isfinite(row["low"]):
            ax.plot([100 * row["low"], 100 * row["high"]], [y, y], color=color, lw=3.5)
        ax.plot(100 * row["mean"], y, marker, color=color, ms=8)
    ax.axvline(0, color=COLORS["grey"], ls="--", lw=1)
    names = [METHOD_STYLE[m]["label"] for m in table["method"]]
    ax.set_yticks(range(len(table)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(max(len(table), 1) - 0.4, -0.6)
    ax.set(xlabel=xlabel)
    plt.show()


def numbers_of_generators(table: pd.DataFrame) -> None:
    """Accuracy by N_p with its interval, and the printed one as a star; a panel a backbone.

    Args:
        table: of `vision_tables.table_4`.
    """
    _, axes = plt.subplots(1, 2, figsize=(7, 3.6), sharey=True)
    for ax, (backbone, title) in zip(axes, BACKBONES.items(), strict=True):
        of = table[table["backbone"] == backbone]
        for x, row in enumerate(of.to_dict("records")):
            color = COLORS[str(N_P_LOOKS[int(row["n_p"])][0])]
            if np.isfinite(row["low"]):
                ax.plot([x, x], [row["low"], row["high"]], color=color, lw=3.5)
            ax.plot(x, row["accuracy"], "o", color=color, ms=7)
            ax.plot(x + 0.22, row["printed"], "*", color=INK, mfc="none", ms=10)
        ax.set_xticks(range(len(of)), ["base", *(f"{n:.0f}" for n in of["n_p"][1:])])
        ax.set(title=title, xlabel="generators, $N_p$")
        ax.margins(x=0.12)
    axes[0].set_ylabel("accuracy, %")
    plt.show()


def sessions(table: pd.DataFrame, xlabel: str) -> None:
    """Accuracy from session to session, on all frames and on the last three (Figure 4).

    A line a method: the mean over seeds, and the extremes as a band.

    Args:
        table: columns `method`, `seed`, `shift`, `accuracy` and `apex_accuracy` (shares).
    """
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.9), sharey=True)
    panels = {"accuracy": "all frames", "apex_accuracy": "the last three frames"}
    for ax, (field, title) in zip(axes, panels.items(), strict=True):
        for method, of in table.groupby("method", sort=False):
            style = METHOD_STYLE[str(method)]
            by = 100 * of.pivot(index="shift", columns="seed", values=field)
            look: dict[str, Any] = {"color": style["color"], "ls": style["linestyle"], "ms": 6}
            ax.plot(by.index, by.mean(axis=1), marker=style["marker"], label=style["label"], **look)
            ax.fill_between(
                by.index, by.min(axis=1), by.max(axis=1), color=look["color"], alpha=0.13
            )
        ax.set_title(title)
    axes[0].set_ylabel("accuracy, %")
    fig.supxlabel(xlabel, fontsize=11)
    axes[0].legend(loc="lower left")
    plt.show()


def map_of_layers(points: Mapping[str, Tensor], label: Tensor, star: Mapping[str, Tensor]) -> None:
    """Generated layers of many videos in three dimensions; a star for the base's (Figure 8).

    Args:
        points: a layer's name and the places `[V, 3]`. label: `[V]` class that the video shows.
        star: a layer's name and the place `[3]` of the base's weights.
    """
    # Placed by hand: before Matplotlib 3.11 the layout engine finds no room for axes in 3D.
    fig = plt.figure(figsize=(7, 3.9), layout="none")
    fig.subplots_adjust(left=0, right=1, bottom=0.2, top=0.92, wspace=0)
    palette = list(COLORS.values())
    for i, (name, at) in enumerate(points.items()):
        ax = fig.add_subplot(1, len(points), i + 1, projection="3d")
        for k in range(1, len(CLASSES)):
            here = at[label == k].numpy()
            sign = {"color": palette[k - 1], "marker": "osD^vPX"[k - 1]}
            ax.scatter(*here.T, s=16, **sign, label=CLASSES[k] if i == 0 else None)
        ax.scatter(
            *star[name].numpy(), s=180, marker="*", color=INK, label="base" if not i else None
        )
        ax.set_title(name, fontsize=11)
        ax.tick_params(labelsize=7, pad=-3)
        ax.patch.set_alpha(0)
        for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
            axis.set_pane_color((1, 1, 1, 0))
            axis.set_ticklabels([])
    fig.legend(loc="lower center", ncols=4, fontsize=9.5)
    plt.show()
