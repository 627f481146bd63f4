"""Metrics against numbers worked out by hand, scikit-learn, and plain counting (Chapter 3)."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import ndcg_score, roc_auc_score
from torch import nn

from duetlib import methods, metrics
from duetlib.backbones import BACKBONES
from duetlib.latency import payload_bytes

# Three users, the right answer first. Ranks: 1, 3, and 2.5 (tied with one, below one).
SCORES = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.4, 0.3], [0.6, 0.6, 0.7]])


def test_auc_by_hand() -> None:
    # Of the 18 pairs (right, wrong): 0.9 beats all 6, 0.2 beats one (0.1), 0.6 beats 0.1, 0.5, 0.4,
    # 0.3 and ties with 0.6.
    assert metrics.auc(SCORES) == pytest.approx((6 + 1 + 4.5) / 18)


def test_auc_and_user_auc_ask_different_questions() -> None:
    """A user whose scores are all high is no worse off by herself, but is in the pool."""
    scores = torch.tensor([[0.2, 0.1], [0.9, 0.8]])
    assert metrics.user_auc(scores).tolist() == [1.0, 1.0]
    assert metrics.auc(scores) == pytest.approx(3 / 4)  # 0.2 does not beat 0.8


def with_ties(sessions: int = 40, candidates: int = 12) -> torch.Tensor:
    """Scores in steps of 0.1: many are equal."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(sessions, candidates, generator=generator).round(decimals=1)


def test_auc_shares_are_a_double_loop() -> None:
    scores = with_ties()
    beats, beaten = metrics.auc_shares(scores)
    right, wrong = scores[:, 0].tolist(), scores[:, 1:].tolist()

    def share(pairs: list[tuple[float, float]]) -> float:
        return sum((r > w) + 0.5 * (r == w) for r, w in pairs) / len(pairs)

    for n in range(len(scores)):
        every_wrong = [(right[n], w) for row in wrong for w in row]
        every_right = [(r, w) for w in wrong[n] for r in right]
        assert beats[n].item() == pytest.approx(share(every_wrong), abs=1e-12)
        assert beaten[n].item() == pytest.approx(share(every_right), abs=1e-12)


def test_the_mean_of_either_share_is_the_auc() -> None:
    scores = with_ties()
    labels = torch.zeros(scores.shape)
    labels[:, 0] = 1
    expected = roc_auc_score(labels.flatten(), scores.flatten())
    for part in metrics.auc_shares(scores):
        assert part.shape == (40,)
        assert part.mean().item() == pytest.approx(expected, abs=1e-12)
    assert metrics.auc(scores) == pytest.approx(expected, abs=1e-12)


def test_auc_shares_by_hand() -> None:
    beats, beaten = metrics.auc_shares(SCORES)
    torch.testing.assert_close(beats * 6, torch.tensor([6.0, 1.0, 4.5]).double())
    # Of the right 0.9, 0.2, 0.6: above 0.1 are 3 and above 0.5 are 2; 2 and 2; 1.5 and 1.
    torch.testing.assert_close(beaten * 6, torch.tensor([5.0, 4.0, 2.5]).double())


def test_user_auc_by_hand() -> None:
    torch.testing.assert_close(metrics.user_auc(SCORES), torch.tensor([1.0, 0.0, 0.25]))


def test_rank_by_hand() -> None:
    assert metrics.rank_of_target(SCORES).tolist() == [1.0, 3.0, 2.5]


def test_a_model_that_scores_all_alike_is_in_the_middle() -> None:
    """With ties counted for the model, a constant would be perfect."""
    constant = torch.zeros(5, 101)
    assert metrics.auc(constant) == 0.5
    assert metrics.user_auc(constant).tolist() == [0.5] * 5
    assert metrics.rank_of_target(constant).tolist() == [51.0] * 5
    assert metrics.hit_rate(metrics.rank_of_target(constant)).sum() == 0


