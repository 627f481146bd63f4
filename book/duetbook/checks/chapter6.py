"""Self-checks for the exercises of chapter 6, fine-tuning on the device."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from duetbook.checks.verdict import Arguments, Verdict, draws, judge, normal

Scores = Sequence[float]


def one_step(answer: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Verdict:
    """Exercise 1: one step down the gradient of the mean cross-entropy, without autograd."""

    def one(rng: random.Random) -> Arguments:
        n, D = rng.sample(range(3, 8), 2)
        y = torch.tensor(rng.sample([0.0, 1.0] * n, n))
        return normal(rng, D), normal(rng, n, D), y, rng.uniform(0.1, 0.9)

    def gradient(w: Tensor, f: Tensor, y: Tensor) -> Tensor:
        return (torch.sigmoid(f @ w) - y) @ f / len(y)

    found = judge(
        torch.inference_mode()(answer) if callable(answer) else answer,
        draws(one),
        lambda w, f, y, rate: w - rate * gradient(w, f, y),
        {
            "uphill": (
                lambda w, f, y, rate: w + rate * gradient(w, f, y),
                "you went up the gradient: the loss rises; subtract it",
            ),
            "sum": (
                lambda w, f, y, rate: w - rate * len(y) * gradient(w, f, y),
                "you summed over the rows; the loss is their mean, so the gradient is too",
            ),
            "no_sigmoid": (
                lambda w, f, y, rate: w - rate * (f @ w - y) @ f / len(y),
                "the error is σ(logit) - y: the sigmoid is missing",
            ),
            "gradient_only": (
                lambda w, f, y, rate: gradient(w, f, y),
                "this is the gradient; the new w is asked for",
            ),
            "from_zero": (
                lambda w, f, y, rate: -rate * gradient(w, f, y),
                "you forgot where the step starts: w",
            ),
        },
        "right: error times feature, averaged, and a step against it",
        "the gradient of one row is (σ(w·f) - y) · f; average, times the rate, subtract",
        edges=draws(lambda rng: (normal(rng, 4), normal(rng, 1, 4), torch.ones(1), 0.5), 1),
    )
    if found.name == "error" and "grad" in found.message:
        return Verdict("autograd", f"write the gradient by hand, without autograd; {found.message}")
    return found


def own_loss(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 2: the loss of many users at once, each over the sessions that are there."""

    def one(rng: random.Random) -> Arguments:
        U, n = rng.sample(range(3, 7), 2)
        there = [rng.sample([True] * (1 + user % n) + [False] * n, n) for user in range(U)]
        for row in there:
            row[rng.randrange(n)] = True
        return normal(rng, U, n).exp(), torch.tensor(there)

    def each(loss: Tensor, there: Tensor) -> Tensor:
        return (loss * there).sum(1) / there.sum(1)

    cases = draws(one, 3)
    praise = "right: each user's mean over their own sessions, summed over users"
    otherwise = "mask, sum over n, divide by how many are there, then sum over users"
    found = judge(
        answer,
        cases,
        lambda loss, there: each(loss, there).sum(),
        {
            "padding": (
                lambda loss, there: loss.mean(1).sum(),
                "a user may have fewer sessions than n, and you averaged over n: leave out what is "
                "not there",
            ),
            "divided_by_n": (
                lambda loss, there: (loss * there).mean(1).sum(),
                "you zeroed what is not there, but still divide by n: divide by the number that is",
            ),
            "mean": (
                lambda loss, there: each(loss, there).mean(),
                "a mean over users divides everybody's gradient by U: SGD would go U times less "
                "far; sum over users",
            ),
            "pooled": (
                lambda loss, there: loss[there].mean(),
                "you averaged over all sessions together: users with many would train faster",
            ),
            "not_summed": (
                each,
                "these are the users' losses; one number is wanted for `backward`",
            ),
            "all_summed": (
                lambda loss, there: loss[there].sum(),
                "you summed over sessions too: users with many would take longer steps; take each "
                "user's mean",
            ),
        },
        praise,
        otherwise,
    )

    @functools.wraps(answer)
    def traced(loss: Tensor, there: Tensor) -> Any:
        return getattr(answer(loss.requires_grad_(), there), "requires_grad", False)

    if not found.passed:
        return found
    told = "the number is right, but it has no gradient: return the tensor itself"
    return judge(
        traced, cases[:1], lambda *_: True, {"no_gradient": (lambda *_: False, told)}, praise, told
    )


