"""The drift of chapter 1 against naive loops, scipy, and cases whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from duetlib.beyond.drift import (
    bootstrap_interval,
    genre_windows,
    in_full_window,
    jensen_shannon,
    shuffled_drift,
    window_drift,
)


def some_clicks(seed=0, n_users=9, n_items=25, n_genres=5):
    """Users with 3 to 30 clicks, in order; every film has a genre."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(1, n_users + 1), rng.integers(3, 31, n_users))
    genres = rng.random((n_items + 1, n_genres)) < 0.3
    genres[np.arange(n_items + 1), rng.integers(n_genres, size=n_items + 1)] = True
    return user, rng.integers(1, n_items + 1, len(user)), genres


def naive_windows(user, item, genres, width):
    """The same, one user and one click at a time."""
    rows, owner = [], []
    for u in dict.fromkeys(user.tolist()):
        clicks = [i for v, i in zip(user, item, strict=True) if v == u]
        for first in range(0, len(clicks) - width + 1, width):
            total = np.zeros(genres.shape[1])
            for click in clicks[first : first + width]:
                flags = genres[click].astype(float)
                total += flags / flags.sum()
            rows.append(total / width)
            owner.append(u)
    return np.array(rows), np.array(owner)


@pytest.mark.parametrize("width", [1, 2, 5, 7])
def test_windows_agree_with_a_loop(width):
    user, item, genres = some_clicks()
    windows, owner = genre_windows(user, item, genres, width)
    expected, whose = naive_windows(user, item, genres, width)
    np.testing.assert_allclose(windows, expected, atol=1e-12)
    np.testing.assert_array_equal(owner, whose)


def test_windows_refuse_what_they_cannot_use():
    user, item, genres = some_clicks()
    with pytest.raises(ValueError, match="not sorted"):
        genre_windows(user[::-1], item, genres, 5)
    with pytest.raises(ValueError, match="width is 0"):
        in_full_window(user, 0)
    with pytest.raises(ValueError, match="nobody has 9999 clicks"):
        shuffled_drift(user, item, genres, 9999)
    genres[item[0]] = False
    with pytest.raises(ValueError, match=f"item {item[0]} has no genre"):
        genre_windows(user, item, genres, 2)


def test_jensen_shannon_agrees_with_scipy():
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.full(6, 0.3), size=(2, 200))
    p[:50, 0], q[:50, 1] = 0, 0  # zeros, also where the other is not zero
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    expected = jensenshannon(p, q, axis=1, base=2) ** 2  # scipy gives the square root
    np.testing.assert_allclose(jensen_shannon(p, q), expected, atol=1e-9)


def test_jensen_shannon_at_its_ends():
    a, b = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.25, 0.75])
    assert jensen_shannon(a, a) == 0
    assert jensen_shannon(a, b) == 1


def test_drift_agrees_with_a_loop():
    user, item, genres = some_clicks()
    windows, owner = genre_windows(user, item, genres, 4)
    drift, users = window_drift(windows, owner)
    expected = {}
    for u in dict.fromkeys(owner.tolist()):
        mine = windows[owner == u]
        steps = [jensenshannon(p, q, base=2) ** 2 for p, q in itertools.pairwise(mine)]
        if steps:
            expected[u] = np.mean(steps)
    assert users.tolist() == list(expected)
    assert len(users) < len(set(user.tolist()))  # some users have one window or none
    np.testing.assert_allclose(drift, list(expected.values()), atol=1e-9)


def test_shuffles_average_to_all_orders():
    """Four clicks, windows of two: the mean over many shuffles is the mean over all 24 orders."""
    genres = np.eye(4, dtype=bool)[[0, 0, 0, 1, 2]]
    user, item = np.full(4, 7), np.array([1, 2, 3, 4])
    every = [
        window_drift(*genre_windows(user, np.array(order), genres, 2))[0][0]
        for order in itertools.permutations(item)
    ]
    drift = shuffled_drift(user, item, genres, 2, n_shuffles=2000)
    assert drift.shape == (2000, 1)
    assert set(drift[:, 0].round(6)) == set(np.round(every, 6))
    assert abs(drift.mean() - np.mean(every)) < 0.02


def test_shuffles_stay_within_users():
    """A user with one kind of film has no drift, however the others are shuffled."""
    genres = np.eye(3, dtype=bool)[[0, 0, 1, 2]]
    user = np.repeat([1, 2], 8)
    item = np.concatenate([np.ones(8, int), np.tile([2, 3], 4)])
    drift = shuffled_drift(user, item, genres, 2, n_shuffles=20)
    assert (drift[:, 0] == 0).all() and drift[:, 1].std() > 0


def test_clicks_of_a_second_stay_together():
    """Pairs that share a second always fill one window of two: only their order can change."""
    genres = np.eye(3, dtype=bool)[[0, 0, 1, 2]]
    user, item, time = np.full(6, 1), np.array([1, 1, 2, 2, 3, 3]), np.array([5, 5, 6, 6, 9, 9])
    together = shuffled_drift(user, item, genres, 2, time=time, n_shuffles=50)
    assert (together == 1).all()  # disjoint neighbours in every order
    assert (shuffled_drift(user, item, genres, 2, n_shuffles=50) < 1).any()


def test_the_bootstrap_interval_is_that_of_a_mean():
    """For many values, mean ± 1.96 standard errors; and it covers the truth as often as it says."""
    rng = np.random.default_rng(2)
    values = rng.exponential(size=2000)
    low, high = bootstrap_interval(values)
    error = 1.96 * values.std() / len(values) ** 0.5
    np.testing.assert_allclose(
        [low, high], [values.mean() - error, values.mean() + error], atol=4e-3
    )
    hits = [
        low < 0 < high
        for k in range(300)
        for low, high in [bootstrap_interval(rng.normal(size=60), n_resamples=400, seed=k)]
    ]
    assert 0.90 < np.mean(hits) < 0.98
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval(np.array([]))