def test_hit_rate_by_hand() -> None:
    rank = torch.tensor([1.0, 10.0, 10.5, 11.0])
    assert metrics.hit_rate(rank).tolist() == [1, 1, 0, 0]
    assert metrics.hit_rate(rank, k=1).tolist() == [1, 0, 0, 0]


def test_ndcg_by_hand() -> None:
    rank = torch.tensor([1.0, 2.0, 3.0, 10.0, 11.0])
    expected = [1, 1 / math.log2(3), 1 / 2, 1 / math.log2(11), 0]
    torch.testing.assert_close(metrics.ndcg(rank), torch.tensor(expected))


def test_against_scikit_learn() -> None:
    scores = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(40, 30)
    labels[:, 0] = 1
    per_user = [roc_auc_score(y, s) for y, s in zip(labels, scores, strict=True)]
    torch.testing.assert_close(
        metrics.user_auc(scores), torch.tensor(per_user, dtype=torch.float32)
    )
    ours = metrics.ndcg(metrics.rank_of_target(scores)).mean().item()
    assert ours == pytest.approx(ndcg_score(labels.numpy(), scores.numpy(), k=10), abs=1e-6)


def test_user_auc_follows_from_the_rank() -> None:
    scores = torch.randn(50, 21, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    rank = metrics.rank_of_target(scores)
    torch.testing.assert_close(metrics.user_auc(scores), 1 - (rank - 1) / 20)


def test_parameters_are_counted_once() -> None:
    linear = nn.Linear(3, 5)
    assert metrics.count_parameters(linear) == 20
    assert metrics.count_parameters(nn.ModuleList([linear, linear])) == 20


def test_parameters_of_gru4rec_by_hand() -> None:
    table, gru, dynamic = 11 * 32, 3 * 32 * (32 + 32 + 2), 2 * (32 * 32 + 32)
    built = methods.build("gru4rec", "base", n_items=10)
    assert metrics.count_parameters(built) == table + gru + dynamic


def test_flops_by_hand() -> None:
    network = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 1))
    x = torch.zeros(7, 32)
    assert metrics.count_flops(network, x) == 7 * 2 * (32 * 64 + 64 * 1)


def flops(backbone: str, length: int) -> int:
    """Of one session with a history of `length` clicks and one candidate."""
    history = torch.ones(1, length, dtype=torch.long)
    return metrics.count_flops(methods.build(backbone, "base", 10), history, torch.tensor([[2]]))


@pytest.mark.parametrize("length", [1, 30])
def test_flops_of_din_by_hand(length: int) -> None:
    unit = 32 * 8 + length * (32 * 8 + 8)  # item; click with product, and output, per click
    assert flops("din", length) == 2 * (unit + length * 32 + 2 * 32 * 32)


@pytest.mark.parametrize("length", [1, 30])
def test_flops_of_gru4rec_by_hand(length: int) -> None:
    """On the CPU: where the unit is one kernel, as on CUDA, PyTorch does not count it."""
    dynamic, unit = 2 * 2 * 32 * 32, 2 * length * 2 * 32 * 96
    assert flops("gru4rec", length) == dynamic + unit


def test_download_of_two_square_layers() -> None:
    for name in ("din", "sasrec", "gru4rec"):
        shapes = BACKBONES[name]().shapes
        assert payload_bytes(shapes) == 2112 * 4 == 8.25 * 1024


def test_download_of_the_concat_head() -> None:
    shapes = BACKBONES["din_concat"]().shapes
    assert shapes == ((64, 128), (128, 64), (64, 1))
    assert payload_bytes(shapes) == 4 * 16641 == 4 * (65 * 128 + 129 * 64 + 65)
    assert round(payload_bytes(shapes) / 1024, 1) == 65.0


def test_download_is_what_is_generated() -> None:
    """Not only by formula: the numbers that a PPG really sends for one device."""
    for name in BACKBONES:
        model = methods.build(name, "duet", n_items=10)
        sent = model.layers(torch.tensor([[1, 2, 0]]))
        numbers = sum(part.numel() for layer in sent for part in layer)
        assert payload_bytes(model.backbone.shapes) == 4 * numbers