def training_bytes(answer: Callable[[int, int, int], int]) -> Verdict:
    """Exercise 3: what training with Adam keeps for all users, in bytes, activations left out."""

    def one(rng: random.Random) -> Arguments:
        static, dynamic = rng.sample(range(500, 9000), 2)
        return static, dynamic, rng.randint(3, 20)

    return judge(
        answer,
        draws(one),
        lambda static, dynamic, users: 4 * static + 16 * dynamic * users,
        {
            "all_trained": (
                lambda static, dynamic, users: 16 * (static + dynamic) * users,
                "this trains everything for everybody; the static numbers are frozen, and kept "
                "once",
            ),
            "a_copy_each": (
                lambda static, dynamic, users: (4 * static + 16 * dynamic) * users,
                "the static numbers are never changed, so all users share one copy of them",
            ),
            "static_trained": (
                lambda static, dynamic, users: 16 * static + 16 * dynamic * users,
                "the static numbers are frozen: no gradient stands beside them, and no moments",
            ),
            "static_forgotten": (
                lambda static, dynamic, users: 16 * dynamic * users,
                "that is the dynamic part; the static numbers have to be kept too, once",
            ),
            "no_moments": (
                lambda static, dynamic, users: 4 * static + 8 * dynamic * users,
                "weights and gradients; Adam keeps two numbers more for each, its moments",
            ),
            "one_moment": (
                lambda static, dynamic, users: 4 * static + 12 * dynamic * users,
                "three numbers each: there are weight, gradient, and *two* moments",
            ),
            "one_user": (
                lambda static, dynamic, users: 4 * static + 16 * dynamic,
                "this is one user; every user trains a copy",
            ),
        },
        "right: what is frozen once; weight, gradient and two moments for every user",
        "four bytes for each frozen number, once; four times four for each trained one",
    )


def honest_score(answer: Callable[[Sequence[float], Sequence[float]], float]) -> Verdict:
    """Exercise 4: the test score of the setting that validation chose."""

    def one(rng: random.Random) -> Arguments:
        n = rng.randint(4, 7)
        best = rng.sample(range(n), 2)  # by validation, by test
        valid, test = ([rng.uniform(0.6, 0.8) for _ in range(n)] for _ in range(2))
        valid[best[0]], test[best[1]] = 0.85, 0.83
        return valid, test

    def chosen(by: Scores, read: Scores) -> float:
        return read[by.index(max(by))]

    return judge(
        answer,
        draws(one, 3),
        chosen,
        {
            "best_test": (
                lambda valid, test: max(test),
                "you took the best of all test scores: the test set chose the setting, and the "
                "score is the luckiest of many",
            ),
            "valid_score": (
                lambda valid, test: max(valid),
                "this is the validation score that won; it was picked for being high, so report "
                "the test score of that setting",
            ),
            "turned": (
                lambda valid, test: chosen(test, valid),
                "the test set chose the setting here, and validation was read: it is the other "
                "way round",
            ),
            "which": (
                lambda valid, test: chosen(valid, range(len(valid))),
                "this is which setting validation prefers; its test score is asked for",
            ),
            "mean": (
                lambda valid, test: sum(test) / len(test),
                "this is the mean over all settings; one was chosen",
            ),
        },
        "right: validation chooses, the test set is read once",
        "find the place of the largest validation score, and give the test score there",
    )
