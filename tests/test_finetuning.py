"""All users at once against a plain loop: a copy of the model per user, and PyTorch's Adam."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import small_data
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep import from_clicks
from duetlib import finetuning
from duetlib.backbones import BACKBONES
from duetlib.dynamic import Layer
from duetlib.evidence.experiments import cut
from duetlib.finetuning import (
    Copies,
    OwnRows,
    finetune_all,
    finetune_dynamic,
    mean_over_own,
    own_layers,
    own_rows,
    own_sessions,
    rows_of,
)
from duetlib.methods import build
from duetlib.sessions import Negatives, Split, leave_last_out
from duetlib.training import TrainConfig, full_ranks, sampled_candidates, score
from duetlib.umn import UniversalMetaNetwork

DATA = small_data.interactions(n_users=9)
SPLIT = leave_last_out(DATA, length=10)
LR = 0.01


def base(backbone: str) -> UniversalMetaNetwork:
    """As if trained: with embeddings far from zero, so that gradients are far from it too."""
    torch.manual_seed(0)
    model = build(backbone, "base", SPLIT.n_items)
    with torch.no_grad():
        model.items.weight.mul_(5)
    return model.eval()


def batches_of(rows: OwnRows, user: int, size: int) -> list[tuple[Tensor, Tensor]]:
    """One user's own sessions, without padding, cut into batches in order."""
    own = rows.there[user].nonzero()[:, 0].split(size)
    return [(rows.history[user, part], rows.ids[user, part]) for part in own]


def plain(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    parameters: Any = nn.Module.parameters,
) -> Any:
    """A copy of a model after one step of Adam on each batch."""
    own = copy.deepcopy(model)
    optimizer = torch.optim.Adam(list(parameters(own)), LR)
    for history, ids in batches:
        logits = own(history, ids)
        labels = torch.zeros_like(logits)
        labels[:, 0] = 1
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, labels).backward()
        optimizer.step()
    return own


# ---- what a user may train on


@pytest.mark.parametrize("last", [None, 3])
@pytest.mark.parametrize(("until", "held"), [("valid", 2), ("test", 1)])
def test_own_rows_are_a_loop_over_users(last: int | None, until: str, held: int) -> None:
    rows = own_rows(SPLIT, last, 4, seed=0, until=until)
    widest = 0
    for user in range(1, 10):
        clicks = [int(i) for u, i in zip(DATA.user, DATA.item, strict=True) if u == user]
        places = range(1, len(clicks) - held)
        places = places if last is None else places[-last:]
        widest = max(widest, len(places))
        assert rows.there[user - 1].tolist() == [n < len(places) for n in range(len(rows.there[0]))]
        for n, place in enumerate(places):
            history = clicks[max(0, place - 10) : place]
            assert rows.history[user - 1, n].tolist() == history + [0] * (10 - len(history))
            assert rows.ids[user - 1, n, 0] == clicks[place]
            known = set(clicks[: len(clicks) - held])  # what comes later may be drawn as wrong
            assert not known & set(rows.ids[user - 1, n, 1:].tolist())
    assert rows.there.shape[1] == widest
    assert rows.ids.shape == (9, widest, 5)


@pytest.mark.parametrize(("until", "held"), [("valid", 2), ("test", 1)])
def test_what_a_user_will_click_is_drawn_as_often_as_any_other(until: str, held: int) -> None:
    """Were the test film never wrong, a model of one's own would learn that it is right."""
    rows = own_rows(SPLIT, None, 20_000, seed=0, until=until)
    for user in range(1, 10):
        clicks = [int(i) for u, i in zip(DATA.user, DATA.item, strict=True) if u == user]
        drawn = rows.ids[user - 1][rows.there[user - 1]][:, 1:].flatten()
        often = torch.bincount(drawn, minlength=SPLIT.n_items + 1).double()
        unknown = SPLIT.n_items - len(set(clicks[:-held]))
        for film in set(clicks[-held:]) - set(clicks[:-held]):
            assert often[film].item() == pytest.approx(len(drawn) / unknown, rel=0.25)


def test_what_is_clicked_again_is_never_drawn_as_wrong() -> None:
    """In clicks of one's own an item may come twice: it is the target, and known already."""
    user = np.repeat([1, 2, 3], 12)
    item = np.tile([1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6], 3) + np.repeat([0, 4, 8], 12)
    again = from_clicks(user, item, np.arange(36), k_core=1)
    for until in ("valid", "test"):
        rows = own_rows(leave_last_out(again, length=10), None, 50, seed=0, until=until)
        right, wrong = rows.ids[..., :1], rows.ids[..., 1:]
        assert not (wrong == right)[rows.there].any()
        drawn_of_history = (wrong.unsqueeze(-1) == rows.history.unsqueeze(-2)).any(-1)
        assert not drawn_of_history[rows.there].any()


