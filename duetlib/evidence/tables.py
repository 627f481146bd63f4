"""From records to tables: means, spreads, and intervals that know of other users and other seeds.

A run's AUC would have come out differently with other users, and with another seed. An interval
that knows of one source alone is too narrow. Chapter 7.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from data_prep.arguments import one_of, whole
from duetlib.evidence.paper import TABLE_1
from duetlib.evidence.records import (
    PROTOCOLS,
    STARTS_FROM,
    load_records,
    results_dir,
    shares_of_text,
    whole_records,
)
from duetlib.evidence.statistics import Difference, Floats, resampled_means

SETTINGS = {"form": "two_layer", "neck": "gru", "temperature": "tempered", "tau": 1.0}
NEEDED = "dataset backbone method seed split core scheme n_p auc users config date code device"
METRICS = ("auc", "user_auc", "hr10", "ndcg10", "hr10_full", "ndcg10_full")
NOT_MEASURED = "not measured"


def recorded(name: str) -> pd.DataFrame:
    """The records of one file as `load_records` gives them; none at all where there is no file."""
    try:
        records = load_records(name)
    except FileNotFoundError:
        records = pd.DataFrame()
    columns = [*NEEDED.split(), *SETTINGS, "params", "device_params", "flops", "payload_bytes"]
    return records.reindex(columns=list(dict.fromkeys([*records.columns, *columns])))


def standard(records: pd.DataFrame, split: str = "leave-one-out") -> pd.DataFrame:
    """The runs of one protocol in which every method has its default settings.

    Args:
        split: `leave-one-out` (ours) or `last-10` (to be laid beside the printed numbers).

    Raises:
        ValueError: for another protocol.
    """
    one_of(PROTOCOLS, split=split)
    kept = (records["split"] == split) & (records["scheme"] == "joint")
    for name, value in SETTINGS.items():
        kept &= records[name] == value
    five = (records["method"] != "duet") | (records["n_p"] == 5)
    return records[kept & five]


def with_users(records: pd.DataFrame) -> pd.DataFrame:
    """The records that hold what each user adds, which an interval needs."""
    return records[records["users"].map(lambda users: isinstance(users, dict)).astype(bool)]


def shares(record: Mapping[Hashable, Any], metric: str) -> Floats:
    """`[U]` numbers, one a user, whose mean is the metric, and stays it when users are resampled.

    An AUC over all pairs is no mean over users, but to first order it changes with the users as the
    mean of these numbers does: what a user's right items beat, plus what beats that user's wrong
    ones, less the AUC (DeLong et al., 1988).

    Raises:
        ValueError: if the record holds no users' shares.
    """
    users = record["users"]
    if not isinstance(users, dict):
        raise ValueError(f"the record of {record['method']}, seed {record['seed']}, has no users")
    values = shares_of_text(users[metric])
    return (
        values + shares_of_text(users["auc_of_wrong"]) - record["auc"]
        if metric == "auc"
        else values
    )


def share_matrix(runs: pd.DataFrame, metric: str, seeds: Sequence[int]) -> Floats:
    """`[S, U]` the shares of each seed's run, in the order of `seeds`."""
    by_seed = {record["seed"]: record for record in runs.to_dict("records")}
    return np.stack([shares(by_seed[seed], metric) for seed in seeds])


def difference(
    runs: pd.DataFrame, than: pd.DataFrame, metric: str = "auc", comparisons: int = 1
) -> Difference:
    """The first method less the second, paired by seed and by user.

    Args:
        runs, than: the records of one method each, a row a seed. comparisons: in the whole table.

    Raises:
        ValueError: if they have no seed in common, another metric, or no comparison.
    """
    whole(1, comparisons=comparisons)
    _check_metric(metric)
    seeds = sorted(set(runs["seed"]) & set(than["seed"]))
    if not seeds:
        raise ValueError("the two methods have no seed in common")
    pairs = share_matrix(runs, metric, seeds) - share_matrix(than, metric, seeds)  # [S, U]
    means = resampled_means(pairs)
    tail = 2.5 / comparisons
    low, high, low_all, high_all = np.percentile(means, [2.5, 97.5, tail, 100 - tail])
    exact = runs.set_index("seed")[metric] - than.set_index("seed")[metric]
    mean = float(exact.loc[seeds].mean())
    return Difference(mean, low, high, len(seeds), pairs.shape[1], low_all, high_all)


