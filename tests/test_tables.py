"""Tables and intervals from records, against loops, sklearn, scipy and sums by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from duetlib.evidence import experiments, records, statistics, tables
from duetlib.evidence.experiments import RunConfig, grid
from duetlib.evidence.records import shares_of_text, text_of_shares
from duetlib.training import evaluation


def record(
    method: str,
    seed: int = 0,
    auc: float | None = None,
    beats: Any = None,
    beaten: Any = None,
    backbone: str = "sasrec",
    **other: Any,
) -> dict[str, Any]:
    """A record whose users add what is given; `hr10` goes by the same numbers."""
    users: Any = float("nan")
    if beats is not None:
        beats, beaten = np.asarray(beats, float), np.asarray(beats if beaten is None else beaten)
        packed = {"auc": beats.tolist(), "auc_of_wrong": beaten.tolist(), "hr10": beats.tolist()}
        users, auc = text_of_shares(packed), float(beats.mean())
    row = {"dataset": "ml-100k", "backbone": backbone, "method": method, "seed": seed, "auc": auc}
    row |= {"hr10": auc, "users": users, "split": "leave-one-out", "core": 5, "scheme": "joint"}
    row |= {"n_p": 5 if method == "duet" else 1, "params": 10, "device_params": 9, "flops": 8}
    return {**row, "payload_bytes": 7, **tables.SETTINGS, **other}


def frame(*records: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(records)


# --- what a user adds to an AUC ----------------------------------------------------------------


def scores(n: int = 60, wrong: int = 12, seed: int = 0) -> torch.Tensor:
    """`[N, 1 + wrong]` of users who differ: some are easy, some are hard, ties among them."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(n, 1 + wrong)) + 2 * rng.normal(size=(n, 1))
    drawn[:, 0] += 1
    return torch.tensor(drawn.round(1))


def by_sklearn(drawn: torch.Tensor) -> float:
    labels = torch.zeros(drawn.shape)
    labels[:, 0] = 1
    return float(roc_auc_score(labels.flatten(), drawn.flatten()))


def run_of(drawn: torch.Tensor, method: str = "base", seed: int = 0) -> dict[str, Any]:
    users = torch.arange(1, len(drawn) + 1)
    found = evaluation(drawn, torch.ones(len(drawn)), users)
    return record(method, seed, found.metrics["auc"], users=text_of_shares(found.users))


def test_shares_follow_an_auc_over_resampled_users() -> None:
    drawn = scores()
    one = run_of(drawn)
    added = tables.shares(one, "auc")
    assert added.mean() == pytest.approx(by_sklearn(drawn), abs=2e-5)  # 16 bits a number
    rng = np.random.default_rng(1)
    picks = rng.integers(0, len(drawn), (300, len(drawn)))
    really = np.array([by_sklearn(drawn[pick]) for pick in picks])
    first_order = added[picks].mean(1)
    assert np.corrcoef(really, first_order)[0, 1] > 0.99
    assert first_order.std() == pytest.approx(really.std(), rel=0.06)
    half = shares_of_text(one["users"]["auc"])[picks].mean(1)  # without what beats the wrong
    assert abs(half.std() / really.std() - 1) > 0.1


def test_other_metrics_are_means_over_users() -> None:
    one = record("base", beats=[1, 0, 0.5, 1])
    assert tables.shares(one, "hr10") == pytest.approx([1, 0, 0.5, 1], abs=1e-5)


def test_a_record_without_users_is_named() -> None:
    with pytest.raises(ValueError, match="base, seed 3, has no users"):
        tables.shares(record("base", 3, 0.8), "auc")


# --- the interval -------------------------------------------------------------------------------


def test_one_seed_is_the_plain_bootstrap_over_users() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(1, size=(1, 40))
    loop = [np.mean([values[0, rng.integers(40)] for _ in range(40)]) for _ in range(4000)]
    means = statistics.resampled_means(values)
    for q in (2.5, 50, 97.5):
        assert np.percentile(means, q) == pytest.approx(np.percentile(loop, q), abs=0.03)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_with_users_all_alike_it_is_the_t_interval(n_seeds: int) -> None:
    of_seed = np.random.default_rng(n_seeds).normal(size=n_seeds)
    means = statistics.resampled_means(np.repeat(of_seed[:, None], 30, 1), draws=800)
    low, high = stats.t.interval(0.95, n_seeds - 1, of_seed.mean(), stats.sem(of_seed))
    near = 0.08 * (high - low)
    assert np.percentile(means, [2.5, 97.5]) == pytest.approx([low, high], abs=near)


