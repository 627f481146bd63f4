"""The house style: transparent, dark ink, colour-blind safe, legible on a phone.

Dark pages turn the lightness of a figure over and keep its hue, so nothing here is pure white.
"""

from __future__ import annotations

import matplotlib as mpl
import seaborn as sns

INK = "#1b1f24"
# Okabe and Ito's palette without its yellow, which is too light for lines on paper.
COLORS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "purple": "#9A5B8F",
    "sky": "#3A8FC2",
    "amber": "#B87900",
    "grey": "#6b7280",
}

# A method looks the same in every figure, also without colour.
METHOD_STYLE: dict[str, dict[str, str]] = {
    name: {"label": label, "color": COLORS[color], "linestyle": line, "marker": marker}
    for name, label, color, line, marker in (
        ("base", "base", "grey", "--", "o"),
        ("hypernetwork", "HyperNetwork", "amber", ":", "s"),
        ("duet_no_swa", "DUET without SWA", "orange", "-.", "^"),
        ("duet", "DUET", "blue", "-", "D"),
        ("duet_as_released", "DUET as released", "purple", ":", "v"),
        ("finetune", "fine-tuning", "green", "--", "P"),
        ("finetune_dynamic", "fine-tuning, tuned", "green", ":", "X"),
        ("bias_only", "biases only", "sky", "-.", "s"),
        ("neck_as_input", "neck as input", "purple", "--", "8"),
        ("neck_as_input_small", "neck, small head", "purple", "-.", "P"),
        ("wide_head", "wide head, no neck", "grey", ":", "X"),
        ("shuffled", "another's layers", "amber", "--", "p"),
        ("same_person", "another video's layers", "amber", "-", "d"),
        ("last_frame", "from the last frame", "orange", "--", "v"),
        ("constant", "everybody's mean layers", "grey", ":", "h"),
        ("stale", "layers one click old", "green", "-.", "d"),
        ("frame_difference", "first frame subtracted", "green", "--", "*"),
        ("first_frame_as_input", "first frame as input", "purple", "--", "H"),
    )
}


def use_style() -> None:
    """Set the style for all figures that follow: 7 inches wide, 11 points, 150 dots an inch."""
    sns.set_theme(context="notebook", style="ticks", palette=list(COLORS.values()))
    mpl.rcParams.update(
        {
            "figure.figsize": (7.0, 3.6),
            "figure.dpi": 150,
            "savefig.dpi": 150,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "savefig.transparent": True,
            "legend.frameon": False,
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "lines.linewidth": 2.0,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
        }
    )
