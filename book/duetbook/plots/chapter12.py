"""Figures of chapter 12, what holds up."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.patches import Patch, Rectangle

from duetbook.style import COLORS, INK

# Filled where our runs or sums judge; an outline where there was nothing to judge.
FILLED = {
    "Holds": COLORS["green"],
    "Holds in part": COLORS["blue"],
    "Does not hold": COLORS["orange"],
    "Undecided": COLORS["purple"],
}
MARKS = {"Holds": "*", "Does not hold": "x", "Undecided": "o"}
OUTLINES = {
    "Not tested": ":",
    "Definition": "-",
    "Taken over": "--",
    "Not judged": "-.",
}


def board(verdicts: Mapping[str, Mapping[str, tuple[int, ...]]]) -> None:
    """A row for each section of the paper, a numbered square for each claim, by its verdict.

    Args:
        verdicts: of `verdicts.VERDICTS`.
    """
    fig, ax = plt.subplots(figsize=(7, 0.36 * len(verdicts) + 1.2))
    for y, by_verdict in enumerate(verdicts.values()):
        of = {claim: verdict for verdict, claims in by_verdict.items() for claim in claims}
        for x, claim in enumerate(sorted(of)):
            verdict = of[claim]
            filled = FILLED.get(verdict, "none")
            edge, line = (filled, "-") if verdict in FILLED else (COLORS["grey"], OUTLINES[verdict])
            corner = (x - 0.43, y - 0.4)
            ax.add_patch(Rectangle(corner, 0.86, 0.8, fc=filled, ec=edge, ls=line, lw=1.3))
            if verdict in MARKS:  # told apart without colour, too
                ax.plot(x + 0.3, y - 0.25, MARKS[verdict], ms=4.5, color="#fdfdfd")
            color = "#fdfdfd" if verdict in FILLED else INK
            ax.text(x, y, str(claim), ha="center", va="center", fontsize=10, color=color)
    widest = max(sum(map(len, of.values())) for of in verdicts.values())
    ax.set(xlim=(-0.6, widest - 0.4), ylim=(len(verdicts) - 0.4, -0.6))
    ax.set_yticks(range(len(verdicts)), list(verdicts))
    ax.set_xticks([])
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    also = {"*": " (★)", "x": " (×)", "o": " (●)"}
    marks = [
        Patch(fc=color, ec=color, label=name + also.get(MARKS.get(name, ""), ""))
        for name, color in FILLED.items()
    ]
    grey = COLORS["grey"]
    marks += [Patch(fc="none", ec=grey, ls=ls, lw=1.3, label=n) for n, ls in OUTLINES.items()]
    fig.legend(handles=marks, loc="outside lower center", ncols=4)
    plt.show()