def _check_metric(metric: str) -> None:
    one_of(METRICS, metric=metric)


def _check_methods(*names: str) -> None:
    from duetlib.methods import METHODS  # here alone: who reads tables does not wait for PyTorch

    for name in names:
        one_of((*METHODS, *STARTS_FROM), method=name)


def differences(
    records: pd.DataFrame, than: str = "base", metric: str = "auc", methods: Sequence[str] = ()
) -> pd.DataFrame:
    """Every method against one, for each backbone: a row a comparison.

    Args:
        records: of one data set and protocol (`standard`). than: the one that all are held against.
        methods: all that are there by default.

    Returns:
        Columns `backbone`, `method`, those of `Difference`, `verdict`.

    Raises:
        ValueError: for a method or a metric that no record could have.
    """
    _check_metric(metric)
    _check_methods(than, *methods)
    groups = dict(list(with_users(records).groupby(["backbone", "method"], sort=False)))
    pairs = [
        (backbone, method)
        for backbone, method in groups
        if method != than and (backbone, than) in groups and (not methods or method in methods)
    ]
    if methods:  # then in this order, backbone by backbone
        first = list(dict.fromkeys(backbone for backbone, _ in groups))
        pairs.sort(key=lambda pair: (first.index(pair[0]), [*methods].index(str(pair[1]))))
    rows = []
    for pair in pairs:
        found = difference(groups[pair], groups[pair[0], than], metric, len(pairs))
        rows.append({**dict(zip(("backbone", "method"), pair, strict=True)), **found._asdict()})
        rows[-1]["verdict"] = found.verdict
    columns = ["backbone", "method", *Difference._fields, "verdict"]
    return pd.DataFrame(rows, columns=columns)


def kept(
    records: pd.DataFrame,
    methods: Sequence[str],
    whole: str = "duet_no_swa",
    than: str = "base",
    metric: str = "auc",
) -> pd.DataFrame:
    """The share of a method's gain over the base that others keep: 1 is all of it, 0 is the base.

    The interval holds every c for which `method - than - c · (whole - than)` is not told apart from
    zero (Fieller, 1954). A ratio of draws would jump where the gain comes near zero.

    Args:
        records: of one data set and protocol (`standard`). methods: those that are asked about.
        whole: the method whose gain is 1.

    Returns:
        A row for each backbone and method with `share`, `low`, `high`, `seeds`, and the `gain` of
        the whole. All NaN where a record is missing, and the share where the gain's interval is not
        above zero: a share of what may be nothing means nothing.
    """
    _check_metric(metric)
    _check_methods(than, whole, *methods)
    groups = dict(list(with_users(records).groupby(["backbone", "method"], sort=False)))
    rows = []
    for backbone in dict.fromkeys(records["backbone"]):
        for method in methods:
            row: dict[str, Any] = {"backbone": backbone, "method": method, "seeds": 0}
            wanted = [(backbone, name) for name in (method, whole, than)]
            if all(pair in groups for pair in wanted):
                row |= _share([groups[pair] for pair in wanted], metric)
            rows.append(row)
    return pd.DataFrame(
        rows, columns=["backbone", "method", "share", "low", "high", "seeds", "gain"]
    )


def _share(parts: Sequence[pd.DataFrame], metric: str) -> dict[str, Any]:
    seeds = sorted(set.intersection(*(set(part["seed"]) for part in parts)))
    if not seeds:
        return {}
    one, all_of_it, base = (share_matrix(part, metric, seeds) for part in parts)
    kept_of_it, gain = one - base, all_of_it - base  # [S, U]
    row = {"seeds": len(seeds), "gain": float(gain.mean())}
    gains = resampled_means(gain)
    if np.percentile(gains, 2.5) <= 0:
        return row
    gain_kept = resampled_means(kept_of_it)

    def end(percent: float) -> float:
        """Where that percentile of `gain_kept - c · gains` is zero; it falls as c grows."""
        reach = 1.0
        at = lambda c: float(np.percentile(gain_kept - c * gains, percent))  # noqa: E731
        while at(-reach) < 0 or at(reach) > 0:
            reach *= 2
        return float(brentq(at, -reach, reach, xtol=1e-4))

    share = float(kept_of_it.mean() / gain.mean())
    return row | {"share": share, "low": end(2.5), "high": end(97.5)}


