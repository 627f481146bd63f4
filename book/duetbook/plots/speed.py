"""Tables and figures of the page on speed, made from the records of the benchmarks."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from duetbook.plots.chapter4 import BACKBONE_NAMES
from duetbook.style import COLORS, INK
from duetlib.evidence.records import results_dir, whole_records

PIECES = {
    "backbone": COLORS["grey"],
    "neck": COLORS["orange"],
    "generators and dynamic layers": COLORS["blue"],
    "data": COLORS["green"],
    "optimiser": COLORS["purple"],
}
HATCHES = ("", "//", "", "xx", "..")  # so that neighbours differ without colour too
METHODS = {"base": ("o", "grey"), "DUET, N_p = 1": ("^", "orange"), "DUET, N_p = 5": ("D", "blue")}
NECKS = {
    "DUET, N_p = 1": ("GRU", "^", "orange"),
    "DUET, N_p = 1, neck mean": ("mean", "s", "green"),
    "DUET, N_p = 1, neck state": ("backbone's state", "v", "purple"),
}
BATCHING = {
    "one by one": ("^-.", "orange"),
    "who is there": ("D-", "blue"),
    "waits 1 ms": ("s--", "green"),
}
UPLOADS = {"embedding": "the device sends an embedding", "clicks": "the device sends clicks"}
ALONE = "HTTP alone"  # a cloud that only reads a request and answers zeros
MEASURES = {
    "ours_by_sequences": ("sequences", "o", "blue"),
    "ours_by_rows": ("rows of a batch", "s", "green"),
    "ours_by_targets": ("targets scored", "^", "orange"),
}


def records(name: str = "bench") -> pd.DataFrame:
    """The records of a benchmark, a row each.

    Raises:
        FileNotFoundError: if there are none; it says how to make them.
    """
    path = results_dir() / f"{name}.jsonl"
    if not path.exists():
        tool = "make bench" if name == "bench" else f"python tools/{name}.py"
        raise FileNotFoundError(f"no records at {path}: run `{tool}` in a checkout")
    return pd.DataFrame(whole_records(path))


def part(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The records of the parts whose name starts so, with the columns that they have.

    Raises:
        ValueError: if there are none.
    """
    found = table[table["part"].str.startswith(name)]
    if found.empty:
        raise ValueError(f"no part {name!r}; there are {', '.join(table['part'].unique())}")
    return found.dropna(axis=1, how="all")


def where(table: pd.DataFrame) -> str:
    """When and on what the records were made, and how busy the machine was, if that was noted."""
    first = table.iloc[0]
    on = f"{first['date']}, {first['machine'].replace('(R)', '')} CPUs"
    if not first["device"].startswith("cpu"):
        on += f", {first['device']}"
    said = f"{on}, PyTorch {first['torch']}, {first['threads']} thread"
    if "load" in table:
        said += f", load {table['load'].min():.1f} to {table['load'].max():.1f}"
    return said


def _rows_of_backbones(ax: Axes, step: float, per: int) -> dict[str, float]:
    """Place three backbones from the top down; the y of each one's first row."""
    start = {b: -i * (per * step + 0.6) for i, b in enumerate(BACKBONE_NAMES)}
    middle = [y - step * (per - 1) / 2 for y in start.values()]
    ax.set_yticks(middle, list(BACKBONE_NAMES.values()))
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(min(start.values()) - step * per + 0.1, step)
    for y in list(start.values())[1:]:
        ax.axhline(y + 0.3 + step / 2, color=COLORS["grey"], lw=0.6)
    return start


def training(table: pd.DataFrame) -> None:
    """Rows per CPU second of each backbone and method; hollow and full marks for the two batches.

    Args:
        table: records of the parts `training, ...`.
    """
    _, ax = plt.subplots(figsize=(7, 3.9))
    start = _rows_of_backbones(ax, 0.5, len(METHODS))
    batches = list(table["part"].unique())
    for i, (name, (marker, color)) in enumerate(METHODS.items()):
        for batch, face in zip(batches, ("none", COLORS[color]), strict=False):
            found = table[(table["variant"] == name) & (table["part"] == batch)]
            y = [start[b] - 0.5 * i for b in found["backbone"]]
            x = found["rows_per_cpu_second"] / 1000
            ax.plot(x, y, marker, ms=8, mew=1.8, mfc=face, color=COLORS[color])
        ax.plot([], [], marker, ms=8, color=COLORS[color], label=name.replace("N_p", "$N_p$"))
    for batch, face in zip(batches, ("none", INK), strict=False):
        label = batch.removeprefix("training, ")
        ax.plot([], [], "o", ms=8, mew=1.8, mfc=face, color=INK, label=label)
    ax.set(xlabel="thousand rows per CPU second", xlim=(0, None))
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.17), ncols=2)


