"""Tables of runs on faces from made-up records, against sums by hand and a simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from duetlib.evidence import statistics
from duetlib.evidence import vision_tables as tables
from duetlib.evidence.paper import TABLE_4

SMALL, LARGE = "mobilenet_v3_small", "mobilenet_v3_large"


def record(method: str, seed: int, accuracy: float, n_p: int | None = None, **more: Any) -> dict:
    n_p = {"base": 0, "duet_no_swa": 1, "duet": 5}.get(method, 0) if n_p is None else n_p
    curve = [{"epoch": e, "loss": 1.0 / e, "test_accuracy": accuracy} for e in (1, 2, 3, 4)]
    row = {"backbone": SMALL, "method": method, "seed": seed, "n_p": n_p, "accuracy": accuracy}
    return {**row, "strength": 1.0, "weight_decay": 0.0, "curve": curve, **more}


def test_an_interval_is_wider_than_students_t_by_the_overlap() -> None:
    values = np.array([0.1, 0.3, 0.2, 0.5, 0.4])
    low, high = statistics.interval_over_seeds(values, overlap=0.0)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 4, values.mean(), stats.sem(values)))
    wide = statistics.interval_over_seeds(values)
    assert wide[1] - wide[0] == pytest.approx((high - low) * np.sqrt((1 / 5 + 1 / 3) * 5))
    assert all(np.isnan(statistics.interval_over_seeds(np.array([0.3, 0.4]))))


def test_the_interval_covers_where_folds_share_people() -> None:
    """Each fold's mean has a part of its own, and one that all folds share through training."""
    rng = np.random.default_rng(0)
    n, runs = 5, 4000
    common = rng.normal(
        scale=np.sqrt(statistics.OVERLAP), size=(runs, 1)
    )  # var = overlap · var of own
    values = common + rng.normal(size=(runs, n))
    plain = [
        np.prod(statistics.interval_over_seeds(row, 0.0)) <= 0 for row in values
    ]  # 0 inside: ends' signs
    wide = [np.prod(statistics.interval_over_seeds(row)) <= 0 for row in values]
    assert np.mean(plain) < 0.88
    assert np.mean(wide) == pytest.approx(0.95, abs=0.015)


def of_people(right: np.ndarray, frames: int = 6) -> dict[str, Any]:
    """What a record says of its people: all frames are of one class."""
    return {
        "person": list(range(len(right))),
        "right": [[0, int(n)] + [0] * 6 for n in right],
        "frames": [[0, frames] + [0] * 6 for _ in right],
    }


def test_the_error_that_people_bring_is_that_of_a_mean() -> None:
    """With as many frames of each person, an accuracy is a mean: its error is std / √people."""
    rng = np.random.default_rng(1)
    right = rng.integers(0, 7, size=(2, 3, 40))  # method, seed, person
    base, duet = (
        pd.DataFrame(
            [
                record(method, seed, float(of.mean() / 6), people=of_people(of))
                for seed, of in enumerate(runs)
            ]
        )
        for method, runs in zip(("base", "duet"), right, strict=True)
    )
    alone = np.sqrt((right[1] / 6).var(axis=1).mean() / 40 / 3)
    paired = np.sqrt(((right[1] - right[0]) / 6).var(axis=1).mean() / 40 / 3)
    assert tables.error_of_people(duet, "accuracy") == pytest.approx(alone, rel=0.06)
    assert tables.error_of_people(duet, "accuracy", base) == pytest.approx(paired, rel=0.06)
    assert tables.error_of_people(base.drop(columns="people"), "accuracy", duet) == 0
    later = duet[duet["seed"] > 0]  # only shared seeds count
    assert tables.error_of_people(later, "accuracy", base) == tables.error_of_people(
        later, "accuracy", base[base["seed"] > 0]
    )


