"""From records to tables: means, spreads, and intervals that resample users and seeds together.

A run's AUC would have come out differently with other users, and with another seed. An interval
that knows of one source alone is too narrow. Chapter 7.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .experiments import RunConfig, grid, key_of, unpack
from .paper import TABLE_1

Floats = NDArray[np.float64]

DRAWS = 4000  # of the bootstrap
METHODS_OF_TABLE_1 = ("base", "finetune", "duet_no_swa", "duet")
SETTINGS = {"form": "two_layer", "neck": "gru", "temperature": "tempered", "tau": 1.0}


def standard(records: pd.DataFrame, split: str = "leave-one-out") -> pd.DataFrame:
    """The runs of one protocol in which every method has its default settings.

    Args:
        split: `leave-one-out` (ours) or `last-10` (to be laid beside the printed numbers).
    """
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
    values = unpack(users[metric])
    return values + unpack(users["auc_of_wrong"]) - record["auc"] if metric == "auc" else values


def share_matrix(runs: pd.DataFrame, metric: str, seeds: Sequence[int]) -> Floats:
    """`[S, U]` the shares of each seed's run, in the order of `seeds`."""
    by_seed = {record["seed"]: record for record in runs.to_dict("records")}
    return np.stack([shares(by_seed[seed], metric) for seed in seeds])


def resampled_means(values: Floats, draws: int = DRAWS, seed: int = 0) -> Floats:
    """`[draws]` means of `values [S, U]` over S seeds and U users, both drawn with replacement.

    Draws from S seeds spread less than S new seeds would, by √((S - 1) / S): a lot, where there are
    three. So the seeds' deviations from their mean are stretched by as much first. From one seed
    nothing can be learnt of seeds: the interval is then one over users alone.
    """
    n_seeds, n_users = values.shape
    if n_seeds > 1:
        mean = values.mean(0)
        values = mean + (values - mean) * np.sqrt(n_seeds / (n_seeds - 1))
    rng = np.random.default_rng(seed)
    of_seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), draws) / n_seeds
    of_users = rng.multinomial(n_users, np.full(n_users, 1 / n_users), draws) / n_users
    return ((of_seeds @ values) * of_users).sum(1)


class Difference(NamedTuple):
    """How much one method is ahead of another, over the seeds that both have.

    Attributes:
        mean: over seeds and users. low, high: 95 % interval. seeds, users: how many.
        low_all, high_all: the interval so wide that *all* comparisons of the table hold together
            in 95 % of cases (Bonferroni).
    """

    mean: float
    low: float
    high: float
    seeds: int
    users: int
    low_all: float
    high_all: float

    @property
    def verdict(self) -> str:
        """`ahead`, `behind`, or `undecided` where the interval holds zero."""
        return "ahead" if self.low > 0 else "behind" if self.high < 0 else "undecided"


def difference(
    runs: pd.DataFrame, than: pd.DataFrame, metric: str = "auc", comparisons: int = 1
) -> Difference:
    """The first method less the second, paired by seed and by user.

    Args:
        runs, than: the records of one method each, a row a seed. comparisons: in the whole table.

    Raises:
        ValueError: if they have no seed in common.
    """
    seeds = sorted(set(runs["seed"]) & set(than["seed"]))
    if not seeds:
        raise ValueError("the two methods have no seed in common")
    pairs = share_matrix(runs, metric, seeds) - share_matrix(than, metric, seeds)  # [S, U]
    means = resampled_means(pairs)
    tail = 2.5 / max(comparisons, 1)
    low, high, low_all, high_all = np.percentile(means, [2.5, 97.5, tail, 100 - tail])
    exact = runs.set_index("seed")[metric] - than.set_index("seed")[metric]
    mean = float(exact.loc[seeds].mean())
    return Difference(mean, low, high, len(seeds), pairs.shape[1], low_all, high_all)


def differences(
    records: pd.DataFrame, than: str = "base", metric: str = "auc", methods: Sequence[str] = ()
) -> pd.DataFrame:
    """Every method against one, for each backbone: a row a comparison.

    Args:
        records: of one data set and protocol (`standard`). methods: all that are there by default.

    Returns:
        Columns `backbone`, `method`, those of `Difference`, `verdict`.
    """
    groups = dict(list(with_users(records).groupby(["backbone", "method"], sort=False)))
    pairs = [
        (backbone, method)
        for backbone, method in groups
        if method != than and (backbone, than) in groups and (not methods or method in methods)
    ]
    rows = []
    for pair in pairs:
        found = difference(groups[pair], groups[pair[0], than], metric, len(pairs))
        rows.append({**dict(zip(("backbone", "method"), pair, strict=True)), **found._asdict()})
        rows[-1]["verdict"] = found.verdict
    columns = ["backbone", "method", *Difference._fields, "verdict"]
    return pd.DataFrame(rows, columns=columns)


def interval(runs: pd.DataFrame, metric: str = "auc") -> tuple[float, float]:
    """95 % interval of one method's metric, users and seeds resampled together.

    NaN where no record holds what each user adds.
    """
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
        Columns `backbone`, `method`, `mean`, `std`, `seeds`, `low`, `high`, `printed`,
        `printed_std`, `params`, `device_params`, `flops`, `payload_bytes`; NaN where there is no
        record yet.
    """
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
            for column in ("params", "device_params", "flops", "payload_bytes"):
                row[column] = runs[column].iloc[0]
        rows.append(row)
    return pd.DataFrame(rows)


def missing(records: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """For each cell of a data set's grid, how many of its seeds have a record.

    Returns:
        Columns `split`, `backbone`, `method`, `settings`, `wanted`, `there`.
    """
    done = set() if records.empty else {key_of(config) for config in records["config"]}
    rows = [
        {
            "split": run.split,
            "backbone": run.backbone,
            "method": run.method,
            "settings": _settings(run),
            "wanted": 1,
            "there": int(run.key in done),
        }
        for run in grid(dataset)
    ]
    by = ["split", "backbone", "method", "settings"]
    return pd.DataFrame(rows).groupby(by, sort=False, as_index=False).sum()


def _settings(run: RunConfig) -> str:
    named = [f"{name}={value}" for name, value in run.ppg]
    return ", ".join(named + (["alternating"] if run.train.scheme == "alternating" else []))
