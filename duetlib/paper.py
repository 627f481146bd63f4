"""What the paper prints: numbers copied from its tables, to be computed with and checked against.

Nothing here was measured by us. Chapter 5 counts with Tables 1 and 4.
"""

from __future__ import annotations

from typing import NamedTuple


class Printed(NamedTuple):
    """A mean and a standard deviation, as printed.

    Attributes:
        mean: AUC (Table 1), or accuracy in per cent (Table 4).
        std: in the unit of the mean.
    """

    mean: float
    std: float


# Table 1, Section 4.2, the columns AUC(mean) and AUC(std): data set, backbone, method.
TABLE_1: dict[tuple[str, str, str], Printed] = {
    ("ml-1m", "din", "base"): Printed(0.9077, 0.0006),
    ("ml-1m", "din", "finetune"): Printed(0.9080, 0.0006),
    ("ml-1m", "din", "duet_no_swa"): Printed(0.9233, 0.0008),
    ("ml-1m", "din", "duet"): Printed(0.9230, 0.0007),
    ("ml-1m", "sasrec", "base"): Printed(0.9280, 0.0007),
    ("ml-1m", "sasrec", "finetune"): Printed(0.9279, 0.0006),
    ("ml-1m", "sasrec", "duet_no_swa"): Printed(0.9313, 0.0007),
    ("ml-1m", "sasrec", "duet"): Printed(0.9326, 0.0003),
    ("ml-1m", "gru4rec", "base"): Printed(0.9279, 0.0016),
    ("ml-1m", "gru4rec", "finetune"): Printed(0.9286, 0.0014),
    ("ml-1m", "gru4rec", "duet_no_swa"): Printed(0.9311, 0.0014),
    ("ml-1m", "gru4rec", "duet"): Printed(0.9311, 0.0004),
    ("ml-100k", "din", "base"): Printed(0.8348, 0.0045),
    ("ml-100k", "din", "finetune"): Printed(0.8429, 0.0045),
    ("ml-100k", "din", "duet_no_swa"): Printed(0.8560, 0.0030),
    ("ml-100k", "din", "duet"): Printed(0.8581, 0.0055),
    ("ml-100k", "sasrec", "base"): Printed(0.8721, 0.0026),
    ("ml-100k", "sasrec", "finetune"): Printed(0.8719, 0.0027),
    ("ml-100k", "sasrec", "duet_no_swa"): Printed(0.8721, 0.0027),
    ("ml-100k", "sasrec", "duet"): Printed(0.8723, 0.0009),
    ("ml-100k", "gru4rec", "base"): Printed(0.8723, 0.0017),
    ("ml-100k", "gru4rec", "finetune"): Printed(0.8711, 0.0019),
    ("ml-100k", "gru4rec", "duet_no_swa"): Printed(0.8751, 0.0055),
    ("ml-100k", "gru4rec", "duet"): Printed(0.8755, 0.0017),
}

# Table 4, Section 4.3, CK+: model and N_p. 0 is the base without DUET, 1 is DUET without SWA (the
# paper prints a dash for both). Five repeats.
TABLE_4: dict[tuple[str, int], Printed] = {
    ("mobilenet_v3_large", 0): Printed(76.97, 2.76),
    ("mobilenet_v3_large", 1): Printed(79.49, 2.84),
    ("mobilenet_v3_large", 2): Printed(80.40, 4.26),
    ("mobilenet_v3_large", 3): Printed(81.88, 2.81),
    ("mobilenet_v3_large", 5): Printed(82.45, 2.67),
    ("mobilenet_v3_small", 0): Printed(67.88, 2.15),
    ("mobilenet_v3_small", 1): Printed(71.82, 2.91),
    ("mobilenet_v3_small", 2): Printed(73.11, 3.80),
    ("mobilenet_v3_small", 3): Printed(73.74, 2.19),
    ("mobilenet_v3_small", 5): Printed(75.15, 1.41),
}


def swa_spread_ratios() -> dict[tuple[str, str], float]:
    """For each data set and backbone of Table 1, the spread without the SWA over that with it.

    Above 1 the SWA has the smaller spread.
    """
    pairs = {(dataset, backbone) for dataset, backbone, _ in TABLE_1}
    ordered = sorted(pairs, key=[key[:2] for key in TABLE_1].index)
    return {
        pair: TABLE_1[(*pair, "duet_no_swa")].std / TABLE_1[(*pair, "duet")].std for pair in ordered
    }


def table_4_spreads(model: str) -> dict[int, float]:
    """Printed standard deviation of a MobileNetV3 by N_p, in order of N_p."""
    return {n: printed.std for (name, n), printed in TABLE_4.items() if name == model}
