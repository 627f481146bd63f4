"""Histories, targets and splits against a loop over users; negatives against counting."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from small_data import interactions, of_clicks, seen_of
from torch import Tensor

from data_prep import Interactions
from duetlib import sessions
from duetlib.sessions import Negatives, Sessions, candidates, labels_like, leave_last_out, padded

Rows = list[tuple[int, list[int], int]]


def by_loop(data: Interactions, n_test: int, n_valid: int, length: int) -> tuple[Rows, Rows, Rows]:
    """Train, valid and test sessions as (user, history, target), one user after the other."""
    train: Rows = []
    valid: Rows = []
    test: Rows = []
    for user in range(1, data.n_users + 1):
        clicks = [int(i) for u, i in zip(data.user, data.item, strict=True) if u == user]
        for place in range(1, len(clicks)):
            row = (user, clicks[max(0, place - length) : place], clicks[place])
            if place >= len(clicks) - n_test:
                test.append(row)
            elif place >= len(clicks) - n_test - n_valid:
                valid.append(row)
            else:
                train.append(row)
    return train, valid, test


def as_rows(part: Sessions, length: int) -> Rows:
    """The tensors back as lists; a history's padding must be on the right, and nowhere else."""
    rows = []
    for user, history, target in zip(
        part.user.tolist(), part.history.tolist(), part.target.tolist(), strict=True
    ):
        assert len(history) == length
        clicks = [i for i in history if i]
        assert history == clicks + [0] * (length - len(clicks))
        rows.append((user, clicks, target))
    return rows


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_test=st.integers(1, 3),
    n_valid=st.integers(0, 2),
    length=st.integers(1, 9),
)
def test_split_equals_a_loop_over_users(seed: int, n_test: int, n_valid: int, length: int) -> None:
    data = interactions(8, 25, (n_test + n_valid + 2, 15), seed)
    split = leave_last_out(data, n_test=n_test, n_valid=n_valid, length=length)
    parts = (split.train, split.valid, split.test)
    for part, expected in zip(parts, by_loop(data, n_test, n_valid, length), strict=True):
        assert as_rows(part, length) == expected
        assert len(part) == len(expected)
        assert part.history.dtype == part.target.dtype == part.user.dtype == torch.int64


def test_a_repeated_item_stays_where_it_was_clicked() -> None:
    data = of_clicks([np.array([3, 3, 1, 3, 2, 3])], 3)
    split = leave_last_out(data, length=4)
    assert as_rows(split.test, 4) == [(1, [3, 1, 3, 2], 3)]
    assert as_rows(split.valid, 4) == [(1, [3, 3, 1, 3], 2)]


def test_ties_in_time_keep_the_order_of_the_rows() -> None:
    data = of_clicks([np.array([5, 2, 4, 1, 3]), np.array([4, 5, 1, 2])], 5)
    data.time[:] = 7
    split = leave_last_out(data, length=3)
    assert split.test.target.tolist() == [3, 2]
    assert split.valid.target.tolist() == [1, 1]
    assert split.train.target.tolist() == [2, 4, 5]


def test_nothing_held_out_is_known_before_its_time() -> None:
    split = leave_last_out(interactions(60, 80), n_test=2, n_valid=1)
    for later, earlier in ((split.test, split.valid), (split.valid, split.train)):
        for user, target in zip(later.user.tolist(), later.target.tolist(), strict=True):
            mine = earlier[earlier.user == user]
            assert target not in mine.target.tolist()
            assert target not in mine.history.flatten().tolist()
    for part in (split.train, split.valid, split.test):  # each item is clicked once in these data
        assert not (part.history == part.target.unsqueeze(1)).any()


def test_seen_is_every_item_of_a_user_in_any_part() -> None:
    data = interactions(12, 30)
    seen = leave_last_out(data).seen
    assert seen.shape == (13, 31)
    expected = {(int(u), int(i)) for u, i in zip(data.user, data.item, strict=True)}
    expected |= {(user, 0) for user in range(13)}
    rows = seen[torch.arange(13)]
    assert {(u, i) for u, i in rows.nonzero().tolist()} == expected
    assert torch.equal(seen[7], rows[7]) and torch.equal(seen[-1], rows[12])
    assert torch.equal(seen[torch.tensor([[4, 0], [4, 2]])][1, 0], rows[4])
    assert seen[torch.arange(0)].shape == (0, 31)