def test_seeds_that_agree_by_luck_do_not_make_an_interval_narrow() -> None:
    people = of_people(np.array([0, 6, 6, 0, 6, 6]))
    duet, base = (
        pd.DataFrame([record(m, seed, 2 / 3 - d, people=people) for seed in range(3)])
        for m, d in (("duet", 0.0), ("base", 0.1))
    )
    base["people"] = [of_people(np.array([6, 0, 6, 0, 0, 6]))] * 3
    assert statistics.interval_over_seeds(np.full(3, 0.1)) == (
        pytest.approx(0.1),
        pytest.approx(0.1),
    )
    found = tables.difference(duet, base)
    assert found.low < 0 < found.high and found.verdict == "undecided"
    error = tables.error_of_people(duet, "accuracy", base)
    assert found.high - found.mean == pytest.approx(1.96 * error, rel=1e-3)


def test_differences_pair_seeds() -> None:
    rows = [record("base", s, a) for s, a in enumerate((0.5, 0.6, 0.7))]
    rows += [record("duet_no_swa", s, a) for s, a in enumerate((0.52, 0.62, 0.721))]
    rows += [record("duet", s, a) for s, a in ((0, 0.4), (1, 0.7))]
    rows += [record("duet", 0, 0.9, n_p=3)]
    table = tables.differences(pd.DataFrame(rows), ("duet_no_swa", "duet", "hypernetwork"))
    assert list(table["method"]) == ["duet_no_swa", "duet"]
    sure, unsure = table.to_dict("records")
    assert sure["mean"] == pytest.approx(0.061 / 3)
    assert (sure["seeds"], sure["verdict"]) == (3, "ahead")
    assert unsure["mean"] == pytest.approx(0.0), "N_p = 3 is another method"
    assert (unsure["seeds"], unsure["verdict"]) == (2, "undecided")
    base = pd.DataFrame(rows[:3])
    with pytest.raises(ValueError, match="no seed in common"):
        tables.difference(base, base.assign(seed=9))


def test_only_seeds_that_all_have_are_compared() -> None:
    rows = [record("base", s, 0.5 + s / 10) for s in range(3)]
    rows += [record("duet", s, 0.6) for s in (0, 2)] + [record("duet", 2, 0.6, n_p=2)]
    rows += [record("base", 7, 0.9, backbone=LARGE)]
    kept = tables.same_seeds(pd.DataFrame(rows))
    assert kept[["backbone", "method", "n_p", "seed"]].to_numpy().tolist() == [
        [SMALL, "base", 0, 2],
        [SMALL, "duet", 5, 2],
        [SMALL, "duet", 2, 2],
        [LARGE, "base", 0, 7],
    ]
    four = tables.table_4(pd.DataFrame(rows)).set_index(["backbone", "n_p"])
    assert four.loc[(SMALL, 0), "accuracy"] == pytest.approx(70)  # of seed 2
    assert tables.same_seeds(pd.DataFrame(rows)[:0]).empty


def test_detail_is_a_spread_over_seeds_at_every_25th_epoch() -> None:
    def run(seed: int, up: float) -> dict:
        curve = [{"epoch": e, "test_accuracy": up + e / 1000} for e in range(1, 60)]
        return record("base", seed, up, curve=curve)

    rows = pd.DataFrame([run(seed, up) for seed, up in enumerate((0.0, 0.1, 0.2, 0.9))])
    of = tables.detail(rows, "test_accuracy").set_index("epoch")
    assert list(of.index) == [25, 50]
    row = of.loc[50].drop(["method", "n_p"]) - 0.05  # what the epoch adds to all of them
    assert row["mean"] == pytest.approx(0.3)
    assert row["median"] == pytest.approx(0.15)
    assert (row["min"], row["max"]) == (pytest.approx(0), pytest.approx(0.9))
    # between sorted values: 0.1 · 3/4 of the first gap, and 0.2 + 1/4 of the last
    assert (row["q25"], row["q75"]) == (pytest.approx(0.075), pytest.approx(0.375))
    assert of.loc[50, "std"] == pytest.approx(np.std([0, 0.1, 0.2, 0.9], ddof=1))


