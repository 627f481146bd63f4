"""Figures of chapter 9, device and cloud on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Patch

from duetbook.style import COLORS, INK
from duetlib.evidence import paper
from duetlib.latency import (
    IN_TABLE_3,
    INITIAL_WINDOW,
    SEGMENT,
    Cell,
    Link,
    delay,
    queue_ms,
    slow_start_rounds,
    total_ms,
    transfer_ms,
)

COUNTED, LEFT_OUT = COLORS["blue"], COLORS["orange"]
LINES = ("-", "--", "-.", ":")


def _lane(ax: Axes, x: float, width: float, y: float, text: str, color: str) -> None:
    """Something that one side does, as a box on its line."""
    style = "round,pad=0,rounding_size=0.08"
    ax.add_patch(
        FancyBboxPatch((x, y - 0.33), width, 0.66, style, fc="#ffffff00", ec=color, lw=1.8)
    )
    ax.text(x + width / 2, y, text, ha="center", va="center", fontsize=10, linespacing=1.1)


def where_we_are() -> None:
    """One session's wait, from left to right: what crosses the gap, and what each side does."""
    _, ax = plt.subplots(figsize=(7, 3.5))
    top, low = 3.0, 0.6
    ax.set(xlim=(-0.1, 10.1), ylim=(-0.45, 4.1))
    ax.axis("off")

    def cross(x: float, start: float, end: float, color: str, width: float) -> None:
        arrow = {"arrowstyle": "-|>", "color": color, "lw": width, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (x + 0.45, end), (x, start), arrowprops=arrow)

    for y, name, free in (
        (top, "cloud", [(0.95, 3.95), (4.9, 5.0), (6.3, 6.4), (7.2, 10)]),
        (low, "device", [(0.95, 7.95), (8.9, 9.0), (9.8, 10)]),
    ):
        for ends in free:  # a lane is not drawn through the boxes on it
            ax.plot(ends, [y, y], color=COLORS["grey"], lw=1, zorder=0)
        ax.text(-0.1, y, name, weight="bold", va="center")
    for i in range(2):
        cross(1.2 + i, low, top, LEFT_OUT, 1.3)
        cross(1.7 + i, top, low, LEFT_OUT, 1.3)
    cross(3.35, low, top, COUNTED, 3.2)
    _lane(ax, 3.95, 0.95, top, "queue", LEFT_OUT)
    _lane(ax, 5.0, 1.3, top, "generate", LEFT_OUT)
    _lane(ax, 6.4, 0.8, top, "pack", LEFT_OUT)
    cross(7.3, top, low, COUNTED, 3.2)
    _lane(ax, 7.95, 0.95, low, "unpack", LEFT_OUT)
    _lane(ax, 9.0, 0.8, low, "rank", LEFT_OUT)
    for x, y, text, color in (
        (2.2, -0.2, "set-up of TCP and TLS", LEFT_OUT),
        (4.0, 1.55, "samples or\nembedding", COUNTED),
        (7.95, 1.95, "layers", COUNTED),
    ):
        ax.text(
            x, y, text, color=color, fontsize=10.5, va="center", ha="center" if y < 0 else "left"
        )
    ax.text(0.95, 3.8, "counted in Table 3", color=COUNTED, weight="bold", fontsize=10.5)
    ax.text(
        4.2, 3.8, "left out, as are the way itself and a slow start", color=LEFT_OUT, fontsize=10.5
    )
    plt.show()


ROW_NAMES = {
    "mobilenet_v3_large": "Large",
    "mobilenet_v3_small": "Small",
    "ml-1m": "ML-1M",
    "ml-100k": "ML-100k",
}
VERDICT_LOOK = {
    "agrees": (COLORS["green"], "✓"),
    "rounding": (COLORS["amber"], "≈"),
    "cannot be right": (COLORS["orange"], "✗"),
}


