"""Asking seldom: against loops over devices and clicks, and histories cut by hand."""

from __future__ import annotations

import pytest
import small_data
import torch
from torch import Tensor, nn

from duetlib.beyond import refresh
from duetlib.beyond.refresh import Late, by_click, held, scores_of_ages
from duetlib.dynamic import Layer
from duetlib.methods import build
from duetlib.ppg import PPG
from duetlib.sessions import Sessions, leave_last_out
from duetlib.umn import UniversalMetaNetwork

T, U, L, C, D = 4, 3, 6, 5, 8
N_ITEMS = 20
COUNTS = torch.tensor([6, 1, 3, 5])  # clicks of four devices


# ---- training with late layers


class Echo(nn.Module):
    """Its "layers" are the mask that they are made from."""

    def forward(self, clicks: Tensor, mask: Tensor) -> list[Layer]:
        return [Layer(clicks, mask)]


def some_clicks() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    clicks = torch.randn(len(COUNTS), L, D, generator=generator, dtype=torch.float64)
    return clicks.requires_grad_(), torch.arange(L) < COUNTS.unsqueeze(1)


def ppg() -> PPG:
    torch.manual_seed(0)
    return PPG(D, [(4, 3), (3, 2)], latent=6, rank=2).double()


def same(ours: list[Layer], right: list[Layer]) -> None:
    torch.testing.assert_close([[*layer] for layer in ours], [[*layer] for layer in right])


def test_in_evaluation_or_with_no_age_it_is_its_source() -> None:
    source, given = ppg(), some_clicks()
    same(Late(source, oldest=3).eval()(*given), source(*given))
    same(Late(source, oldest=0).train()(*given), source(*given))


@pytest.mark.parametrize("seed", range(4))
def test_in_training_a_row_misses_its_last_clicks(seed: int) -> None:
    source, (clicks, mask) = ppg(), some_clicks()
    torch.manual_seed(seed)
    ages = torch.randint(4, (len(COUNTS),)).tolist()
    torch.manual_seed(seed)
    ours = Late(source, oldest=3)(clicks, mask)
    for b, (age, n) in enumerate(zip(ages, COUNTS.tolist(), strict=True)):
        kept = clicks[b : b + 1, : max(n - age, 1)]
        right = source(kept, torch.ones(kept.shape[:2], dtype=torch.bool))
        same([Layer(w[b : b + 1], bias[b : b + 1]) for w, bias in ours], right)


def test_each_age_is_drawn_and_one_click_is_left() -> None:
    torch.manual_seed(0)
    late, (clicks, mask) = Late(Echo(), oldest=4), some_clicks()
    left = torch.stack([late(clicks, mask)[0].bias.sum(1) for _ in range(200)])
    right = [{max(n - age, 1) for age in range(5)} for n in COUNTS.tolist()]
    assert [set(row.tolist()) for row in left.T] == right
    assert (left[:, 0] == 6).float().mean().item() == pytest.approx(1 / 5, abs=0.08)
    nothing = torch.zeros(2, L, dtype=torch.bool)
    assert not late(clicks[:2], nothing)[0].bias.any()


def test_gradients_reach_the_source_and_the_clicks_it_sees() -> None:
    source, (clicks, mask) = ppg(), some_clicks()
    torch.manual_seed(3)
    layers = Late(source, oldest=3)(clicks, mask)
    torch.cat([part.flatten() for layer in layers for part in layer]).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in source.parameters())
    torch.manual_seed(3)
    assert clicks.grad is not None
    seen = Late(Echo(), oldest=3)(clicks, mask)[0].bias
    assert torch.equal(clicks.grad.any(2), seen) and not torch.equal(seen, mask)


# ---- clicks, users, ages


def test_rows_by_click_and_user_are_a_loop() -> None:
    """Sessions in any mixture of users, each user's in the order of time."""
    test = leave_last_out(small_data.interactions(8, clicks=(7, 12)), n_test=T, length=L).test
    when = torch.arange(T).repeat(8) + torch.rand(32, generator=torch.Generator().manual_seed(0))
    mixed = test[when.argsort()]
    assert not torch.equal(mixed.user, test.user)
    ids = torch.stack([mixed.target, 1000 + mixed.target], 1)
    target, user, both = (by_click(mixed, X) for X in (mixed.target, mixed.user, ids))
    for u in range(8):
        right = test.target[test.user == u + 1]  # leave_last_out has them in order
        assert target[:, u].tolist() == right.tolist()
        assert user[:, u].tolist() == [u + 1] * T
        assert both[:, u].tolist() == [[i, 1000 + i] for i in right.tolist()]