def interval(runs: pd.DataFrame, metric: str = "auc") -> tuple[float, float]:
    """95 % interval of one method's metric, for other users and other seeds.

    NaN where no record holds what each user adds.
    """
    _check_metric(metric)
    runs = with_users(runs)
    if runs.empty:
        return float("nan"), float("nan")
    means = resampled_means(share_matrix(runs, metric, sorted(runs["seed"])))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def table_1(records: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Table 1 with our numbers beside the printed ones, a row for each backbone and method.

    Args:
        records: of one data set and protocol (`standard`). dataset: `ml-100k` or `ml-1m`.

    Returns:
        Columns `backbone`, `method`, `mean`, `std`, `seeds`, `low`, `high`, `printed` and
        `printed_std`; NaN where there is no record yet.

    Raises:
        ValueError: for a data set that Table 1 does not have.
    """
    one_of(dict.fromkeys(of for of, _, _ in TABLE_1), dataset=dataset)
    rows: list[dict[str, Any]] = []
    for (of, backbone, method), printed in TABLE_1.items():
        if of != dataset:
            continue
        runs = records[(records["backbone"] == backbone) & (records["method"] == method)]
        row: dict[str, Any] = {"backbone": backbone, "method": method, "seeds": len(runs)}
        row |= {"printed": printed.mean, "printed_std": printed.std}
        if len(runs):
            row |= {"mean": runs["auc"].mean(), "std": runs["auc"].std(ddof=1)}
            row |= dict(zip(("low", "high"), interval(runs), strict=True))
        rows.append(row)
    columns = "backbone method mean std seeds low high printed printed_std".split()
    return pd.DataFrame(rows, columns=columns)


def readable(table: pd.DataFrame, digits: int = 4) -> pd.DataFrame:
    """The table as text, for the eye: numbers rounded, `not measured` where there is none."""

    def cell(value: Any) -> str:
        if pd.isna(value):
            return NOT_MEASURED
        if not isinstance(value, float):
            return str(value)
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}f}"

    return table.map(cell)


def variants(name: str, part: str) -> pd.DataFrame:
    """What stands in the records of one part, a row for each variant.

    Args:
        name: of a file whose records hold several variants of a run each. part: of them.

    Returns:
        The columns of the variants, with `backbone`, `seed`, `date` and `code` of their record.
    """
    columns = ["backbone", "seed", "date", "code"]
    rows = [
        {**{column: record[column] for column in columns}, **row}
        for record in whole_records(results_dir() / f"{name}.jsonl")
        if record["part"] == part
        for row in record["rows"]
    ]
    return pd.DataFrame(rows, columns=list(dict.fromkeys(k for row in rows for k in row)))


def against(rows: pd.DataFrame, than: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Every variant less one of the same backbone, paired by seed and user.

    Args:
        rows: of `variants`. than: one row for each backbone and seed. by: what tells variants
            apart.

    Returns:
        A row for each backbone and variant: `backbone`, those of `by`, those of `Difference`,
        `verdict`.
    """
    groups = rows.groupby(["backbone", *by], sort=False, dropna=False)
    found = []
    for key, of in groups:
        other = than[than["backbone"] == of["backbone"].iloc[0]]
        less = difference(of, other)
        names = dict(zip(["backbone", *by], key, strict=True))
        found.append({**names, **less._asdict(), "verdict": less.verdict})
    return pd.DataFrame(found)


def summary(
    records: pd.DataFrame, by: Sequence[str] = ("backbone", "method"), metric: str = "auc"
) -> pd.DataFrame:
    """Mean, standard deviation (n - 1) and number of seeds of a metric, for each group."""
    groups = records.groupby(list(by), sort=False)[metric]
    return groups.agg(["mean", "std", "count"]).rename(columns={"count": "seeds"})
