"""What the paper prints: Table 3, costs and delays of Tables 1 and 2, and how they came about."""

from __future__ import annotations

import itertools

import pytest

from duetlib.evidence import paper

MOVIELENS, BACKBONES = ("ml-1m", "ml-100k"), ("din", "sasrec", "gru4rec")
MOBILENETS = ("mobilenet_v3_large", "mobilenet_v3_small")


def test_tables_are_whole() -> None:
    parts = ("samples", "embedding", "layers")
    assert set(paper.TABLE_3) == set(itertools.product((*MOVIELENS, *MOBILENETS), parts))
    assert all(len(cells) == 1 + len(paper.BANDWIDTHS) for cells in paper.TABLE_3.values())
    assert set(paper.TABLE_1_COSTS) == set(itertools.product(MOVIELENS, BACKBONES))
    assert set(paper.TABLE_2_COSTS) == set(MOBILENETS)
    assert set(paper.TIME_DELAY) - set(itertools.product(MOVIELENS, ("finetune",))) == set(
        itertools.product((*MOVIELENS, *MOBILENETS), ("base", "duet"))
    )


def test_the_slip_on_auc_std_means_the_mean() -> None:
    pairs = [(cell, paper.TABLE_1[key[:2] + ("base",)]) for key, cell in paper.TABLE_1.items()]
    assert sum(cell.mean > base.mean for cell, base in pairs) == 14  # a base never beats itself
    assert sum(cell.std < base.std for cell, base in pairs) == 7


def test_more_bandwidth_takes_less_time_in_every_row_of_table_3() -> None:
    for size, *times in paper.TABLE_3.values():
        assert paper.amount(size).unit in ("KB", "MB")
        values = [paper.amount(time) for time in times]
        assert len({v.unit for v in values}) == 1 and values[0].unit in ("ms", "s")
        assert all(a.value > b.value for a, b in itertools.pairwise(values))


@pytest.mark.parametrize(
    ("text", "value", "digit", "unit"),
    [
        ("5.13ms", 5.13, 0.01, "ms"),
        ("0.017ms", 0.017, 0.001, "ms"),
        ("0.10s", 0.1, 0.01, "s"),
        ("≥ 60,000ms", 60_000, 1, "ms"),
        ("896.83K", 896.83, 0.01, "K"),
        ("0", 0, 1, ""),
    ],
)
def test_amounts_are_read_with_their_last_digit(
    text: str, value: float, digit: float, unit: str
) -> None:
    assert paper.amount(text) == (pytest.approx(value), pytest.approx(digit), unit)


def test_what_is_no_amount_is_named() -> None:
    with pytest.raises(ValueError, match="'fast' is not a number with a unit"):
        paper.amount("fast")


def test_params_of_table_1_to_the_last_digit() -> None:
    for key, costs in paper.TABLE_1_COSTS.items():
        printed = paper.amount(costs.params)
        assert abs(paper.params_as_counted(*key) - printed.value) <= printed.digit / 2 + 1e-9, key


def test_by_one_unit_for_all_params_the_rows_would_be_a_fraction() -> None:
    # 625.00 K lie between the data sets: 20,000 rows of 32 in units of 1,024, but no whole number
    # of rows in units of 1,000.
    for backbone in BACKBONES:
        big, small = (paper.amount(paper.TABLE_1_COSTS[d, backbone].params) for d in MOVIELENS)
        step = big.value - small.value
        assert step * 1024 / 32 == pytest.approx(20_000, abs=0.4)
        assert abs(step * 1000 / 32 - round(step * 1000 / 32)) > 0.2


def test_the_same_rows_give_the_step_in_flops() -> None:
    for backbone in BACKBONES:
        big, small = (paper.amount(paper.TABLE_1_COSTS[d, backbone].flops) for d in MOVIELENS)
        step = paper.flops_of_table("ml-1m") - paper.flops_of_table("ml-100k")
        assert step == pytest.approx(20_000 * 32 * 2 / 1_048_576)
        assert big.value - small.value == pytest.approx(step, abs=0.01)  # two rounded numbers
        assert big.value - small.value != pytest.approx(20_000 * 32 * 2 / 1e6, abs=0.05)


def test_what_is_left_of_the_flops_is_the_backbone_s() -> None:
    for backbone in BACKBONES:
        whole = {d: paper.amount(paper.TABLE_1_COSTS[d, backbone].flops).value for d in MOVIELENS}
        left = [whole[d] - paper.flops_of_table(d) for d in MOVIELENS]
        assert left[0] == pytest.approx(left[1], abs=0.01) and left[0] > 0


def test_most_of_the_flops_are_the_table() -> None:
    shares = {
        key: paper.flops_of_table(key[0]) / paper.amount(costs.flops).value
        for key, costs in paper.TABLE_1_COSTS.items()
    }
    assert min(shares.values()) > 0.6 and shares["ml-1m", "din"] > 0.9


def test_with_the_films_that_there_are_the_models_are_far_smaller() -> None:
    real = {key: paper.params_of_real_table(*key) for key in paper.TABLE_1_COSTS}
    assert real["ml-1m", "din"] == 3_706 * 32 + 21_825 == 140_417
    assert real["ml-100k", "gru4rec"] == 1_682 * 32 + 11_616 == 65_440
    assert all(1000 * paper.params_as_counted(*key) > 3 * count for key, count in real.items())
