"""What the paper prints: numbers copied from its tables, to be computed with and checked against.

Nothing here was measured by us. Chapter 5 counts with Tables 1 and 4, chapter 7 with the costs in
Table 1, chapter 8 with Table 4 and the costs in Table 2, chapter 9 with Table 3.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from data_prep.arguments import one_of


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

# Table 3, Section 4.3: for each row and part its five cells, the size and then the time at each of
# these bandwidths. "4G" is what the table calls the first two, "5G" the others.
BANDWIDTHS = (5, 15, 50, 100)  # MB/s
_FRAME = ("0.14MB", "0.03s", "0.01s", "0.003s", "0.001s")
_CODE_TIMES = ("0.05ms", "0.017ms", "0.005ms", "0.003ms")
_LAYERS = ("8.06KB", "1.60ms", "0.53ms", "0.16ms", "0.08ms")
TABLE_3: dict[tuple[str, str], tuple[str, ...]] = {
    ("mobilenet_v3_large", "samples"): _FRAME,
    ("mobilenet_v3_large", "embedding"): ("0.25KB", *_CODE_TIMES),
    ("mobilenet_v3_large", "layers"): ("5.31MB", "1.06s", "0.35s", "0.10s", "0.05s"),
    ("mobilenet_v3_small", "samples"): _FRAME,
    ("mobilenet_v3_small", "embedding"): ("0.25KB", *_CODE_TIMES),
    ("mobilenet_v3_small", "layers"): ("3.06MB", "0.61s", "0.20s", "0.06s", "0.03s"),
    ("ml-1m", "samples"): ("25.63KB", "5.13ms", "1.71ms", "0.51ms", "0.26ms"),
    ("ml-1m", "embedding"): ("8.06KB", *_CODE_TIMES),
    ("ml-1m", "layers"): _LAYERS,
    ("ml-100k", "samples"): ("7.32KB", "1.46ms", "0.49ms", "0.15ms", "0.07ms"),
    ("ml-100k", "embedding"): ("0.25KB", *_CODE_TIMES),
    ("ml-100k", "layers"): _LAYERS,
}
DELAY_IN_TEXT = ("0.08s", "1.06s")  # Section 4.3: "a low time delay from 0.08s ∼ 1.06s"


class Costs(NamedTuple):
    """What a model costs on the device, as printed.

    Attributes:
        params: the column Param., such as `896.83K`. flops: the column FLOPs, such as `1.82M`.
    """

    params: str
    flops: str


# Table 1, Section 4.2, the columns Param. and FLOPs: the same for all methods.
TABLE_1_COSTS: dict[tuple[str, str], Costs] = {
    ("ml-1m", "din"): Costs("896.83K", "1.82M"),
    ("ml-1m", "sasrec"): Costs("888.63K", "1.99M"),
    ("ml-1m", "gru4rec"): Costs("886.62K", "1.94M"),
    ("ml-100k", "din"): Costs("271.83K", "0.60M"),
    ("ml-100k", "sasrec"): Costs("263.63K", "0.77M"),
    ("ml-100k", "gru4rec"): Costs("261.62K", "0.72M"),
}
TABLE_2_COSTS: dict[str, Costs] = {
    "mobilenet_v3_large": Costs("2.69M", "0.27B"),
    "mobilenet_v3_small": Costs("1.24M", "0.06B"),
}

# Tables 1 and 2, the column Time Delay: the same for the three recommenders, and for DUET with and
# without the SWA; there is no fine-tuning in Table 2.
TIME_DELAY: dict[tuple[str, str], str] = {
    ("ml-1m", "base"): "0",
    ("ml-1m", "finetune"): "≥ 60,000ms",
    ("ml-1m", "duet"): "≥ 0.34ms",
    ("ml-100k", "base"): "0",
    ("ml-100k", "finetune"): "≥ 60,000ms",
    ("ml-100k", "duet"): "≥ 0.15ms",
    ("mobilenet_v3_large", "base"): "0",
    ("mobilenet_v3_large", "duet"): "≥ 51ms",
    ("mobilenet_v3_small", "base"): "0",
    ("mobilenet_v3_small", "duet"): "≥ 31ms",
}

# What Param. and FLOPs were counted with. The rows are ours to infer, but they are not only fitted:
# the same ones give Table 3's uploads of samples, and the step from one data set's FLOPs to the
# other's. The other layers are one number for a backbone, for both data sets.
ROWS = {"ml-1m": 28_000, "ml-100k": 8_000}  # V, of one table of items
WIDTH = 32  # D, numbers in a row
OTHER_LAYERS = {"din": 21_825, "sasrec": 13_632, "gru4rec": 11_616}
ITEMS = {"ml-1m": 3_706, "ml-100k": 1_682}  # films that have a rating (Harper and Konstan, 2015)


class Amount(NamedTuple):
    """A printed quantity.

    Attributes:
        value: in `unit`. digit: what one more in the last printed digit is worth. unit: as printed.
    """

    value: float
    digit: float
    unit: str


def amount(text: str) -> Amount:
    """Read a printed quantity, such as `5.13ms`, `0.25KB` or `≥ 60,000ms`.

    Raises:
        ValueError: if there is no number in the text.
    """
    found = re.fullmatch(r"(?:≥ )?([\d,]+(?:\.(\d+))?)([A-Za-z]*)", text)
    if found is None:
        raise ValueError(f"{text!r} is not a number with a unit, such as '5.13ms'")
    number, decimals, unit = found.groups()
    return Amount(float(number.replace(",", "")), 10.0 ** -len(decimals or ""), unit)


def params_as_counted(dataset: str, backbone: str) -> float:
    """Table 1's Param. in "K": the item table in units of 1,024, all other layers in thousands.

    Raises:
        ValueError: for a data set or a backbone that Table 1 does not have.

    Source: Chapter 7.
    """
    one_of(ROWS, dataset=dataset)
    one_of(OTHER_LAYERS, backbone=backbone)
    return ROWS[dataset] * WIDTH / 1024 + OTHER_LAYERS[backbone] / 1000


def params_of_real_table(dataset: str, backbone: str) -> int:
    """The same layers with a row for each film that there is, each number counted once."""
    one_of(ITEMS, dataset=dataset)
    one_of(OTHER_LAYERS, backbone=backbone)
    return ITEMS[dataset] * WIDTH + OTHER_LAYERS[backbone]


def flops_of_table(dataset: str) -> float:
    """What the item table adds to Table 1's FLOPs, in "M" of 2^20: two for each of its numbers.

    That is the price of multiplying by the whole table. A look-up multiplies nothing.

    Source: Chapter 7.
    """
    one_of(ROWS, dataset=dataset)
    return 2 * ROWS[dataset] * WIDTH / 2**20


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
    one_of(dict.fromkeys(name for name, _ in TABLE_4), model=model)
    return {n: printed.std for (name, n), printed in TABLE_4.items() if name == model}