def table_3(cells: Sequence[Cell]) -> None:
    """Table 3 as printed, each cell coloured and marked by its verdict, ours below what differs.

    Args:
        cells: of `latency.table_3`.
    """
    columns = list(dict.fromkeys(cell.column for cell in cells))
    rows = dict.fromkeys((cell.row, cell.part) for cell in cells)
    places = {pair: n for n, pair in enumerate(rows)}
    _, ax = plt.subplots(figsize=(7, 7.2))
    for cell in cells:
        x, y = columns.index(cell.column), places[cell.row, cell.part]
        color, mark = VERDICT_LOOK[cell.verdict]
        face = FancyBboxPatch(
            (x + 0.03, y + 0.06),
            0.94,
            0.88,
            "round,pad=0,rounding_size=0.06",
            fc=color + "22",
            ec=color,
        )
        ax.add_patch(face)
        differs = cell.verdict != "agrees"
        ax.text(
            x + 0.5,
            y + (0.33 if differs else 0.5),
            f"{mark} {cell.printed}",
            ha="center",
            va="center",
            fontsize=10.5,
        )
        if differs:
            ours = f"ours {cell.ours:.3g}{cell.unit}"
            if cell.unit == "ms" and cell.ours < 0.1:
                ours = f"ours {1000 * cell.ours:.2g}µs"
            ax.text(
                x + 0.5,
                y + 0.7,
                ours,
                ha="center",
                va="center",
                fontsize=9.5,
                color=INK,
            )
    for (row, part), y in places.items():
        ax.text(-0.05, y + 0.5, part, ha="right", va="center", fontsize=10.5)
        if y % 3 == 0:
            ax.text(-1.95, y + 1.5, ROW_NAMES[row], va="center", weight="bold", fontsize=10.5)
            ax.plot([-1.95, len(columns)], [y, y], color=COLORS["grey"], lw=0.8)
    for x, column in enumerate(columns):
        ax.text(x + 0.5, -0.3, column, ha="center", va="center", weight="bold", fontsize=10.5)
    ax.set(xlim=(-2, len(columns) + 0.02), ylim=(len(places) + 0.9, -0.7))
    handles = [
        Patch(fc=c + "22", ec=c, label=f"{m} {name}") for name, (c, m) in VERDICT_LOOK.items()
    ]
    ax.legend(handles=handles, loc="lower center", ncols=3, bbox_to_anchor=(0.5, -0.01))
    ax.axis("off")
    plt.show()


def slow_start(n_bytes: int, link: Link) -> None:
    """How a download arrives: in doubling bursts, and as Table 3 has it, at full speed at once.

    Args:
        n_bytes: of the download.
    """
    one = transfer_ms(SEGMENT, link.bandwidth)
    times, sent = [0.0], [0.0]
    for k in range(slow_start_rounds(n_bytes)):
        burst = min(SEGMENT * INITIAL_WINDOW * 2**k, n_bytes - sent[-1])
        start = times[-1]
        times += [start + transfer_ms(burst, link.bandwidth)]
        sent += [sent[-1] + burst]
        times += [max(times[-1], start + one + link.round_trip)]
        sent += [sent[-1]]
    straight = transfer_ms(n_bytes, link.bandwidth)
    _, ax = plt.subplots(figsize=(7, 3.6))
    mega = np.array(sent[:-1]) / 1e6
    ax.plot(times[:-1], mega, color=LEFT_OUT, label="TCP, bursts that double")
    ax.plot([0, straight], [0, n_bytes / 1e6], color=COUNTED, ls="--", label="bytes over bandwidth")
    ax.set(xlabel="milliseconds since the first byte left", ylabel="MB sent")
    ax.legend(loc="upper center")
    plt.show()


def queue(loads: Sequence[float], waits: Sequence[Sequence[float]]) -> None:
    """Time in the queue, in units of the service time, over the load: formulas and simulation.

    Args:
        loads: that were simulated. waits: for each load the simulated times of all requests, the
            service time being 1.
    """
    _, ax = plt.subplots(figsize=(7, 3.8))
    fine = np.linspace(0.02, 0.96, 200)
    ax.plot(
        fine,
        [queue_ms(float(r), 1, "random") for r in fine],
        color=COLORS["grey"],
        ls="--",
        label="M/M/1, mean",
    )
    ax.plot(fine, [queue_ms(float(r), 1) for r in fine], color=COUNTED, label="M/D/1, mean")
    ax.plot(loads, [np.mean(w) for w in waits], "D", color=COUNTED, ms=7, label="simulated, mean")
    tail = [np.quantile(w, 0.99) for w in waits]
    ax.plot(loads, tail, "^:", color=LEFT_OUT, ms=7, label="simulated, 99 of 100 wait less")
    ax.set(yscale="log", xlabel="load: share of the time that the server is busy", ylim=(0.03, 60))
    ax.set_ylabel("wait, in service times")
    ax.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    ax.legend(loc="upper left")
    plt.show()