def test_with_seeds_all_alike_it_is_an_interval_over_users() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=(1, 50)), 3, 0)
    of_users = np.repeat(statistics.resampled_means(values[:1]), statistics.SHIFTS)
    assert statistics.resampled_means(values) == pytest.approx(of_users)


@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize(("seeds", "users"), [(1.0, 0.3), (0.1, 1.0)])
def test_it_covers_about_as_often_as_it_should(n_seeds: int, seeds: float, users: float) -> None:
    """Of 400 made-up experiments the interval holds the truth, zero, in about 95 %."""
    rng = np.random.default_rng(10 * n_seeds + int(seeds))
    held = []
    for _ in range(400):
        drawn = rng.normal(0, seeds, (n_seeds, 1)) + rng.normal(0, users, (1, 60))
        drawn += rng.normal(0, 1, (n_seeds, 60))
        low, high = np.percentile(statistics.resampled_means(drawn, draws=1000), [2.5, 97.5])
        held.append(low <= 0 <= high)
    assert 0.92 <= np.mean(held) <= 0.99


def test_a_plain_bootstrap_of_three_seeds_covers_too_little() -> None:
    """Why seeds are not simply drawn with replacement; chapter 7 shows the same."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(2000, 3))
    picks = np.stack(np.meshgrid(*[range(3)] * 3), -1).reshape(-1, 3)  # all 27
    low, high = np.percentile(drawn[:, picks].mean(2), [2.5, 97.5], axis=1)
    assert np.mean((low <= 0) & (high >= 0)) < 0.8


def test_interval_of_a_method() -> None:
    runs = frame(*(record("base", seed, beats=[0.2, 0.4, 0.9]) for seed in range(2)))
    low, high = tables.interval(runs, "hr10")
    assert 0.199 <= low < 0.5 < high <= 0.901  # 16 bits a number
    assert np.isnan(tables.interval(frame(record("base", 0, 0.8)))).all()


# --- differences --------------------------------------------------------------------------------

BASE = [record("base", seed, beats=[0.2, 0.4, 0.6, 0.4]) for seed in (0, 1, 2)]
DUET = [
    record("duet", 0, beats=[0.4, 0.5, 0.8, 0.6]),
    record("duet", 2, beats=[0.5, 0.6, 0.7, 0.5]),
]


def test_paired_differences_by_hand() -> None:
    found = tables.difference(frame(*DUET), frame(*BASE))
    assert found.mean == pytest.approx(((0.2 + 0.1 + 0.2 + 0.2) + (0.3 + 0.2 + 0.1 + 0.1)) / 8)
    assert (found.seeds, found.users, found.verdict) == (2, 4, "ahead")
    back = tables.difference(frame(*BASE), frame(*DUET))
    assert back.mean == -found.mean and back.verdict == "behind"
    same = tables.difference(frame(*BASE), frame(*BASE))
    assert same.mean == 0 and same.verdict == "undecided"
    one = tables.difference(frame(DUET[0]), frame(*BASE))
    assert one.low > 0 and one.verdict == "no verdict", "one seed knows nothing of seeds"


def test_pairing_takes_out_what_seeds_and_users_have_in_common() -> None:
    rng = np.random.default_rng(0)
    common = 0.5 + 0.1 * rng.normal(size=(3, 100)).clip(-3, 3)
    base = frame(*(record("base", s, beats=common[s]) for s in range(3)))
    more = frame(*(record("duet", s, beats=common[s] + 0.01) for s in range(3)))
    found = tables.difference(more, base)
    assert (found.low, found.high) == pytest.approx((0.01, 0.01), abs=1e-4)


def test_no_seed_in_common_is_an_error() -> None:
    with pytest.raises(ValueError, match="no seed in common"):
        tables.difference(frame(BASE[1]), frame(DUET[0]))


def test_the_interval_for_all_comparisons_is_that_of_bonferroni() -> None:
    rng = np.random.default_rng(0)
    runs = frame(record("duet", beats=rng.random(400)))
    base = frame(record("base", beats=np.full(400, 0.5)))
    one, ten = (tables.difference(runs, base, "hr10", n) for n in (1, 10))
    assert (one.low, one.high) == (one.low_all, one.high_all) == (ten.low, ten.high)
    pairs = tables.share_matrix(runs, "hr10", [0]) - tables.share_matrix(base, "hr10", [0])
    ends = np.percentile(statistics.resampled_means(pairs), [0.25, 99.75])  # a tenth of 2.5 % each
    assert (ten.low_all, ten.high_all) == pytest.approx(ends, abs=1e-12)
    wider = (ten.high_all - ten.low_all) / (ten.high - ten.low)
    assert wider == pytest.approx(stats.norm.ppf(1 - 0.0025) / stats.norm.ppf(0.975), rel=0.06)


def test_differences_are_counted_over_the_whole_table() -> None:
    other = [
        record(m, beats=b, backbone="din") for m, b in (("base", [0.1, 0.2]), ("duet", [0.2, 0.3]))
    ]
    old = record("finetune", 0, 0.9)  # holds no users
    table = tables.differences(frame(*BASE, *DUET, *other, old))
    assert table[["backbone", "method"]].values.tolist() == [["sasrec", "duet"], ["din", "duet"]]
    direct = tables.difference(frame(*DUET), frame(*BASE), comparisons=2)
    assert table.iloc[0][list(direct._fields)].tolist() == list(direct)
    assert tables.differences(frame(*BASE, *DUET), methods=["finetune"]).empty
    assert list(tables.differences(frame(*BASE)).columns) == list(table.columns)


# --- the share of a gain ------------------------------------------------------------------------


def three(gain: float, method: str, n: int = 200) -> list[dict[str, Any]]:
    beats = np.linspace(0.3, 0.6, n) + gain * (1 + 0.2 * np.sin(np.arange(n)))
    return [record(method, seed, beats=beats + 0.001 * seed * gain) for seed in range(3)]


def test_half_of_the_gain_is_half() -> None:
    records = frame(*three(0, "base"), *three(0.1, "duet_no_swa"), *three(0.05, "bias_only"))
    (row,) = tables.kept(records, ["bias_only"]).to_dict("records")
    assert row["share"] == pytest.approx(0.5, abs=1e-3) and row["seeds"] == 3
    assert row["low"] == pytest.approx(0.5, abs=0.01) == row["high"]
    assert row["gain"] == pytest.approx(0.1, abs=1e-3)
    (whole,) = tables.kept(records, ["duet_no_swa"]).to_dict("records")
    assert [whole["share"], whole["low"], whole["high"]] == pytest.approx([1, 1, 1], abs=1e-3)


def test_the_interval_of_a_share_is_fiellers() -> None:
    """By hand, for users all alike: c with |d - c·g| no more than t · s(d - c·g) / √S."""
    part, gain = np.array([0.004, 0.0, 0.008]), np.array([0.011, 0.009, 0.013])
    reach = stats.t.ppf(0.975, 2) / np.sqrt(3)
    held = [
        c
        for c in np.linspace(-3, 3, 6001)
        if abs((part - c * gain).mean()) <= reach * (part - c * gain).std(ddof=1)
    ]
    runs = [("base", 0 * gain), ("duet_no_swa", gain), ("bias_only", part)]
    rows = [
        record(method, seed, beats=np.full(50, 0.5 + float(more[seed]) / 2))
        for method, more in runs
        for seed in range(3)
    ]
    (row,) = tables.kept(frame(*rows), ["bias_only"]).to_dict("records")
    assert row["low"] == pytest.approx(held[0], abs=0.05)
    assert row["high"] == pytest.approx(held[-1], abs=0.05)


def test_ends_far_out_do_not_hang_on_the_draws() -> None:
    """A thirteenth of 5 %, from three seeds: the tails of Student's t with two degrees."""
    values = np.array([0.009, 0.011, 0.013])[:, None] + np.zeros((1, 40))
    ends = [np.percentile(statistics.resampled_means(values, seed=s), 2.5 / 13) for s in range(6)]
    exact = 0.011 + stats.t.ppf(0.025 / 13, 2) * 0.002 / np.sqrt(3)
    assert ends == pytest.approx([exact] * 6, abs=0.08 * (0.011 - exact))