def shares(table: pd.DataFrame) -> None:
    """What part of a DUET step goes into what, a bar for each backbone.

    Args:
        table: records of the part `share of a step`.
    """
    _, ax = plt.subplots(figsize=(7, 3.3))
    for y, (_, of_one) in enumerate(table.groupby("backbone", sort=False)):
        share, left = of_one.set_index("variant")["share"], 0.0
        for (name, color), hatch in zip(PIECES.items(), HATCHES, strict=True):
            width = 100 * share[name]
            label = name if y == 0 else None
            ax.barh(y, width, left=left, color=color, hatch=hatch, ec="#f4f4f4", label=label)
            if width > 8:
                box = {"fc": color, "ec": "none", "pad": 1.5}
                middle = ax.text(left + width / 2, y, f"{width:.0f} %", bbox=box)
                middle.set(ha="center", va="center", color="#f4f4f4", weight="bold")
            left += width
    names = [BACKBONE_NAMES[b] for b in table["backbone"].unique()]
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set(xlabel="percent of the step's CPU time")
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2)


def necks(table: pd.DataFrame) -> None:
    """What a DUET step costs with each neck, as a multiple of the base's step.

    Args:
        table: records of one part `training, ...`.
    """
    _, ax = plt.subplots(figsize=(7, 3.3))
    start = _rows_of_backbones(ax, 0.45, len(NECKS))
    for i, (name, (label, marker, color)) in enumerate(NECKS.items()):
        of_neck = table[table["variant"] == name]
        y = [start[b] - 0.45 * i for b in of_neck["backbone"]]
        ax.plot(of_neck["times_base"], y, marker, ms=9, color=COLORS[color], label=label)
    ax.axvline(1, color=COLORS["grey"], ls="--", lw=1.5)
    ax.set(xlabel="CPU time of a step, in steps of the base", xlim=(0.8, None))
    ax.legend(title="neck", loc="upper center", bbox_to_anchor=(0.45, -0.18), ncols=3)


def growth(table: pd.DataFrame) -> None:
    """Above, the CPU time of a row; below, the peak of memory; a column for each thing that grows.

    Args:
        table: records of the parts `growth, ...`.
    """
    axes_of = table["part"].unique()
    _, axes = plt.subplots(2, len(axes_of), figsize=(7, 4.6), sharey="row", sharex="col")
    for column, name in zip(axes.T, axes_of, strict=True):
        of_axis = table[table["part"] == name]
        looks = (("us_a_row", "D-", "blue"), ("peak_mb", "s--", "orange"))
        for ax, (field, line, color) in zip(column, looks, strict=True):
            ax.plot(of_axis["size"], of_axis[field], line, ms=6, color=COLORS[color])
            ax.set(xscale="log")
            ax.margins(x=0.15)
        ticks = [f"{n:,.0f}" if n < 10_000 else f"{n / 1000:.0f}k" for n in of_axis["size"]]
        column[1].set_xticks(list(of_axis["size"]), ticks)
        column[1].xaxis.set_minor_formatter(NullFormatter())
        column[1].set_xlabel(name.removeprefix("growth, "))
    axes[0, 0].set(ylabel="CPU µs a row", ylim=(0, None))  # all columns: they share it
    axes[1, 0].set(ylabel="peak memory, MB", ylim=(0, None))