def terms(of_case: Mapping[str, Mapping[str, float]]) -> None:
    """Every term of the wait as a bar, on a logarithmic axis: one panel for each case.

    Args:
        of_case: title to the terms of `latency.delay`, all with the same terms; NaN where a term
            was not measured.
    """
    _, axes = plt.subplots(1, len(of_case), figsize=(7, 4.6), sharey=True, sharex=True)
    for ax, (title, parts) in zip(np.atleast_1d(axes), of_case.items(), strict=True):
        names = list(parts)
        values = np.array(list(parts.values()))
        colors = [COUNTED if name in IN_TABLE_3 else LEFT_OUT for name in names]
        ax.barh(names, np.maximum(values, 1e-4), color=[c + "bb" for c in colors], ec=colors)
        for y, value in enumerate(values):
            label = f" {value:.0f}" if value >= 9.95 else f" {value:.2g}"
            label = " not measured" if np.isnan(value) else label
            ax.text(np.fmax(value, 1e-4), y, label, va="center", fontsize=9.5)
        ax.set(xscale="log", xlim=(1e-4, 3e5), xlabel="milliseconds")
        ax.set_title(title, fontsize=11)
        ax.set_xticks([1e-3, 1e-1, 10, 1000], ["0.001", "0.1", "10", "1000"])
        ax.minorticks_off()
    np.atleast_1d(axes)[0].invert_yaxis()
    handles = [Patch(fc=COUNTED, label="counted in Table 3"), Patch(fc=LEFT_OUT, label="left out")]
    np.atleast_1d(axes)[0].figure.legend(handles=handles, loc="outside lower center", ncols=2)
    plt.show()


def delay_map(of_payload: Mapping[str, tuple[int, int]]) -> None:
    """Total wait over bandwidth and round trip, on an open connection.

    Shaded: where the bytes, Table 3's part, are more than half of the wait (dark), or more than a
    tenth (light).

    Args:
        of_payload: title to bytes up and bytes down.
    """
    bandwidth, trip = np.geomspace(1, 200, 80), np.geomspace(1, 200, 80)
    fills = [COLORS["sky"] + "33", COLORS["sky"] + "88"]
    fig, axes = plt.subplots(1, len(of_payload), figsize=(7, 4.1), sharey=True, squeeze=False)
    drawn = []
    for ax, (title, (up, down)) in zip(axes[0], of_payload.items(), strict=True):
        waits = [
            [delay(up, down, Link(float(b), float(t)), connected=True) for b in bandwidth]
            for t in trip
        ]
        total = np.array([[total_ms(w) for w in line] for line in waits])
        counted = np.array([[sum(w[name] for name in IN_TABLE_3) for w in line] for line in waits])
        ax.contourf(bandwidth, trip, counted / total, levels=[0.1, 0.5, 1], colors=fills)
        levels = [lv for lv in (3, 10, 30, 100, 300, 1000, 3000) if total.min() < lv < total.max()]
        drawn.append(ax.contour(bandwidth, trip, total, levels=levels, colors=INK, linewidths=1.3))
        ax.plot(paper.BANDWIDTHS, [50] * 4, "o", color=LEFT_OUT, ms=6)
        ax.set(xscale="log", yscale="log", xlabel="bandwidth, MB/s")
        ax.set_title(title, fontsize=11)
        ax.set_xticks([1, 5, 15, 50, 100], ["1", "5", "15", "50", "100"])
        ax.set_yticks([1, 10, 50, 100], ["1", "10", "50", "100"])
        ax.minorticks_off()
    axes[0, 0].set_ylabel("round trip, ms")
    names = ("bytes are over a tenth of the wait", "over half")
    handles = [Patch(fc=c, label=name) for c, name in zip(fills, names, strict=True)]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    fig.draw_without_rendering()  # a label's gap is cut at the size that the axes have by now
    for ax, lines in zip(axes[0], drawn, strict=True):
        middle = [line[0][len(line[0]) // 2] for line in lines.allsegs]
        ax.clabel(lines, fmt=lambda value: f"{value:g} ms", fontsize=9.5, manual=middle)
    plt.show()


def wait_by_size(links: Mapping[str, Link], marks: Mapping[str, int]) -> None:
    """Total wait over the size of the download, on an open connection: a plain, then a ramp.

    Args:
        links: label to link. marks: label to a download's bytes, drawn as a vertical line.
    """
    sizes = np.unique(np.geomspace(100, 2e7, 500).astype(int))
    _, ax = plt.subplots(figsize=(7, 4.2))
    colors = (LEFT_OUT, COUNTED, COLORS["green"], COLORS["purple"])
    for (label, link), line, color in zip(links.items(), LINES, colors, strict=False):
        waits = [total_ms(delay(120, int(n), link, connected=True)) for n in sizes]
        ax.plot(sizes, waits, ls=line, color=color, label=label)
    for label, n_bytes in marks.items():
        ax.axvline(n_bytes, color=COLORS["grey"], lw=1)
        ax.text(n_bytes * 0.93, 0.4, label, rotation=90, ha="right", va="bottom", fontsize=9.5)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="bytes of the download",
        ylabel="wait, ms",
        ylim=(0.3, 7e3),
    )
    ax.set_xticks([1e2, 1e3, 1e4, 1e5, 1e6, 1e7], ["100", "1 K", "10 K", "100 K", "1 M", "10 M"])
    ax.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    ax.minorticks_off()
    ax.legend(loc="upper left")
    plt.show()
