"""How many directions points vary in: the layers generated for all users, or their codes (PCA)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from data_prep.arguments import number, whole


class Spectrum(NamedTuple):
    """Directions in which points vary, at right angles, the widest first.

    Attributes:
        mean: `[P]`. axes: `[K, P]` of length 1, K = min(N, P). share: `[K]` of the variance.
    """

    mean: Tensor
    axes: Tensor
    share: Tensor

    def holding(self, held: float) -> int:
        """How many of the first directions it takes to hold that share of the variance."""
        number(0, 1, held=held)
        return min(int((self.share.cumsum(0) < held).sum()) + 1, len(self.share))

    def keep(self, X: Tensor, k: int) -> Tensor:
        """`[B, P]` points rebuilt from the mean and their coordinates on the first k axes."""
        whole(0, len(self.axes), k=k)
        axes = self.axes[:k]
        return self.mean + (X - self.mean) @ axes.T @ axes


def spectrum(X: Tensor) -> Spectrum:
    """The spectrum of `[N, P]` points; a ValueError if all are the same. Source: Chapter 5."""
    mean = X.double().mean(0)
    _, s, axes = torch.linalg.svd(X.double() - mean, full_matrices=False)
    if s[0] <= 1e-12 * X.norm():  # rounding alone
        raise ValueError("all points are the same: they vary in no direction")
    return Spectrum(mean.to(X), axes.to(X), s.square() / s.square().sum())