def test_a_user_with_too_few_clicks_is_named() -> None:
    data = of_clicks([np.arange(1, 6), np.arange(1, 4)], 6)
    with pytest.raises(ValueError, match=r"user 2 has 3 clicks.*raise k_core to 4"):
        leave_last_out(data)
    with pytest.raises(ValueError, match="user 1 has 5 clicks"):
        leave_last_out(data, n_test=3)


def test_clicks_that_are_not_in_order_of_users_are_refused() -> None:
    data = of_clicks([np.arange(1, 6), np.arange(1, 6)], 6)
    with pytest.raises(ValueError, match="not sorted by user"):
        leave_last_out(replace(data, user=data.user[::-1].copy()))
    with pytest.raises(ValueError, match="not sorted by user.*and time"):
        leave_last_out(replace(data, time=data.time[::-1].copy()))
    with pytest.raises(ValueError, match="user 1 has 0 clicks.*without gaps"):
        leave_last_out(replace(data, user=data.user + 1, n_users=3))
    with pytest.raises(ValueError, match="user ids are 2 to 3, but must be 1 to 2"):
        leave_last_out(replace(data, user=data.user + 1))
    with pytest.raises(ValueError, match="item ids are 0 to 4, but must be 1 to 6"):
        leave_last_out(replace(data, item=data.item - 1))


def test_what_cannot_be_cut_is_said_at_once() -> None:
    data = interactions(6, 30)
    for wrong in (
        {"length": -1},
        {"length": 0},
        {"length": 2.5},
        {"n_test": 0},
        {"n_test": True},
        {"n_valid": -1},
        {"n_valid": "1"},
    ):
        ((name, value),) = wrong.items()
        with pytest.raises(ValueError, match=f"{name} is {value!r}: it must be a whole number, "):
            leave_last_out(data, **wrong)
    with pytest.raises(ValueError, match="interactions is 'DataFrame': .*from_clicks"):
        leave_last_out(pd.DataFrame({"user": data.user}))  # type: ignore[arg-type]
    nothing = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="there must be clicks.* 0 users, 0 items and 0 times"):
        leave_last_out(replace(data, user=nothing, item=nothing, time=nothing, n_users=0))
    with pytest.raises(ValueError, match=rf"{len(data)} users, 2 items"):
        leave_last_out(replace(data, item=data.item[:2]))


def test_lists_of_clicks_as_histories() -> None:
    assert padded([[5, 9], [1, 2, 3, 4]], 3).tolist() == [[5, 9, 0], [2, 3, 4]]
    for clicks, said in (
        ([[]], "row 0 has no clicks"),
        ([[3], [0, 3]], "item is 0"),
        ([[2.5]], "item is 2.5"),
    ):
        with pytest.raises(ValueError, match=said):
            padded(clicks)  # type: ignore[arg-type]


def test_candidates_have_the_target_first_and_labels_say_so() -> None:
    split = leave_last_out(interactions(6, 30))
    negatives = Negatives(split.seen).fixed(split.test.user, 5, seed=0)
    ids = candidates(split.test, negatives)
    assert ids.shape == (6, 6)
    assert torch.equal(ids[:, 0], split.test.target)
    assert torch.equal(ids[:, 1:], negatives)
    assert labels_like(ids).tolist() == [[1.0, 0, 0, 0, 0, 0]] * 6


