"""How many directions points vary in, against scikit-learn and by hand."""

from __future__ import annotations

import pytest
import torch
from sklearn.decomposition import PCA

from duetlib.beyond.spectrum import spectrum
from duetlib.ppg import PPG


def points(rows: int, columns: int) -> torch.Tensor:
    """Away from the origin, wider in some directions than in others, and turned."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(rows, columns, generator=generator) * torch.arange(1, columns + 1)
    turn = torch.linalg.qr(torch.randn(columns, columns, generator=generator)).Q
    return flat @ turn + 5


def test_four_points_on_two_axes_by_hand() -> None:
    found = spectrum(torch.tensor([[12.0, 7], [8, 7], [10, 8], [10, 6]]))
    assert found.mean.tolist() == [10, 7]
    assert found.share.tolist() == pytest.approx([0.8, 0.2])  # 4 + 4 of 10, and 1 + 1
    assert [found.holding(share) for share in (0.5, 0.79, 0.81, 1 - 1e-9, 1.0)] == [1, 1, 2, 2, 2]
    assert found.keep(torch.tensor([[13.0, 9]]), k=1).tolist() == [[13, 7]]


def test_no_share_takes_more_directions_than_there_are() -> None:
    """Rounding leaves the sum of all shares a little below 1 now and then."""
    torch.manual_seed(0)
    for _ in range(50):
        assert spectrum(torch.randn(20, 8)).holding(1.0) <= 8


@pytest.mark.parametrize("shape", [(50, 6), (5, 40)])
def test_as_scikit_learn(shape: tuple[int, int]) -> None:
    X, other = points(*shape), points(*shape).flip(0) * 1.5
    found = spectrum(X)
    assert found.axes.shape == (min(shape), shape[1])
    for k in (1, 3):
        pca = PCA(n_components=k, svd_solver="full").fit(X.double().numpy())
        assert found.share[:k].tolist() == pytest.approx(pca.explained_variance_ratio_.tolist())
        rebuilt = torch.from_numpy(pca.inverse_transform(pca.transform(other.double().numpy())))
        assert torch.allclose(found.keep(other, k).double(), rebuilt, atol=1e-3)


def test_all_directions_rebuild_and_none_leaves_the_mean() -> None:
    X = points(30, 5)
    found = spectrum(X)
    assert torch.allclose(found.keep(X, 5), X, atol=1e-4)
    assert torch.allclose(found.keep(X, 0), X.mean(0).expand_as(X), atol=1e-4)


@pytest.mark.parametrize("n_generators", [1, 3])
def test_generated_layers_vary_in_no_more_directions_than_the_neck_is_wide(
    n_generators: int,
) -> None:
    torch.manual_seed(0)
    ppg = PPG(6, [(8, 5)], latent=16, rank=4, n_generators=n_generators)
    with torch.no_grad():
        (layer,) = ppg(torch.randn(200, 3, 6), torch.ones(200, 3, dtype=torch.bool))
    found = spectrum(torch.cat([layer.weight.flatten(1), layer.bias], 1))  # [200, 45]
    assert found.share[6:].sum() < 1e-9 < found.share[5]


def test_points_that_do_not_vary_are_refused() -> None:
    with pytest.raises(ValueError, match="the same"):
        spectrum(torch.rand(1, 50).double().div(3).expand(943, 50))  # their mean is rounded
