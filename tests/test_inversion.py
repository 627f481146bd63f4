"""The inversion attack: its measures by hand, and an attack on embeddings whose answer is known."""

from __future__ import annotations

import pytest
import small_data
import torch

from duetlib.beyond import inversion
from duetlib.beyond.inversion import Pairs
from duetlib.methods import build
from duetlib.serving.folded import encode

V = 20


def known_pairs(rows: int = 3000, users: int = 60, told: bool = True) -> Pairs:
    """Random clicks, and embeddings that tell the last two of them, or nothing at all."""
    generator = torch.Generator().manual_seed(0)
    recent = 1 + torch.rand(rows, V, generator=generator).argsort(1)[:, :3]
    code = torch.randn(2, V + 1, 16, generator=generator)
    embedding = 2 * code[0][recent[:, 0]] + code[1][recent[:, 1]]
    if not told:
        embedding = embedding[torch.randperm(rows, generator=generator)]
    return Pairs(embedding, recent, torch.arange(rows) % users + 1)


def attacked(data: Pairs, k: int) -> float:
    known, choose, target = (data.of(u) for u in inversion.split_users(data.user, seed=0))
    attack, _ = inversion.learn(known, choose, V, k)
    with torch.no_grad():
        found = inversion.recall(attack(target.embedding), target.recent[:, :k])
    return float(inversion.by_user(found, target.user).mean())


def test_what_an_embedding_tells_is_found_and_what_it_does_not_is_not() -> None:
    assert attacked(known_pairs(), k=1) > 0.95
    assert attacked(known_pairs(), k=2) > 0.9
    # two clicks of three are told; of the third there is a guess among 18
    assert 2 / 3 - 0.05 < attacked(known_pairs(), k=3) < 2 / 3 + 1 / 3 / 18 + 0.05


@pytest.mark.parametrize("k", [1, 3])
def test_embeddings_of_somebody_else_give_chance(k: int) -> None:
    assert attacked(known_pairs(told=False), k) == pytest.approx(k / V, abs=0.04)


def test_pairs_as_a_loop_makes_them() -> None:
    torch.manual_seed(0)
    sessions = small_data.split().train
    model = build("sasrec", "duet_no_swa", small_data.split().n_items).eval()
    made = inversion.pairs(model, sessions, clicks=4)
    row = 0
    for history, user in zip(sessions.history, sessions.user, strict=True):
        clicks = [int(item) for item in history if item]
        if len(clicks) < 4:
            continue
        assert made.recent[row].tolist() == clicks[::-1][:4]
        assert made.user[row] == user
        torch.testing.assert_close(made.embedding[row], encode(model, history[None])[0].detach())
        row += 1
    assert 0 < row == len(made.user) < len(sessions)


def test_histories_that_are_all_too_short_are_refused() -> None:
    model = build("sasrec", "duet_no_swa", small_data.split().n_items)
    with pytest.raises(ValueError, match="11 clicks"):
        inversion.pairs(model, small_data.split().train, clicks=11)


def test_no_user_is_on_two_sides() -> None:
    user = torch.arange(1, 944).repeat(3)
    parts = inversion.split_users(user, seed=1)
    assert [len(part) for part in parts] == [471, 236, 236]
    assert torch.cat(parts).sort().values.tolist() == list(range(1, 944))
    again, other = (inversion.split_users(user, seed)[0].tolist() for seed in (1, 2))
    assert parts[0].tolist() == again != other


def test_recall_by_hand() -> None:
    scores = torch.tensor([[9.0, 1, 5, 4, 3], [9, 5, 1, 2, 4]])  # item 0 is padding
    recent = torch.tensor([[2, 4], [3, 2]])
    assert inversion.recall(scores, recent).tolist() == [0.5, 0]  # guesses 2, 3 and 1, 4
    assert inversion.recall(scores, recent, guesses=3).tolist() == [1, 0.5]
    assert inversion.recall(scores, recent[:, :1]).tolist() == [1, 0]
    assert inversion.recall(scores[0], recent).tolist() == [0.5, 1]  # the same for everybody
    assert scores[0, 0] == 9  # what was given is left as it was


def test_popularity_and_means_by_hand() -> None:
    user = torch.tensor([7, 3, 7, 7])
    data = Pairs(torch.zeros(4, 2), torch.tensor([[1, 2], [3, 2], [3, 1], [3, 2]]), user)
    assert inversion.popularity(data, 4).tolist() == [0, 1, 0, 3, 0]
    assert data.of(torch.tensor([3])).recent.tolist() == [[3, 2]]
    assert inversion.by_user(torch.tensor([1.0, 0.5, 0, 0.5]), user).tolist() == [0.5, 0.5]
    assert inversion.by_user(torch.tensor([1.0, 0.2, 1, 1]), user).tolist() == pytest.approx(
        [0.2, 1]
    )
