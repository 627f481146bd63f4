"""Self-checks for the exercises of chapter 6, fine-tuning on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .verdict import Verdict, judge


def one_step(answer: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Verdict:
    """Exercise 1: one step down the gradient of the mean cross-entropy."""
    w, rate = torch.tensor([0.5, -1.0]), 0.3
    f = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 1.0]])  # [n, D]
    y = torch.tensor([1.0, 0.0, 0.0])
    p = torch.sigmoid(f @ w)
    gradient = (p - y) @ f / len(y)
    usual = {
        "uphill": (w + rate * gradient, "you went up the gradient: the loss rises; subtract it"),
        "sum": (
            w - rate * (p - y) @ f,
            "you summed over the rows; the loss is their mean, so the gradient is too",
        ),
        "no_sigmoid": (
            w - rate * (f @ w - y) @ f / len(y),
            "the error is σ(logit) - y: the sigmoid is missing",
        ),
        "gradient_only": (gradient, "this is the gradient; the new w is asked for"),
        "from_zero": (-rate * gradient, "you forgot where the step starts: w"),
    }
    praise = "right: error times feature, averaged, and a step against it"
    otherwise = "the gradient of one row is (σ(w·f) - y) · f; average, times the rate, subtract"
    right = w - rate * gradient
    return judge(
        lambda: answer(w.clone(), f.clone(), y.clone(), rate), right, usual, praise, otherwise
    )


def own_loss(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Exercise 2: the loss of many users at once, each over the sessions that are there."""
    loss = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0]])  # [U, n]
    there = torch.tensor([[True, True, True], [True, False, False]])
    right = torch.tensor(6.0)  # 2 + 4
    each = torch.tensor([2.0, 4.0])
    usual = {
        "padding": (
            loss.mean(1).sum(),
            "the second user has one session, and you averaged over three: leave out what is not "
            "there",
        ),
        "divided_by_n": (
            (loss * there).mean(1).sum(),
            "you zeroed what is not there, but still divide by n: divide by the number that is",
        ),
        "mean": (
            each.mean(),
            "a mean over users divides everybody's gradient by U: SGD would go U times less far; "
            "sum over users",
        ),
        "pooled": (
            loss[there].mean(),
            "you averaged over all sessions together: users with many would train faster",
        ),
        "not_summed": (each, "these are the users' losses; one number is wanted for `backward`"),
        "all_summed": (
            loss[there].sum(),
            "you summed over sessions too: users with many would take longer steps; take each "
            "user's mean",
        ),
    }
    praise = "right: each user's mean over their own sessions, summed over users"
    otherwise = "mask, sum over n, divide by how many are there, then sum over users"
    return judge(lambda: answer(loss.clone(), there.clone()), right, usual, praise, otherwise)


def training_bytes(answer: Callable[[int, int, int], int]) -> Verdict:
    """Exercise 3: what training with Adam keeps for all users, in bytes, activations left out."""
    static, dynamic, users = 5000, 1000, 7
    usual = {
        "all_trained": (
            16 * (static + dynamic) * users,
            "this trains everything for everybody; the static numbers are frozen, and kept once",
        ),
        "a_copy_each": (
            (4 * static + 16 * dynamic) * users,
            "the static numbers are never changed, so all users share one copy of them",
        ),
        "static_trained": (
            16 * static + 16 * dynamic * users,
            "the static numbers are frozen: no gradient stands beside them, and no moments",
        ),
        "static_forgotten": (
            16 * dynamic * users,
            "that is the dynamic part; the static numbers have to be kept too, once",
        ),
        "no_moments": (
            4 * static + 8 * dynamic * users,
            "weights and gradients; Adam keeps two numbers more for each, its moments",
        ),
        "one_moment": (
            4 * static + 12 * dynamic * users,
            "three numbers each: there are weight, gradient, and *two* moments",
        ),
        "one_user": (4 * static + 16 * dynamic, "this is one user; every user trains a copy"),
    }
    right = 4 * static + 16 * dynamic * users
    praise = "right: what is frozen once; weight, gradient and two moments for every user"
    otherwise = "four bytes for each frozen number, once; four times four for each trained one"
    return judge(lambda: answer(static, dynamic, users), right, usual, praise, otherwise)


def honest_score(answer: Callable[[Sequence[float], Sequence[float]], float]) -> Verdict:
    """Exercise 4: the test score of the setting that validation chose."""
    valid, test = [0.70, 0.74, 0.72], [0.69, 0.71, 0.76]
    usual = {
        "best_test": (
            max(test),
            "you took the best of all test scores: the test set chose the setting, and the score "
            "is the luckiest of many",
        ),
        "valid_score": (
            max(valid),
            "this is the validation score that won; it was picked for being high, so report the "
            "test score of that setting",
        ),
        "which": (1, "this is which setting validation prefers; its test score is asked for"),
        "mean": (sum(test) / len(test), "this is the mean over all settings; one was chosen"),
    }
    praise = "right: validation chooses, the test set is read once"
    otherwise = "find the place of the largest validation score, and give the test score there"
    return judge(lambda: answer(list(valid), list(test)), test[1], usual, praise, otherwise)
