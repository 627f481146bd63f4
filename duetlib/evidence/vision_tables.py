"""From records of runs on faces to Tables 2 and 4, with intervals, and to curves.

Each seed starts from other weights *and* tests other people, so the spread over seeds holds both
sources of chance. What it does not hold is that the folds' training people overlap: an interval
from the spread alone is too narrow, and is widened for it (Nadeau and Bengio, 2003). And the spread
of a few seeds may be small by luck: an interval is never narrower than what the choice of people
alone would bring. Chapter 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from data_prep.arguments import whole
from duetlib.evidence.paper import TABLE_4
from duetlib.evidence.records import load_records
from duetlib.evidence.statistics import Ahead, interval_over_seeds
from duetlib.vision.rates import rates

DRAWS = 1000  # of the people of a fold
NEEDED = (
    "backbone method seed n_p size strength weight_decay accuracy curve sessions config date "
    "commit device"
)
METHODS_OF_TABLE_2 = ("base", "hypernetwork", "duet_no_swa", "duet")


def recorded(dataset: str = "faces") -> pd.DataFrame:
    """The records of a data set of faces; none at all where there is no file.

    Returns:
        A row a run, as `load_records` has it, with the strength of what is personal (drawn faces)
        and the weight decay.
    """
    try:
        records = load_records(dataset)
    except FileNotFoundError:
        return pd.DataFrame(columns=NEEDED.split())
    drawn = [dict(config.get("data", ())) for config in records["config"]]
    return records.assign(
        strength=[float(data.get("strength", 1.0)) for data in drawn],
        weight_decay=[config["train"]["weight_decay"] for config in records["config"]],
    )


def standard(records: pd.DataFrame, strength: float = 1.0) -> pd.DataFrame:
    """The runs on people of one strength, without weight decay; every N_p is among them."""
    return records[(records["strength"] == strength) & (records["weight_decay"] == 0)]


def same_seeds(records: pd.DataFrame) -> pd.DataFrame:
    """The runs of those seeds that every method and N_p of a backbone has.

    Each seed tests other people: means over other seeds would compare people, not methods.
    """

    def common(of: pd.DataFrame) -> pd.Series:
        ways = of.groupby(["method", "n_p"]).ngroups
        seeds = of.drop_duplicates(["method", "n_p", "seed"]).groupby("seed").size()
        return of["seed"].isin(seeds.index[seeds == ways])

    kept = [of[common(of)] for _, of in records.groupby("backbone", sort=False)]
    return pd.concat(kept) if kept else records


def only(records: pd.DataFrame, backbone: str, method: str, n_p: int | None = None) -> pd.DataFrame:
    """The runs of one method: a row a seed.

    Args:
        n_p: generators; the method's own number by default.
    """
    kept = (records["backbone"] == backbone) & (records["method"] == method)
    if n_p is None and method == "duet":
        n_p = 5
    return records[kept] if n_p is None else records[kept & (records["n_p"] == n_p)]


def error_of_people(runs: pd.DataFrame, metric: str, than: pd.DataFrame | None = None) -> float:
    """Standard error of a mean over seeds, if other people had stood in each seed's fold.

    In each fold its people are drawn again, with replacement (Efron, 1979). Training and start stay
    as they are, so this is a lower bound of the whole error. 0 where records hold no people.

    Args:
        runs: of one method, a row a seed. than: of another, less whose metric it is.
    """
    sides = [runs] if than is None else [runs, than]
    if not all("people" in side for side in sides):
        return 0.0
    people = pd.concat([side.set_index("seed")["people"] for side in sides], axis=1, join="inner")
    rng = np.random.default_rng(0)
    variances = []
    for fold in people.itertuples(index=False):
        n = len(fold[0]["person"])
        drawn = rng.multinomial(n, np.full(n, 1 / n), DRAWS)  # [DRAWS, U]
        found = [
            rates(*(drawn @ np.array(of[part]) for part in ("right", "frames")))[metric]
            for of in fold
        ]
        variances.append(np.var(found[0] - (found[1] if len(found) > 1 else 0.0)))
    return float(np.sqrt(sum(variances)) / len(variances))


def difference(runs: pd.DataFrame, than: pd.DataFrame, metric: str = "accuracy") -> Ahead:
    """The first method less the second, paired by seed: the same people and start.

    Raises:
        ValueError: if they have no seed in common.
    """
    gap = (runs.set_index("seed")[metric] - than.set_index("seed")[metric]).dropna().to_numpy(float)
    if not len(gap):
        raise ValueError("the two methods have no seed in common")
    people = error_of_people(runs, metric, than)
    return Ahead(float(gap.mean()), *interval_over_seeds(gap, people_error=people), len(gap))


def differences(
    records: pd.DataFrame,
    methods: Sequence[str],
    than: str = "base",
    metric: str = "accuracy",
) -> pd.DataFrame:
    """Several methods less one, for each backbone that has both: a row a comparison."""
    rows: list[dict[str, Any]] = []
    for backbone in dict.fromkeys(records["backbone"]):
        for method in methods:
            pair = only(records, backbone, method), only(records, backbone, than)
            if set(pair[0]["seed"]) & set(pair[1]["seed"]):
                found = difference(*pair, metric)
                row = {"backbone": backbone, "method": method, **found._asdict()}
                rows.append({**row, "verdict": found.verdict})
    return pd.DataFrame(rows, columns=["backbone", "method", *Ahead._fields, "verdict"])


def table_2(records: pd.DataFrame, metrics: Sequence[str] = ("accuracy",)) -> pd.DataFrame:
    """Mean and standard deviation in per cent, for the four methods and each backbone.

    Only seeds that all four of a backbone have are in it (`same_seeds`).

    Args:
        records: of one strength (`standard`).

    Returns:
        Columns `backbone`, `method`, `seeds`, and for each metric `…` and `… std`.
    """
    one_of_each = (records["method"] != "duet") | (records["n_p"] == 5)
    records = same_seeds(records[one_of_each & records["method"].isin(METHODS_OF_TABLE_2)])
    rows = []
    for backbone in dict.fromkeys(name for name, _ in TABLE_4):
        for method in METHODS_OF_TABLE_2:
            runs = only(records, backbone, method)
            row: dict[str, Any] = {"backbone": backbone, "method": method, "seeds": len(runs)}
            for metric in metrics:
                row[metric] = 100 * runs[metric].mean() if len(runs) else np.nan
                row[f"{metric} std"] = 100 * runs[metric].std(ddof=1) if len(runs) else np.nan
            rows.append(row)
    return pd.DataFrame(rows)


def table_4(records: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by N_p beside the printed one, in per cent; N_p = 0 is the base.

    Only seeds that every N_p of a backbone has are in it (`same_seeds`).

    Returns:
        Columns `backbone`, `n_p`, `seeds`, `accuracy`, `std`, `low`, `high`, `printed`,
        `printed_std`; NaN where there is no record.
    """
    records = same_seeds(records[records["method"].isin(["base", "duet_no_swa", "duet"])])
    rows = []
    for (backbone, n_p), printed in TABLE_4.items():
        method = {0: "base", 1: "duet_no_swa"}.get(n_p, "duet")
        runs = only(records, backbone, method, n_p if n_p > 1 else None)
        accuracy = 100 * runs["accuracy"].to_numpy(float)
        row: dict[str, Any] = {"backbone": backbone, "n_p": n_p, "seeds": len(runs)}
        row["accuracy"] = accuracy.mean() if len(accuracy) else np.nan
        row["std"] = accuracy.std(ddof=1) if len(accuracy) > 1 else np.nan
        people = 100 * error_of_people(runs, "accuracy") if len(runs) else 0.0
        row["low"], row["high"] = interval_over_seeds(accuracy, people_error=people)
        rows.append({**row, "printed": printed.mean, "printed_std": printed.std})
    return pd.DataFrame(rows)