def against_the_loop(table: pd.DataFrame) -> None:
    """How many times faster than a loop over devices, over B; forward, and forward and backward.

    Args:
        table: records of the parts `application, ...` and `generation and application, ...`.
    """
    _, axes = plt.subplots(1, 2, figsize=(7, 3.9), sharey=True)
    looks = {"batched": ("blue", "D"), "grouped": ("orange", "^")}
    for ax, passes in zip(axes, ("forward", "forward+backward"), strict=True):
        for what, line in (("application", "-"), ("generation and application", "--")):
            of_part = table[table["part"] == f"{what}, {passes}"]
            for way, (color, marker) in looks.items():
                of_way = of_part[of_part["variant"] == way]
                look = {"marker": marker, "ls": line, "color": COLORS[color], "ms": 5}
                ax.loglog(of_way["B"], of_way["faster"], label=f"{way}, {what}", **look)
        ax.axhline(1, color=COLORS["grey"], lw=1)
        ax.set(xlabel="devices in the batch, B")
        ax.set_title(passes.replace("+", " and "), fontsize=11)
    ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50) if t < 1.2 * table["faster"].max()]
    axes[0].set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel("times faster than the loop")
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=2)


def steps_on_gpu(table: pd.DataFrame) -> None:
    """Milliseconds of a training step over the rows of a batch: eager, and captured as a graph.

    Args:
        table: records of the parts `training, ...` of the benchmark `bench_gpu`.
    """
    _, axes = plt.subplots(1, 3, figsize=(7, 3.9), sharey=True)
    for ax, (backbone, name) in zip(axes, BACKBONE_NAMES.items(), strict=True):
        for method in ("base", "DUET, N_p = 5"):
            marker, color = METHODS[method]
            for ending, line in (("", "--"), (", one graph", "-")):
                found = table[table["backbone"] == backbone]
                found = found[found["variant"] == method + ending].sort_values("B")
                label = method.replace("N_p", "$N_p$") + (", captured" if ending else ", eager")
                look = {"marker": marker, "ls": line, "color": COLORS[color], "ms": 6}
                fill = COLORS[color] if ending else "white"
                ax.loglog(5 * found["B"], found["ms"], label=label, mfc=fill, **look)
        rows = sorted(5 * table["B"].unique())
        ax.set_xticks(rows, [f"{n:,}" for n in rows], fontsize=8)
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.margins(x=0.12)
        ax.set_title(name, fontsize=11)
    ticks = (0.5, 1, 2, 5, 10)
    axes[0].set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel("milliseconds a step")
    axes[1].set_xlabel("rows in the batch")
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=2)


def rows_on_gpu(gpu: pd.DataFrame, thread: pd.DataFrame) -> pd.DataFrame:
    """Thousand training rows a second: one CPU thread, and a GPU in its two ways.

    Args:
        gpu, thread: records of one size of batch of the parts `training, ...`, of the benchmarks
            `bench_gpu` and `bench`.

    Returns:
        A row for each backbone and method.
    """
    rows = gpu.pivot(index="backbone", columns="variant", values="rows_per_second") / 1000
    of_thread = thread.pivot(index="backbone", columns="variant", values="rows_per_cpu_second")
    ways = {
        "one CPU thread": of_thread[[*METHODS]] / 1000,
        "GPU, eager": rows[[*METHODS]],
        "GPU, captured": rows[[f"{m}, one graph" for m in METHODS]].set_axis([*METHODS], axis=1),
    }
    return pd.DataFrame({way: table.stack() for way, table in ways.items()})


def devices_on_gpu(table: pd.DataFrame) -> None:
    """Milliseconds over B: writing both layers of SASRec, and training what applies one layer.

    Args:
        table: records of the benchmark `bench_gpu`.
    """
    _, (write, use) = plt.subplots(1, 2, figsize=(7, 3.9), sharey=True)
    made = part(table, "generating")
    made = made[made["backbone"] == "sasrec"]
    applied = part(table, "application, forward+backward")
    lines = (
        (write, made, "cpu", "one CPU thread", "s--", "grey"),
        (write, made, "cuda", "GPU", "D-", "blue"),
        (use, applied, "loop", "loop", "s--", "grey"),
        (use, applied, "grouped", "grouped convolution", "^-.", "orange"),
        (use, applied, "batched", "batched product", "D-", "blue"),
    )
    for ax, records_of, variant, label, look, color in lines:
        found = records_of[records_of["variant"] == variant].sort_values("B")
        ax.loglog(found["B"], found["ms"], look, color=COLORS[color], ms=5, label=label)
    for ax, title in ((write, "writing two layers"), (use, "applying one, and backward")):
        ax.set_title(title, fontsize=11)
        sizes = sorted(applied["B"].unique())
        ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("devices in the batch, B")
        ax.legend(loc="upper left", fontsize=9)
    ticks = (0.5, 1, 10, 100)
    write.set_yticks(ticks, [f"{t:g}" for t in ticks])
    write.yaxis.set_minor_formatter(NullFormatter())
    write.set_ylabel("milliseconds")


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """How many times faster our base is than RecBole (anomaly detection off), and what that means.

    Args:
        table: records of the benchmark `bench_recbole`.

    Returns:
        A row for each of RecBole's ways; within a tenth either way, the two are level.
    """

    def verdict(times: float) -> str:
        word = "ahead" if times > 1.1 else "behind" if times < 1 / 1.1 else "level"
        return f"{times:.3g} {word}"

    theirs = table[table["library"] == "RecBole"]
    said = {label: theirs[field].map(verdict) for field, (label, _, _) in MEASURES.items()}
    return theirs[["backbone", "way"]].assign(**said)