def test_tables_2_and_4_by_hand() -> None:
    rows = [record("base", s, a, balanced_accuracy=0.3) for s, a in enumerate((0.5, 0.55, 0.6))]
    rows += [record("duet", 0, 0.8, n_p=2), record("duet", 0, 0.7, n_p=5)]
    frame = pd.DataFrame(rows)
    two = tables.table_2(frame).set_index(["backbone", "method"])
    assert two.loc[SMALL, "accuracy"][["base", "duet"]].tolist() == pytest.approx(
        [50, 70]
    )  # seed 0
    alone = frame[frame["method"] == "base"]
    two = tables.table_2(alone, ("accuracy", "balanced_accuracy")).set_index(["backbone", "method"])
    assert len(two) == 8
    assert two.loc[(SMALL, "base"), "accuracy"] == pytest.approx(55)
    assert two.loc[(SMALL, "base"), "accuracy std"] == pytest.approx(5)  # of 50, 55 and 60
    assert two.loc[(SMALL, "base"), "balanced_accuracy"] == pytest.approx(30)
    assert two.loc[LARGE, "accuracy"].isna().all() and (two.loc[LARGE, "seeds"] == 0).all()
    four = tables.table_4(frame[frame["method"] == "base"]).set_index(["backbone", "n_p"])
    assert list(four.index) == list(TABLE_4)
    reach = stats.t.ppf(0.975, 2) * 5 * np.sqrt(1 / 3 + 1 / 3)
    assert four.loc[(SMALL, 0), "low"] == pytest.approx(55 - reach)
    assert four.loc[(SMALL, 0), "high"] == pytest.approx(55 + reach)
    assert four.loc[(SMALL, 5), "printed"] == 75.15
    on_seed_0 = tables.table_4(frame).set_index(["backbone", "n_p"]).loc[SMALL]
    assert on_seed_0["accuracy"][[0, 2, 5]].tolist() == pytest.approx([50, 80, 70])
    assert on_seed_0["std"].isna().all()


def test_oscillation_by_hand() -> None:
    curve = [{"test_accuracy": a} for a in (0.1, 0.4, 0.5, 0.6, 0.5, 0.8, 0.7, 0.7)]
    assert tables.oscillation(curve) == pytest.approx(100 * (0.3 + 0.1 + 0) / 3)
    steady = [{"test_accuracy": 0.5}] * 6
    assert tables.oscillation(steady) == 0


def test_curves_name_their_run() -> None:
    table = tables.curves(pd.DataFrame([record("base", 0, 0.5), record("duet", 3, 0.6)]))
    assert len(table) == 8
    assert table[table["seed"] == 3]["n_p"].tolist() == [5] * 4
    assert table["loss"].tolist()[:4] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])


def test_strength_is_part_of_what_was_run(monkeypatch: pytest.MonkeyPatch) -> None:
    train = {"weight_decay": 0.0}
    settings = [{"data": [["strength", 2.0]]}, {"data": []}, {}, {"train": {"weight_decay": 5e-4}}]
    records = pd.DataFrame({"config": [{"train": train, **setting} for setting in settings]})
    monkeypatch.setattr(tables, "load_records", lambda name: records)
    found = tables.recorded("faces")
    assert found["strength"].tolist() == [2.0, 1.0, 1.0, 1.0]
    assert tables.standard(found).index.tolist() == [1, 2], "no weight decay"

    def none(name: str) -> pd.DataFrame:
        raise FileNotFoundError

    monkeypatch.setattr(tables, "load_records", none)
    assert tables.recorded("faces").empty
    assert tables.table_4(tables.recorded("faces"))["seeds"].sum() == 0


def test_by_session_has_a_row_for_each_run_and_shift() -> None:
    shifts = [{"light_x": x, "accuracy": 0.9 - x, "apex_accuracy": 0.5} for x in (0.0, 0.4)]
    table = tables.by_session(
        pd.DataFrame([record("duet", s, 0.5, sessions=shifts) for s in (0, 1)])
    )
    assert table["shift"].tolist() == [0.0, 0.4] * 2
    assert table["accuracy"].tolist() == pytest.approx([0.9, 0.5] * 2)
    assert table["seed"].tolist() == [0, 0, 1, 1]