def some_seen(n_users: int = 20, n_items: int = 40, share: float = 0.5, seed: int = 0) -> Tensor:
    """`[n_users + 1, n_items + 1]` random; users differ much in how many items they have."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(n_users + 1, 1, generator=generator) * 2 * share
    seen = torch.rand(n_users + 1, n_items + 1, generator=generator) < shares
    seen[:, 0], seen[:, -1] = True, False
    return seen


def by_table(seen: Tensor, user: Tensor, pick: Tensor) -> Tensor:
    """The `pick`-th unseen items from a table of all that are unseen, users by items."""
    unseen = seen.to(torch.uint8).sort(dim=1, stable=True).indices  # False comes first, in order
    return unseen[user.unsqueeze(1), pick]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_draws_are_those_of_a_table_of_all_unseen_items(share: float) -> None:
    """Bit for bit: results of other days are compared with."""
    seen = some_seen(30, 57, share, seed=3)
    user = torch.randint(0, 31, (400,), generator=torch.Generator().manual_seed(1))
    negatives, count = Negatives(seen_of(seen)), (~seen).sum(1)
    drawn = negatives.draw(user, 40, torch.Generator().manual_seed(2))
    u = torch.rand(400, 40, generator=torch.Generator().manual_seed(2))
    pick = (u * count[user].unsqueeze(1)).long().clamp_(max=count[user].unsqueeze(1) - 1)
    assert torch.equal(drawn, by_table(seen, user, pick))
    every = torch.arange(57).expand(400, -1)  # and each of them, from the first to the last
    there = every < count[user].unsqueeze(1)
    assert torch.equal(negatives._unseen(user, every)[there], by_table(seen, user, every)[there])


@pytest.mark.parametrize("at_once", [1, 57, 1000, 10**6])
def test_fixed_negatives_in_slices_are_those_of_one_draw(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, n = some_seen(30, 57, 0.4, seed=4), 3
    user, count = torch.arange(31).repeat(7), (~seen).sum(1)
    key = torch.rand(len(user), int(count.max()), generator=torch.Generator().manual_seed(5))
    key[torch.arange(key.shape[1]) >= count[user].unsqueeze(1)] = -1.0
    expected = by_table(seen, user, key.topk(n, dim=1).indices)
    monkeypatch.setattr(sessions, "NUMBERS_AT_ONCE", at_once)
    assert torch.equal(Negatives(seen_of(seen)).fixed(user, n, seed=5), expected)


def test_negatives_are_never_an_item_that_the_user_has() -> None:
    seen = some_seen()
    user = torch.randint(0, 21, (500,))
    drawn = Negatives(seen_of(seen)).draw(user, 50, torch.Generator().manual_seed(0))
    assert drawn.shape == (500, 50)
    assert drawn.dtype == torch.int64
    assert not seen[user.unsqueeze(1), drawn].any()
    fewest = int((~seen).sum(1).min())
    fixed = Negatives(seen_of(seen)).fixed(user, fewest, seed=0)
    assert not seen[user.unsqueeze(1), fixed].any()


@pytest.mark.parametrize("how", ["draw", "fixed"])
def test_negatives_are_uniform_over_what_the_user_has_not(how: str) -> None:
    seen = some_seen(3)
    for user in (1, 2, 3):
        negatives, users = Negatives(seen_of(seen)), torch.full((20_000,), user)
        if how == "draw":
            drawn = negatives.draw(users, 3, torch.Generator().manual_seed(user))
        else:
            drawn = negatives.fixed(users, 1, seed=user)  # one a row, so that rows are independent
        times = torch.bincount(drawn.flatten(), minlength=seen.shape[1])[~seen[user]]
        assert chisquare(times.numpy()).pvalue > 1e-4


def test_training_draws_with_replacement_and_testing_without() -> None:
    seen = torch.zeros(2, 11, dtype=torch.bool)
    seen[:, 0] = True
    negatives, user = Negatives(seen_of(seen)), torch.ones(1000, dtype=torch.long)
    drawn = negatives.draw(user, 2, torch.Generator().manual_seed(0))
    twice = (drawn[:, 0] == drawn[:, 1]).float().mean().item()
    assert abs(twice - 0.1) < 0.04  # ten items: one pair in ten is a double
    fixed = negatives.fixed(user, 10, seed=0).sort(1).values
    assert torch.equal(fixed, torch.arange(1, 11).expand(1000, -1))


def test_fixed_negatives_equal_a_loop_over_the_same_random_numbers() -> None:
    seen, n = some_seen(), 4
    user = torch.tensor([3, 3, 7, 20, 0])
    width = int((~seen).sum(1).max())
    key = torch.rand(len(user), width, generator=torch.Generator().manual_seed(9))
    for row, u in enumerate(user.tolist()):
        unseen = [item for item in range(seen.shape[1]) if not seen[u, item]]
        ranked = sorted(zip(key[row].tolist(), unseen, strict=False), reverse=True)
        expected = [item for _, item in ranked[:n]]
        assert Negatives(seen_of(seen)).fixed(user, n, seed=9)[row].tolist() == expected


def test_fixed_negatives_come_from_their_seed_alone() -> None:
    negatives, user = Negatives(seen_of(some_seen())), torch.arange(1, 21)
    torch.manual_seed(1)
    first = negatives.fixed(user, 1, seed=5)
    torch.manual_seed(2)
    torch.rand(7)
    assert torch.equal(first, negatives.fixed(user, 1, seed=5))
    assert not torch.equal(first, negatives.fixed(user, 1, seed=6))


def test_training_negatives_come_from_the_generator_anew_each_time() -> None:
    negatives, user = Negatives(seen_of(some_seen())), torch.arange(1, 21)
    generator = torch.Generator().manual_seed(3)
    first, second = negatives.draw(user, 4, generator), negatives.draw(user, 4, generator)
    assert not torch.equal(first, second)
    again = negatives.draw(user, 4, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)


def test_too_few_unseen_items_are_named() -> None:
    seen = torch.zeros(4, 8, dtype=torch.bool)
    seen[:, 0] = True
    seen[2, 1:5] = True
    with pytest.raises(ValueError, match="user 2 has only 3 unseen items, 4 negatives"):
        Negatives(seen_of(seen)).fixed(torch.tensor([1, 2, 3]), 4, seed=0)


def test_a_user_who_has_every_item_is_named() -> None:
    seen = torch.zeros(4, 8, dtype=torch.bool)
    seen[:, 0] = True
    seen[3] = True
    with pytest.raises(ValueError, match="user 3"):
        Negatives(seen_of(seen)).draw(torch.tensor([1, 3]), 4, torch.Generator().manual_seed(0))


def test_moving_and_indexing_keep_rows_together() -> None:
    split = leave_last_out(interactions(6, 30)).to("cpu")
    some = split.train[torch.tensor([4, 0])]
    assert len(some) == 2
    assert torch.equal(some.history[0], split.train.history[4])
    assert (some.target[1], some.user[1]) == (split.train.target[0], split.train.user[0])
    assert len(split.train[2:5].to("cpu")) == 3


def test_earlier_and_later_sessions_together_are_in_order_of_time() -> None:
    data = interactions(8, 25, (5, 15))
    split = leave_last_out(data, n_valid=2, length=6)
    train, valid, _ = by_loop(data, 1, 2, 6)
    expected = [row for user in range(1, 9) for row in train + valid if row[0] == user]
    assert as_rows(split.train.then(split.valid), 6) == expected
    assert as_rows(split.train, 6) == train  # neither has changed
    mixed = split.valid[torch.arange(len(split.valid)).view(-1, 2).flip(0).flatten()]
    assert mixed.user[0] == 8
    assert as_rows(split.train.then(mixed), 6) == expected  # whatever the order of users was


def test_a_million_clicks() -> None:
    n_users, n_items = 6040, 3416  # of MovieLens-1M after its 5-core
    rng = np.random.default_rng(0)
    count = rng.multinomial(1_000_000 - 20 * n_users, rng.dirichlet(np.ones(n_users))) + 20
    clicks = [rng.integers(1, n_items + 1, min(n, 2000)) for n in count]
    data = of_clicks(clicks, n_items)
    split = leave_last_out(data)
    negatives = Negatives(split.seen)
    drawn = negatives.draw(split.train.user, 4, torch.Generator().manual_seed(0))
    fixed = negatives.fixed(split.test.user, 100, seed=0)
    assert len(drawn) == len(split.train) == len(data) - 3 * n_users
    assert fixed.shape == (n_users, 100)


@pytest.mark.stress
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="VmHWM is of Linux")
def test_memory_grows_with_clicks_not_with_users_times_items() -> None:
    """20,000 users and 19,000 items: a table of them would be 0.4 GB for each byte of a pair."""
    code = """
import re
import numpy as np, torch
from data_prep import from_clicks
from duetlib.sessions import Negatives, leave_last_out

def peak():  # of this process alone, in MB; ru_maxrss would be the parent's too
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1000

rng = np.random.default_rng(0)
user, item = np.arange(1_000_000) % 20_000, rng.integers(0, 19_000, 1_000_000)
before = peak()
split = leave_last_out(from_clicks(user, item, np.arange(1_000_000)))
negatives = Negatives(split.seen)
negatives.draw(split.train.user, 4, torch.Generator().manual_seed(0))
negatives.fixed(split.test.user[:2000], 100, seed=0)
print(split.n_users, split.n_items, len(split.train), peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n_users, n_items, n_train, grown = done.stdout.split()
    assert (n_users, n_items, n_train) == ("20000", "19000", "940000")
    assert float(grown) < 1000  # MB, for a million histories of 30 (240 MB); a table took 3,000


def test_where_the_test_is_the_validation_it_stays_so_when_moved() -> None:
    split = leave_last_out(interactions(6, 30), n_valid=0)
    same = replace(split, valid=split.test).to("cpu")
    assert same.valid is same.test
    assert split.to("cpu").valid is not split.to("cpu").test