def beside(table: pd.DataFrame) -> None:
    """How many times faster our base is than each of RecBole's ways, counted in three measures.

    Full marks: RecBole with anomaly detection off; hollow ones: as it comes.

    Args:
        table: records of the benchmark `bench_recbole`.
    """
    _, ax = plt.subplots(figsize=(7, 5))
    ways = table[table["library"] == "RecBole"][["backbone", "way"]].reset_index(drop=True)
    for library, full in (("RecBole as it comes", False), ("RecBole", True)):
        theirs = ways.merge(table[table["library"] == library], on=["backbone", "way"])
        for shift, (field, (label, marker, color)) in zip(
            (0.22, 0, -0.22), MEASURES.items(), strict=True
        ):
            face = COLORS[color] if full else "none"
            look: dict[str, Any] = {"mfc": face, "color": COLORS[color], "ms": 7}
            ax.plot(
                theirs[field], shift - theirs.index, marker, label=label if full else None, **look
            )
    names = [f"{BACKBONE_NAMES[b]}\n{w}" for b, w in zip(ways.backbone, ways.way, strict=True)]
    ax.set_yticks(-ways.index, names, linespacing=1.1)
    for y in ways.index[1:]:
        ax.axhline(0.5 - y, color=COLORS["grey"], lw=0.4)
    ax.axvline(1, color=COLORS["grey"], ls="--", lw=1.5)
    ax.set(xscale="log", xlabel="times faster, ours over RecBole's")
    ticks = [0.01, 0.1, 1, 10, 100]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.legend(title="counted in", loc="upper center", bbox_to_anchor=(0.3, -0.13), ncols=3)


# ---- faces


def steps_of_faces(table: pd.DataFrame) -> None:
    """What a training step costs in steps of the base, a row a method, a mark a model.

    Args:
        table: records of the parts `training step, ...`.
    """
    _, ax = plt.subplots(figsize=(7, 3.7))
    names = [name for name in table["variant"].unique() if name != "base"]
    looks = {
        "mobilenet_v3_small": ("Small", "D", "blue"),
        "mobilenet_v3_large": ("Large", "s", "orange"),
    }
    for backbone, (label, marker, color) in looks.items():
        of = table[table["backbone"] == backbone].set_index("variant")["times_base"]
        ax.plot(of[names], range(len(names)), marker, ms=8, color=COLORS[color], label=label)
    ax.axvline(1, color=COLORS["grey"], ls="--", lw=1.5)
    ax.axvline(2, color=COLORS["grey"], ls=":", lw=1.2)
    ax.set_yticks(range(len(names)), [name.replace("N_p", "$N_p$") for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="time of a step, in steps of the base", xlim=(0.9, 2.1))
    ax.legend(loc="upper right")


# ---- device and cloud


def sessions(table: pd.DataFrame) -> None:
    """Sessions a second over the number of devices that ask at once, a line per way of batching.

    Args:
        table: records of the part `cloud`.
    """
    _, axes = plt.subplots(1, 2, figsize=(7, 3.9), sharey=True)
    for ax, (upload, title) in zip(axes, UPLOADS.items(), strict=True):
        here = table[table["upload"] == upload]
        bare = here[here["http"] == ALONE]
        ax.plot(bare["concurrency"], bare["rate"], ":", color=COLORS["grey"], label=ALONE)
        for name, (line, color) in BATCHING.items():
            ours = here[(here["http"] == "h11") & (here["batching"] == name)]
            ax.plot(ours["concurrency"], ours["rate"], line, ms=5, color=COLORS[color], label=name)
        _devices(ax, table)
        ax.set_title(title, fontsize=11)
    axes[0].set(ylabel="sessions a second", ylim=(0, None))
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=4)