def curves(records: pd.DataFrame) -> pd.DataFrame:
    """All learning curves as one long table: `backbone`, `method`, `n_p`, `seed`, and each epoch's
    columns."""
    rows = []
    for record in records.to_dict("records"):
        who = {name: record[name] for name in ("backbone", "method", "n_p", "seed")}
        rows += [{**who, **epoch} for epoch in record["curve"]]
    return pd.DataFrame(rows)


def detail(records: pd.DataFrame, field: str, every: int = 25) -> pd.DataFrame:
    """How a metric is spread over seeds, at every so many epochs (Figure 6).

    Args:
        records: of one backbone. field: of the learning curves. every: the paper's 25.

    Returns:
        Columns `method`, `n_p`, `epoch`, `seeds`, and `mean`, `median`, `std`, `min`, `max`, `q25`
        and `q75` over seeds.
    """
    whole(1, every=every)
    table = curves(records)
    groups = table[table["epoch"] % every == 0].groupby(["method", "n_p", "epoch"], sort=False)
    spread = groups[field].agg(
        seeds="count",
        mean="mean",
        median="median",
        std="std",
        min="min",
        max="max",
        q25=lambda values: values.quantile(0.25),
        q75=lambda values: values.quantile(0.75),
    )
    return spread.reset_index()


def oscillation(curve: Sequence[dict[str, float]], field: str = "test_accuracy") -> float:
    """By how much a curve jumps from one epoch to the next, on average over its second half.

    The mean of `|a_(t+1) - a_t|`, in percentage points. A curve that still climbs steadily has
    some; one that goes up and down has more.

    Source: Chapter 8.
    """
    values = 100 * np.array([epoch[field] for epoch in curve])
    return float(np.abs(np.diff(values[len(values) // 2 :])).mean())


def by_session(records: pd.DataFrame) -> pd.DataFrame:
    """Metrics from session to session, as the light moves: a row a run and session (Figure 4).

    Returns:
        Columns `backbone`, `method`, `n_p`, `seed`, `shift` (of the light, brightness gained per
        half height to the right), `accuracy`, `balanced_accuracy`, `apex_accuracy`.
    """
    rows = []
    for record in records.to_dict("records"):
        who = {name: record[name] for name in ("backbone", "method", "n_p", "seed")}
        rows += [{**who, **of} for of in record["sessions"]]
    return pd.DataFrame(rows).rename(columns={"light_x": "shift"})