def test_users_with_unlike_numbers_of_sessions_are_refused() -> None:
    three, four = (torch.tensor(user) for user in ([1, 2, 2], [1, 2, 2, 2]))  # also of an even sum
    for user in (three, four):
        with pytest.raises(ValueError, match="unlike numbers of sessions"):
            by_click(Sessions(user, user, user), user)


def model_of(backbone: str = "gru4rec", **ppg: str) -> UniversalMetaNetwork:
    """In double precision, and in training, as a model may come."""
    torch.manual_seed(0)
    model = build(backbone, "duet_no_swa", N_ITEMS, **ppg).double()
    with torch.no_grad():
        model.items.weight.mul_(10)
    return model.train()


def questions() -> tuple[Tensor, Tensor]:
    """`[T, U, L]` histories of two to five clicks, and `[T, U, C]` candidates."""
    generator = torch.Generator().manual_seed(2)
    clicks = torch.randint(1, N_ITEMS + 1, (T, U, L), generator=generator)
    history = clicks * (torch.arange(L) < torch.arange(2, 2 + T).view(-1, 1, 1))
    return history, torch.randint(1, N_ITEMS + 1, (T, U, C), generator=generator)


@pytest.mark.parametrize(
    ("backbone", "neck"), [("gru4rec", "gru"), ("sasrec", "state"), ("din", "mean")]
)
def test_scores_of_ages_are_a_loop(backbone: str, neck: str) -> None:
    model, (history, candidates) = model_of(backbone, neck=neck), questions()
    scores = scores_of_ages(model, history, candidates)
    assert scores.shape == (T, T, U, C) and not scores.requires_grad
    for t in range(T):
        for s in range(T):
            if s > t:
                assert scores[t, s].isnan().all()
                continue
            for u in range(U):
                layers = model.layers(history[s, u : u + 1])
                right = model.rank(history[t, u : u + 1], candidates[t, u : u + 1], layers)
                torch.testing.assert_close(scores[t, s, u], right[0].detach())


def test_scores_with_layers_that_are_given() -> None:
    model, (history, candidates) = model_of(), questions()
    right = scores_of_ages(model, history, candidates)
    given = [model.layers(h) for h in history]
    given[1] = given[0]  # as if nobody had asked at the second click
    scores = scores_of_ages(model, history, candidates, given)
    torch.testing.assert_close(scores[1:, 1], right[1:, 0])
    torch.testing.assert_close(scores[2:, 2], right[2:, 2])


def test_late_layers_are_scored_as_their_source_makes_them() -> None:
    """The model comes in training, where `Late` would take clicks away."""
    model, (history, candidates) = model_of(), questions()
    right = scores_of_ages(model, history, candidates)
    model.source = Late(model.source, oldest=4)
    found = scores_of_ages(model.train(), history, candidates)
    torch.testing.assert_close(found, right, equal_nan=True)


# ---- rules


@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_every_nth_click_is_a_loop(n: int) -> None:
    right = [[t == 0 or t % n == 0] * U for t in range(10)]
    assert refresh.every(n, 10, U).tolist() == right


def test_at_random_is_the_first_click_and_a_share_of_the_others() -> None:
    asks = refresh.at_random(0.3, 6, 4000)
    assert asks.shape == (6, 4000) and asks[0].all()
    assert asks[1:].float().mean(1).tolist() == pytest.approx([0.3] * 5, abs=0.03)
    assert asks[1:].any(0).float().mean().item() == pytest.approx(1 - 0.7**5, abs=0.03)
    before = torch.get_rng_state()
    assert torch.equal(refresh.at_random(0.3, 6, 4000), asks)
    assert not torch.equal(refresh.at_random(0.3, 6, 4000, seed=1), asks)
    assert torch.equal(torch.get_rng_state(), before)
    assert refresh.at_random(0, 6, U).sum() == U and refresh.at_random(1, 6, U).all()