def test_a_share_of_no_gain_is_not_given() -> None:
    records = frame(*three(0, "base"), *three(-0.1, "duet_no_swa"), *three(0.05, "bias_only"))
    (row,) = tables.kept(records, ["bias_only"]).to_dict("records")
    assert np.isnan(row["share"]) and row["gain"] == pytest.approx(-0.1, abs=1e-3)


def test_a_share_of_a_gain_that_may_be_none_is_not_given() -> None:
    runs = {"base": (0, 0, 0), "duet_no_swa": (-0.02, 0.02, 0.03), "bias_only": (0.01, 0.01, 0.01)}
    rows = [
        record(method, seed, beats=np.full(50, 0.5 + gain))
        for method, gains in runs.items()
        for seed, gain in enumerate(gains)
    ]
    (row,) = tables.kept(frame(*rows), ["bias_only"]).to_dict("records")
    assert np.isnan(row["share"]) and row["gain"] == pytest.approx(0.01, abs=1e-4)


def test_a_share_without_records_is_not_given() -> None:
    rows = tables.kept(frame(*BASE, *DUET), ["bias_only", "duet"])
    assert rows["share"].isna().all() and (rows["seeds"] == 0).all()


# --- tables -------------------------------------------------------------------------------------


def test_standard_keeps_default_settings_of_one_protocol() -> None:
    rows = [record("duet", n_p=n) for n in (5, 2, 3)] + [record("duet_no_swa", neck="mean")]
    rows += [record("base"), record("base", split="last-10"), record("base", scheme="alternating")]
    assert tables.standard(frame(*rows))["method"].tolist() == ["duet", "base"]
    assert tables.standard(frame(*rows), "last-10")["method"].tolist() == ["base"]


