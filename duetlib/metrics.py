"""What a model is worth (AUC, HR, NDCG) and what it costs (parameters, FLOPs, bytes).

Source: Sections 4.1 and 4.2. Chapters 3 and 7.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from data_prep.arguments import whole


def _right_and_wrong(scores: Tensor) -> tuple[Tensor, Tensor]:
    """`[N, 1]` scores of the right answers, and `[N, C - 1]` of the wrong ones."""
    if scores.dim() != 2 or not len(scores) or scores.shape[1] < 2:
        raise ValueError(
            f"scores are of shape {list(scores.shape)}: they must be [N, C], a row for each "
            "session, the right answer in column 0 and wrong ones in the others"
        )
    return scores[:, :1], scores[:, 1:]


def auc(scores: Tensor) -> float:
    """Area under the ROC curve over all (session, candidate) pairs together, as in Table 1.

    Args:
        scores: `[N, C]`, the right answer in column 0.

    Raises:
        ValueError: for another shape, or a score that is no finite number.
    """
    _right_and_wrong(scores)
    labels = torch.zeros(scores.shape, dtype=torch.bool)
    labels[:, 0] = True
    return float(roc_auc_score(labels.flatten().numpy(), scores.cpu().flatten().numpy()))


def auc_shares(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Each session's share in the pooled AUC; the mean of either over all sessions is `auc`.

    With them an AUC can be taken over resampled users without a new sort (DeLong et al., 1988).

    Args:
        scores: `[N, C]`, the right answer in column 0.

    Returns:
        `[N]` the share of *all* wrong candidates that a session's right one beats, and `[N]` the
        share of *all* right ones that beat a session's wrong ones, ties one half.
    """
    right, wrong = (part.contiguous() for part in _right_and_wrong(scores))

    def below(values: Tensor, among: Tensor) -> Tensor:
        """For each value the share of `among` that is less, ties one half."""
        order = among.flatten().sort().values
        less = torch.searchsorted(order, values) + torch.searchsorted(order, values, right=True)
        return less.double() / (2 * order.numel())

    return below(right[:, 0], wrong), 1 - below(wrong, right).mean(1)


def user_auc(scores: Tensor) -> Tensor:
    """For each session, the share of wrong candidates that score below the right one.

    Ties count one half. `[N, C]` to `[N]`; the mean over users is "user AUC".
    """
    right, wrong = _right_and_wrong(scores)
    return ((wrong < right).float() + 0.5 * (wrong == right).float()).mean(1)


def rank_of_target(scores: Tensor) -> Tensor:
    """Rank of column 0 in each row, from 1; of tied candidates half stand above it. `[N]` float."""
    right, wrong = _right_and_wrong(scores)
    return 1 + (wrong > right).sum(1) + 0.5 * (wrong == right).sum(1)


def hit_rate(rank: Tensor, k: int = 10) -> Tensor:
    """1 where the right answer is among the first `k`: `[N]`, its mean is HR@k."""
    whole(1, k=k)
    return (rank <= k).float()


def ndcg(rank: Tensor, k: int = 10) -> Tensor:
    """`1 / log2(1 + rank)` within the first `k`, else 0: `[N]`, its mean is NDCG@k."""
    return hit_rate(rank, k) / torch.log2(1 + rank)


def count_parameters(module: nn.Module) -> int:
    """Numbers that a model holds, frozen ones too, each counted once."""
    return sum(p.numel() for p in module.parameters())


def count_flops(module: Callable[..., object], *inputs: Tensor) -> int:
    """Floating-point operations of one forward pass, as PyTorch counts them.

    A multiplication and an addition are two; look-ups and element-wise operations are none. So is
    a recurrent layer where it runs as one fused kernel, as it does on CUDA: count on the CPU.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops()
