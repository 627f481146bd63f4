"""The checks of arguments: what they let through, and what they say of the rest."""

from __future__ import annotations

import argparse
import math

import numpy as np
import pytest
import torch

from data_prep.arguments import MOST_SEED, check_seed, number, of_type, one_of, whole


@pytest.mark.parametrize("value", [1, 5, np.int64(3), 2**80])
def test_whole_takes_whole_numbers(value):
    whole(1, length=value)


@pytest.mark.parametrize("value", [0, -1, 1.0, "3", True, None, math.nan, np.bool_(True)])
def test_whole_refuses_the_rest_by_name(value):
    with pytest.raises(ValueError, match=r"^length is .+: it must be a whole number, 1 or more$"):
        whole(1, seed=3, length=value)


def test_whole_says_where_it_ends():
    whole(0, 3, shard=3)
    with pytest.raises(ValueError, match="shard is 4: it must be a whole number from 0 to 3"):
        whole(0, 3, shard=4)


@pytest.mark.parametrize("value", [0, 0.0, 1e-9, 3, np.float32(0.5), 1e300])
def test_number_takes_finite_numbers(value):
    number(0, lr=value)


@pytest.mark.parametrize(
    "value", [-1e-9, math.nan, math.inf, -math.inf, "1", None, np.True_, 10**400]
)
def test_number_refuses_the_rest_by_name(value):
    with pytest.raises(ValueError, match=r"^lr is .+: it must be a number, 0 or more$"):
        number(0, lr=value)


def test_number_may_leave_its_ends_out():
    number(0, 1, above=True, share=1)
    for value in (0, 1.1):
        with pytest.raises(ValueError, match=f"share is {value}: it must be a number above 0 to 1"):
            number(0, 1, above=True, share=value)


def test_one_of_takes_its_choices_alone():
    one_of(("joint", "alternating"), scheme="joint")
    with pytest.raises(ValueError, match="scheme is 'other': it must be one of 'joint', 'altern"):
        one_of(("joint", "alternating"), scheme="other")
    with pytest.raises(ValueError, match="level is True"):  # though True == 1
        one_of((1, 2), level=True)


def test_a_seed_is_one_that_training_can_multiply():
    for seed in (0, MOST_SEED):
        check_seed(seed)
        torch.Generator().manual_seed(1_000_003 * seed + 1000)
    for seed in (-1, 0.5, "1", True, MOST_SEED + 1):
        with pytest.raises(ValueError, match=f"seed is {seed!r}: it must be a whole number from 0"):
            check_seed(seed)  # type: ignore[arg-type]


def test_a_command_line_says_what_a_value_error_says(capsys):
    def size(text: str) -> int:
        whole(0, 8, size=int(text))
        return int(text)

    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=of_type(size))
    assert parser.parse_args(["--size", "8"]).size == 8
    with pytest.raises(SystemExit):
        parser.parse_args(["--size", "9"])
    assert "--size: size is 9: it must be a whole number from 0 to 8" in capsys.readouterr().err