def test_table_1_has_printed_numbers_beside_ours_and_gaps_where_nothing_is() -> None:
    table = tables.table_1(frame(*BASE), "ml-100k").set_index(["backbone", "method"])
    assert len(table) == 12 and "mean" in tables.table_1(frame(*BASE).iloc[:0], "ml-1m")
    ours, gap = table.loc[("sasrec", "base")], table.loc[("din", "duet")]
    assert ours["mean"] == pytest.approx(0.4) and ours["seeds"] == 3
    assert ours["std"] == pytest.approx(0) and ours["low"] < 0.4 < ours["high"]
    assert ours["printed"] == 0.8721
    assert gap["seeds"] == 0 and np.isnan(gap["mean"]) and gap["printed"] == 0.8581
    shown = tables.readable(table)
    assert shown.loc[("din", "duet"), "mean"] == "not measured"
    assert shown.loc[("sasrec", "base"), "mean"] == "0.4000"


def test_readable_numbers() -> None:
    shown = tables.readable(
        pd.DataFrame({"a": [0.12345, np.nan], "b": [57152.0, 3], "c": ["x", 2]})
    )
    assert shown["a"].tolist() == ["0.1235", "not measured"]
    assert shown["b"].tolist() == ["57,152", "3.0000"] and shown["c"].tolist() == ["x", "2"]


def test_missing_counts_seeds_of_every_cell() -> None:
    run = next(r for r in grid("ml-100k") if r.method == "bias_only")
    made = frame(record("bias_only", config=json.loads(run.key)))
    table = experiments.missing(made, "ml-100k")
    assert table["there"].sum() == 1 and table["wanted"].sum() == len(grid("ml-100k"))
    (cell,) = table[table["there"] > 0].to_dict("records")
    assert (cell["method"], cell["backbone"], cell["wanted"]) == ("bias_only", run.backbone, 5)
    assert experiments.missing(pd.DataFrame(), "ml-1m")["there"].sum() == 0
    named = RunConfig("ml-100k", "sasrec", "duet", 0, ppg=(("n_generators", 2),))
    assert "n_generators=2" in set(table["settings"]) and named in grid("ml-100k")


def test_missing_counts_runs_on_faces_too() -> None:
    runs = grid("faces")
    assert experiments.missing(pd.DataFrame(), "faces")["wanted"].sum() == len(runs)
    one = experiments.missing(pd.DataFrame({"config": [json.loads(runs[0].key)]}), "faces")
    assert one["there"].sum() == 1
    assert {"", "n_generators=2", "strength=0.0", "weight_decay=0.0005"} <= set(one["settings"])


def test_no_file_is_no_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "results_dir", lambda: tmp_path)
    none = tables.recorded("ml-1m")
    assert none.empty and experiments.missing(none, "ml-1m")["there"].sum() == 0
    assert tables.differences(tables.standard(none)).empty
    assert tables.kept(tables.standard(none), ["bias_only"]).empty
    assert (tables.table_1(tables.standard(none), "ml-1m")["seeds"] == 0).all()