def answer_times(table: pd.DataFrame, goal: float) -> None:
    """Half of all answers come within the lower line, 99 of 100 within the upper one.

    Args:
        table: records of the part `cloud`. goal: milliseconds, drawn across.
    """
    _, axes = plt.subplots(1, 2, figsize=(7, 3.9), sharey=True)
    for ax, (upload, title) in zip(axes, UPLOADS.items(), strict=True):
        here = table[(table["upload"] == upload) & (table["http"] == "h11")]
        for name, (line, color) in BATCHING.items():
            ours = here[here["batching"] == name]
            look: dict[str, Any] = {"ms": 5, "color": COLORS[color]}
            ax.plot(ours["concurrency"], ours["p99_ms"], line, label=name, **look)
            ax.plot(ours["concurrency"], ours["p50_ms"], line, mfc="none", alpha=0.75, **look)
        ax.axhline(goal, color=COLORS["grey"], lw=1.2, ls=":")
        _devices(ax, table)
        ax.set_yscale("log")
        ax.set_title(title, fontsize=11)
    ticks = [0.5, 1, 2, 5, 10, 20, 50]
    axes[0].set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    axes[0].set(ylabel="ms to answer: full 99 %, hollow 50 %")
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=3)


def _devices(ax: Axes, table: pd.DataFrame) -> None:
    ticks = sorted(table["concurrency"].unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_xlabel("devices asking at once")


def costs(table: pd.DataFrame) -> None:
    """Where the CPU time of one answer goes, a bar for each way of asking and batching.

    Args:
        table: records of the part `limit`.
    """
    pieces = {"HTTP": "grey", "read": "green", "generate": "blue", "sign": "orange"}
    _, ax = plt.subplots(figsize=(7, 3.9))
    left = pd.Series(0.0, index=table.index)
    rows = range(len(table))
    for (name, color), hatch in zip(pieces.items(), HATCHES, strict=False):
        width = table[f"{name}_us"]
        look: dict[str, Any] = {"hatch": hatch, "ec": "#f4f4f4", "label": name}
        ax.barh(rows, width, left=left, color=COLORS[color], **look)
        left += width
    ax.plot(table["cpu_us"], rows, "|", ms=18, mew=2.5, color=INK, label="measured, whole")
    ax.set_yticks(rows, [f"{r.upload},\n{r.batching}" for r in table.itertuples()])
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set(xlabel="CPU microseconds of the cloud for one answer", xlim=(0, None))
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.16), ncols=3)


def queue(table: pd.DataFrame) -> None:
    """The measured mean wait, over how busy the cloud was, between two formulas.

    Args:
        table: records of the part `queue`.
    """
    _, ax = plt.subplots(figsize=(7, 3.6))
    busy = 100 * table["busy"]
    looks = {
        "random_ms": ("service times at random: M/M/1", "s--", "green"),
        "wait_ms": ("measured", "D-", "blue"),
        "fixed_ms": ("service times all the same: M/D/1", "^-.", "orange"),
    }
    for field, (label, line, color) in looks.items():
        ax.plot(busy, table[field], line, ms=6, color=COLORS[color], label=label)
    ax.set(xlabel="percent of the time that the cloud is busy", ylabel="mean wait, ms")
    ax.set(xlim=(0, 100), ylim=(0, None))
    ax.legend(loc="upper left")


def soak(table: pd.DataFrame) -> None:
    """The cloud's memory and its answers' times, minute after minute.

    Args:
        table: records of the part `soak`.
    """
    _, axes = plt.subplots(2, 1, figsize=(7, 3.9), sharex=True)
    minutes = table["seconds"].cumsum() / 60
    axes[0].plot(minutes, table["memory_mb"], "o-", color=COLORS["orange"])
    axes[0].set(ylabel="memory, MB", ylim=(0, 1.25 * table["memory_mb"].max()))
    axes[1].plot(minutes, table["p99_ms"], "D-", color=COLORS["blue"], label="99 of 100 answers")
    axes[1].plot(minutes, table["p50_ms"], "D--", mfc="none", color=COLORS["blue"], label="half")
    axes[1].set(ylabel="ms to answer", xlabel="minutes", ylim=(0, None))
    axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, 1.25), ncols=2)
