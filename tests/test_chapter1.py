"""Chapter 1: what its checks call wrong, and how sizes are written."""

from __future__ import annotations

import pytest
import torch
from duetbook.plots import chapter1 as plots
from exercises import checks, solution

CHAPTER = "01_one_model_many_devices"
CHECKS = checks(CHAPTER)


def one_pass(rows, k):
    users, films = [u for u, _ in rows], [f for _, f in rows]
    return [(u, f) for u, f in rows if users.count(u) >= k and films.count(f) >= k]


def more_than_k(rows, k):
    return solution(CHAPTER, "k_core")(rows, k + 1)


def users_only(rows, k):
    users = [u for u, _ in rows]
    return [row for row in rows if users.count(row[0]) >= k]


def kl(p, q):
    return (p[p > 0] * (p[p > 0] / q[p > 0]).log2()).sum()


def in_nats(p, q):
    def entropy(p):
        return -torch.xlogy(p, p).sum()

    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


def of_zeros(p, q):
    middle = (p + q) / 2
    return ((p * (p / middle).log2()).sum() + (q * (q / middle).log2()).sum()) / 2


def padded(clicks, length):
    return clicks[:length] + [0] * (length - len(clicks))


WRONG = [
    ("history_of", "leak", lambda c, p, n: padded(c[max(0, p + 1 - n) : p + 1], n)),
    ("history_of", "leak", lambda c, p, n: padded(c[: p + 1][-n:], n)),
    ("history_of", "left_padded", lambda c, p, n: [0] * max(0, n - p) + c[max(0, p - n) : p]),
    ("history_of", "oldest", lambda c, p, n: padded(c[:p], n)),
    ("history_of", "negative", lambda c, p, n: padded(c[p - n : p], n)),
    ("history_of", "not_padded", lambda c, p, n: c[max(0, p - n) : p]),
    ("k_core", "once", one_pass),
    ("k_core", "more_than_k", more_than_k),
    ("k_core", "users_only", users_only),
    ("k_core", "error", lambda rows, k: rows[99]),
    ("divergence", "nats", in_nats),
    ("divergence", "kl", kl),
    ("divergence", "distance", lambda p, q: solution(CHAPTER, "divergence")(p, q) ** 0.5),
    ("divergence", "not_halved", lambda p, q: 2 * solution(CHAPTER, "divergence")(p, q)),
    ("divergence", "one_sided", lambda p, q: kl(p, (p + q) / 2)),
    ("divergence", "nan", of_zeros),
    ("divergence", "wrong", lambda p, q: 0.5),
    ("count_wrong", "leak", lambda n, c, k: (n - len(c[:-2]), k * (len(c) - 3))),
    ("count_wrong", "padding", lambda n, c, k: (n + 1 - len(c), k * (len(c) - 3))),
    ("count_wrong", "first_click", lambda n, c, k: (n - len(c), k * (len(c) - 2))),
    ("count_wrong", "held_out", lambda n, c, k: (n - len(c), k * (len(c) - 1))),
    ("count_wrong", "wrong", lambda n, c, k: (n, k)),
]


@pytest.mark.parametrize(("name", "called", "answer"), WRONG)
def test_usual_wrong_answers_are_named(name, called, answer):
    assert CHECKS[name](answer).name == called


def test_sizes_are_written_for_a_reader():
    assert [plots.size(n) for n in (120, 8448, 3 * 2**20)] == ["120 bytes", "8.25 KiB", "3.00 MiB"]