def test_the_negatives_come_from_the_seed() -> None:
    rows = own_rows(SPLIT, None, 4, seed=3, until="valid")
    generator = torch.Generator().manual_seed(3)
    known = torch.zeros(SPLIT.seen.shape, dtype=torch.bool)
    known[:, 0] = True  # padding
    known[SPLIT.train.user, SPLIT.train.target] = True
    known[SPLIT.train.user.unsqueeze(1), SPLIT.train.history] = True
    drawn = Negatives(small_data.seen_of(known)).draw(SPLIT.train.user, 4, generator)
    assert torch.equal(rows.ids[rows.there][:, 1:], drawn)
    other = own_rows(SPLIT, None, 4, seed=4, until="valid")
    assert not torch.equal(rows.ids, other.ids)


def test_some_users_and_some_of_their_rows() -> None:
    rows = own_rows(SPLIT, None, 4, seed=0, until="test")
    some = rows.of(torch.tensor([5, 2]), slice(1, 3))
    for got, every in zip(some, rows, strict=True):
        assert torch.equal(got, torch.stack([every[5, 1:3], every[2, 1:3]]))


@pytest.mark.parametrize("last", [None, 3])
def test_rows_of_some_users_are_as_long_as_theirs_alone(last: int | None) -> None:
    """So that a few users with short histories do not wait for the one who clicks most."""
    sessions, ids = own_sessions(SPLIT, 4, seed=0, until="test")
    every = own_rows(SPLIT, last, 4, seed=0, until="test")
    few = every.there.sum(1).argsort()[:3]
    rows = rows_of(sessions, ids, few, last)
    n = int(every.there[few].sum(1).max())
    assert rows.there.shape == (3, n)
    for got, right in zip(rows, every.of(few, slice(0, n)), strict=True):
        assert torch.equal(got[rows.there], right[rows.there])


def test_nobody_trains_on_the_test_where_it_chooses_the_epoch() -> None:
    data = small_data.interactions(n_users=5, clicks=(13, 16))
    rows = own_rows(cut(data, "last-10").to("cpu"), None, 4, seed=0, until="test")
    count = [sum(data.user == user) - 11 for user in range(1, 6)]  # ten tests; the first click
    assert rows.there.sum(1).tolist() == count


def test_the_mean_over_own_sessions_by_hand() -> None:
    loss = torch.tensor([[[1.0, 3.0], [5.0, 7.0]], [[2.0, 4.0], [9.0, 9.0]], [[8.0, 8.0]] * 2])
    there = torch.tensor([[True, True], [True, False], [False, False]])
    assert mean_over_own(loss, there).tolist() == [4.0, 3.0, 0.0]
    assert mean_over_own(loss[0], there[0]).item() == 4.0


# ---- the dynamic layers


def test_a_gru_written_out_is_pytorchs() -> None:
    torch.manual_seed(0)
    gru, x = nn.GRU(3, 4, batch_first=True), torch.randn(2, 5, 3)
    written = finetuning.Unrolled(3, 4, batch_first=True)
    written.load_state_dict(gru.state_dict())
    (states, last), (right, of_last) = written(x), gru(x)
    torch.testing.assert_close(states, right)
    torch.testing.assert_close(last, of_last[0])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_dynamic_layers_of_all_users_equal_a_loop(backbone: str) -> None:
    model, ids = base(backbone).double(), sampled_candidates(SPLIT, "test")
    rows = own_rows(SPLIT, 4, 4, seed=0, until="test")
    before = copy.deepcopy(model.state_dict())
    given = list(finetune_dynamic(model, rows, LR, [1, 5]))
    assert len(given) == 2
    for steps, layers in zip((1, 5), given, strict=True):
        scores = score(model, SPLIT.test, ids, own_layers(layers))
        for u in range(9):
            own = plain(model, batches_of(rows, u, 4) * steps, lambda m: m.source.parameters())
            for n, layer in enumerate(layers):
                for ours, right, start in (
                    (layer.weight[u], own.source.weight[n], model.source.weight[n]),
                    (layer.bias[u], own.source.bias[n], model.source.bias[n]),
                ):
                    torch.testing.assert_close(ours, right.detach(), rtol=0, atol=1e-8)
                    assert (ours - start).abs().max() > LR / 2
            right = own(SPLIT.test.history[u : u + 1], ids[u : u + 1])[0]
            torch.testing.assert_close(scores[u], right.detach(), rtol=0, atol=1e-7)
    for name, value in model.state_dict().items():
        assert torch.equal(before[name], value), f"the base's {name} has changed"