def walks() -> Tensor:
    """`[12, 5, 2]` five users who wander about, and stand still now and then."""
    generator = torch.Generator().manual_seed(4)
    steps = torch.randn(12, 5, 2, generator=generator)
    return (steps * (torch.rand(12, 5, 1, generator=generator) < 0.7)).cumsum(0)


@pytest.mark.parametrize("far", [0.0, 0.8, 2.0, 1e9])
def test_when_moved_is_a_loop_over_users(far: float) -> None:
    embedding, rows = walks(), []
    for walk in embedding.unbind(1):
        last, asks = walk[0], [True]
        for here in walk[1:]:
            asks.append(((here - last) ** 2).sum().sqrt().item() > far)
            last = here if asks[-1] else last
        rows.append(asks)
    found = refresh.when_moved(embedding, far)
    assert found.T.tolist() == rows
    assert (found.sum() == 5) == (far == 1e9) and not found.all()  # who stands still does not ask


def test_a_distance_that_is_just_covered_is_not_far() -> None:
    line = torch.tensor([0.0, 2, 3, 5, 4, 1]).view(-1, 1, 1)  # 0, 3, and 1, which is 2 from 3
    assert refresh.when_moved(line, 2).flatten().tolist() == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]


def test_the_layers_a_device_holds_by_hand() -> None:
    asks = torch.tensor([[1, 0, 0, 1, 0], [1, 1, 0, 0, 0]]).bool().T
    assert refresh.asked_at(asks).T.tolist() == [[0, 0, 0, 3, 3], [0, 1, 1, 1, 1]]
    asks[0, 1] = False
    with pytest.raises(ValueError, match="at the first click every device must ask"):
        refresh.asked_at(asks)


def test_held_is_a_loop() -> None:
    scores = torch.randn(12, 12, 5, C, generator=torch.Generator().manual_seed(0))
    asks = refresh.at_random(0.3, 12, 5)
    found = held(scores, asks)
    for u in range(5):
        for t in range(12):
            of = max(s for s in range(t + 1) if asks[s, u])
            assert found[t, u].tolist() == scores[t, of, u].tolist()
    fresh = held(scores, refresh.every(1, 12, 5))
    assert torch.equal(fresh, scores.diagonal().permute(2, 0, 1))


# ---- how far a user has moved


def test_embeddings_are_the_neck_s_last_states() -> None:
    model, (history, _) = model_of(), questions()
    found, gru = refresh.embeddings(model, history), model.get_submodule("source.neck.gru")
    assert found.shape == (T, U, 32) and not found.requires_grad
    for t in range(T):
        for u in range(U):
            clicks = model.items(history[t, u, : 2 + t]).unsqueeze(0)
            torch.testing.assert_close(found[t, u], gru(clicks)[1][0, 0])


def test_the_usual_move_by_hand() -> None:
    """Of 5, 1 and 2; the way from one user to the next does not count."""
    embedding = torch.tensor([[0.0, 0], [3, 4], [3, 5], [90, 9], [90, 11], [0, 0]])
    assert refresh.usual_move(embedding, torch.tensor([1, 1, 1, 2, 2, 7])) == 2


# ---- any device


@pytest.mark.parametrize("neck", ["gru", "mean"])
def test_no_tensor_is_made_on_another_device(neck: str) -> None:
    """On `meta`, work on tensors of two devices fails: what would fail on a GPU fails here."""
    model, (history, candidates) = model_of(neck=neck).to("meta"), questions()
    history, candidates = history.to("meta"), candidates.to("meta")
    embedding = refresh.embeddings(model, history)
    model.source = Late(model.source, oldest=3)
    trained = model.train()(history[0], candidates[0])
    scores = scores_of_ages(model, history, candidates)
    asks = refresh.when_moved(embedding, 1.0)
    for found, shape in (
        *((trained, (U, C)), (scores, (T, T, U, C))),
        *((embedding, (T, U, 32)), (asks, (T, U))),
    ):
        assert found.device.type == "meta" and found.shape == shape