def test_layers_that_were_given_out_stay_as_they_were() -> None:
    model, rows = base("sasrec"), own_rows(SPLIT, 4, 4, seed=0, until="valid")
    first, last = finetune_dynamic(model, rows, LR, [1, 4])
    (alone,) = finetune_dynamic(model, rows, LR, [1])
    assert torch.equal(first[0].weight, alone[0].weight)
    assert not torch.equal(first[0].weight, last[0].weight)
    assert not first[0].weight.requires_grad


def test_own_layers_go_by_user() -> None:
    every = Layer(torch.randn(9, 4, 3), torch.randn(9, 3))
    part = SPLIT.test[torch.tensor([7, 0, 7])]
    (layer,) = own_layers([every])(part)
    for row, user in enumerate((8, 1, 8)):
        assert part.user[row] == user
        assert torch.equal(layer.weight[row], every.weight[user - 1])
        assert torch.equal(layer.bias[row], every.bias[user - 1])


# ---- all layers


@pytest.mark.parametrize("backbone", BACKBONES)
def test_copies_of_all_layers_equal_a_loop(backbone: str) -> None:
    """Three batches of two sessions; users who have fewer take no part in the last."""
    model = base(backbone).double()
    rows = own_rows(SPLIT, 6, 4, seed=0, until="test")
    users = torch.tensor([u for u in range(9) if rows.there[u].sum() >= 5])
    assert len(users) > 1 and not rows.there[users].all()  # some have a half-empty last batch
    copies = Copies(model, len(users), LR)
    for start in (0, 2, 4):
        copies.step(rows.of(users, slice(start, start + 2)))
    test = SPLIT.test[users]
    ids = sampled_candidates(SPLIT, "test")[users]
    scores = copies.score(test.history.unsqueeze(1), ids.unsqueeze(1))[:, 0]
    for u, user in enumerate(users.tolist()):
        own = plain(model, batches_of(rows, user, 2))
        for name, right in own.named_parameters():
            ours = copies.stacked[name][u]
            torch.testing.assert_close(ours, right.detach(), rtol=0, atol=1e-8, msg=name)
            assert not torch.equal(ours, model.get_parameter(name)), f"{name} was not trained"
        right = own(test.history[u : u + 1], ids[u : u + 1])[0]
        torch.testing.assert_close(scores[u], right.detach(), rtol=0, atol=1e-7)


def with_three_tests() -> Split:
    return leave_last_out(small_data.interactions(9, clicks=(7, 16)), n_test=3, length=10)


@pytest.mark.parametrize("backbone", ["sasrec", "din", "gru4rec"])
def test_a_pass_over_all_users_equals_a_loop(
    backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users with one to four batches, few in memory at a time, three test sessions each."""
    split, model, config = with_three_tests(), base(backbone), TrainConfig(lr=LR, batch_size=20)
    evaluation, told = finetuning.evaluation, []
    monkeypatch.setattr(finetuning, "USERS_AT_ONCE", 2)
    monkeypatch.setattr(
        finetuning, "evaluation", lambda *given: (told.append(given), evaluation(*given))[1]
    )
    before = copy.deepcopy(model.state_dict())
    found = finetune_all(model, split, config, seed=5)
    ((scores, ranks, user),) = told

    rows = own_rows(split, None, config.negatives, 5, until="test")
    assert len((-(-rows.there.sum(1) // config.sessions)).unique()) >= 3
    ids, right_auc = sampled_candidates(split, "test"), []
    for u in range(9):
        own = plain(model, batches_of(rows, u, config.sessions))
        mine, asked = (user == u + 1).nonzero()[:, 0], split.test.user == u + 1
        test = split.test[asked]
        with torch.no_grad():
            right = own(test.history, ids[asked])
        torch.testing.assert_close(scores[mine], right, rtol=1e-3, atol=1e-3)
        off = (ranks[mine] - full_ranks(own, test, split.seen)).abs()
        assert off.max() <= 1  # two logits closer than rounding may change places
        right_auc.append((right[:, 1:] < right[:, :1]).double().mean().item())
    assert found.users["user_auc"] == pytest.approx(right_auc, abs=0.01)
    assert found.metrics["user_auc"] == pytest.approx(sum(right_auc) / 9, abs=0.005)
    for name, value in model.state_dict().items():
        assert torch.equal(before[name], value), f"the base's {name} has changed"
    assert all(parameter.grad is None for parameter in model.parameters())
