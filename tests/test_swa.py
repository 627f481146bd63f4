"""Eq. 8 and 9 against loops in NumPy, and the adapter as part of a model that trains."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duetlib.hypernetwork import TwoLayerGenerator, generate
from duetlib.ppg import PPG
from duetlib.swa import (
    StableWeightAdapter,
    adapter_weights,
    blend,
    fold_adapters,
    row_sums,
    self_similarity,
)

KINDS = ("as_printed", "tempered")
ROWS, COLS, LATENT, RANK = 5, 3, 4, 2
NAMES = ("W_1", "B_1", "W_2", "B_2")

# Matrices of M generators; their size keeps the squares within reach of 64-bit floats.
matrices = st.integers(1, 6).flatmap(
    lambda m: arrays(np.float64, (m, 4), elements=st.floats(-8, 8, width=32))
)


def generators(m, seed=0, **sizes):
    torch.manual_seed(seed)
    shape = {"rows": ROWS, "cols": COLS, "latent": LATENT, "rank": RANK, **sizes}
    return [TwoLayerGenerator(**shape, std=0.5, from_code=0.3) for _ in range(m)]


def naive_p_prime(W):
    m = len(W)
    S = [[sum(a * b for a, b in zip(W[i], W[j], strict=True)) for j in range(m)] for i in range(m)]
    return [sum(row) for row in S]


def naive_p(p_prime, tau, kind):
    if kind == "as_printed":
        over = [p / tau for p in p_prime]
        q = [x / sum(over) for x in over]
    else:
        q = [p / sum(p_prime) / tau for p in p_prime]
    powers = [math.exp(x - max(q)) for x in q]
    return [x / sum(powers) for x in powers]


# --- Eq. 8 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tau", (0.1, 1.0, 7.0))
def test_p_is_that_of_a_naive_loop(tau, kind):
    W = np.random.default_rng(3).normal(0.4, 1, (4, 6))
    p = adapter_weights(row_sums(self_similarity(torch.tensor(W))), tau, kind)
    np.testing.assert_allclose(p.numpy(), naive_p(naive_p_prime(W), tau, kind), rtol=1e-9)


def test_three_generators_of_two_numbers_by_hand():
    W = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    S = self_similarity(W)
    assert S.tolist() == [[4, 2, 0], [2, 2, 1], [0, 1, 1]]
    assert row_sums(S).tolist() == [6, 5, 2]
    powers = [math.exp(x / 13) for x in (6, 5, 2)]
    p = adapter_weights(row_sums(S), 1.0)
    assert p.tolist() == pytest.approx([x / sum(powers) for x in powers])


def test_similarity_is_over_all_axes_of_a_generator():
    W = torch.randn(3, 2, 4, 5)
    expected = [[(W[i] * W[j]).sum().item() for j in range(3)] for i in range(3)]
    torch.testing.assert_close(self_similarity(W), torch.tensor(expected))


@settings(max_examples=60, deadline=None)
@given(matrices, st.floats(0.01, 100))
def test_tau_cancels_as_printed_and_the_two_agree_at_one(W, tau):
    p_prime = row_sums(self_similarity(torch.tensor(W)))
    if p_prime.sum() < 1e-3:  # nearly cancelling generators: rounding decides
        return
    printed = adapter_weights(p_prime, tau, "as_printed")
    torch.testing.assert_close(printed, adapter_weights(p_prime, 1.0, "as_printed"))
    torch.testing.assert_close(printed, adapter_weights(p_prime, 1.0, "tempered"))


def test_tempered_goes_from_one_generator_to_the_plain_average():
    p_prime = torch.tensor([6.0, 5.0, 2.0])
    sharpest = [adapter_weights(p_prime, tau).max().item() for tau in (0.01, 0.1, 1, 10, 1e4)]
    assert sharpest == sorted(sharpest, reverse=True)
    assert sharpest[0] > 0.999 and sharpest[-1] == pytest.approx(1 / 3, abs=1e-4)
    assert adapter_weights(p_prime, 0.01).argmax() == 0


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_p_is_a_distribution_whatever_the_row_sums(W):
    p_prime = row_sums(self_similarity(torch.tensor(W)))
    p = adapter_weights(p_prime, 1.0)
    assert (p >= 0).all() and p.sum().item() == pytest.approx(1)
    order = p_prime.argsort()
    assert (p[order].diff() >= -1e-12).all()  # the more it agrees, the more it weighs


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_the_total_of_the_row_sums_is_a_squared_length(W):
    total = row_sums(self_similarity(torch.tensor(W))).sum().item()
    assert total == pytest.approx(float((W.sum(0) ** 2).sum()), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(matrices.map(np.abs))
def test_without_negative_row_sums_p_is_nearly_uniform(W):
    p = adapter_weights(row_sums(self_similarity(torch.tensor(W))), 1.0)
    m = len(p)
    assert p.max() <= math.e * p.min() * (1 + 1e-9)
    assert p.max() <= math.e / (math.e + m - 1) + 1e-9
    assert p.min() >= 1 / (math.e + m - 1) - 1e-9 or m == 1


def test_negative_and_zero_row_sums():
    opposed = torch.tensor([[2.0, 0.0], [1.0, 1.0], [-2.0, 0.0]])
    p_prime = row_sums(self_similarity(opposed))
    assert p_prime.tolist() == [2, 2, -2]
    expected = [math.exp(1), math.exp(1), math.exp(-1)]
    p = adapter_weights(p_prime, 1.0)
    assert p.tolist() == pytest.approx([x / sum(expected) for x in expected])

    right_angle = torch.tensor([[2.0, 0.0], [1.0, 1.0], [-1.0, 1.0]])
    p_prime = row_sums(self_similarity(right_angle))
    assert p_prime.tolist() == [4, 4, 0]
    assert adapter_weights(p_prime, 1.0).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_generators_that_cancel_are_weighed_alike(kind):
    for W in (torch.tensor([[1.0, 2.0], [-1.0, -2.0]]), torch.zeros(2, 2)):
        p = adapter_weights(row_sums(self_similarity(W)), 1.0, kind)
        assert p.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("tau", (0.0, -1.0))
def test_a_temperature_must_be_positive(tau):
    with pytest.raises(ValueError, match=f"tau is {tau}"):
        adapter_weights(torch.ones(2), tau)


def test_an_unknown_kind_of_temperature_is_named():
    with pytest.raises(ValueError, match="temperature is 'hot'"):
        adapter_weights(torch.ones(2), 1.0, "hot")


# --- Eq. 9 -----------------------------------------------------------------------------------


def test_blend_is_that_of_a_naive_loop():
    rng = np.random.default_rng(5)
    p, W = rng.dirichlet(np.ones(3)), rng.normal(size=(3, 2, 4))
    expected = np.zeros((2, 4))
    for i in range(3):  # M terms: from 1 to M, not from 0 to M as printed
        for r in range(2):
            for c in range(4):
                expected[r, c] += p[i] * W[i, r, c]
    np.testing.assert_allclose(blend(torch.tensor(p), torch.tensor(W)).numpy(), expected)


def test_the_adapter_is_eq_6_with_each_of_the_four_blended_by_the_same_p():
    adapter = StableWeightAdapter(generators(3), tau=0.5)
    p = naive_p(naive_p_prime(adapter.W_1.detach().double().flatten(1).numpy()), 0.5, "tempered")
    W_1, B_1, W_2, B_2 = (
        sum(p[i] * getattr(adapter, name)[i] for i in range(3)).detach().double().numpy()
        for name in NAMES
    )
    e = torch.randn(2, LATENT)
    K = adapter(e).detach().numpy()
    for b in range(2):
        for r in range(ROWS):
            A = W_1[r] @ e[b].double().numpy() + B_1[r]
            np.testing.assert_allclose(K[b, r], A @ W_2 + B_2, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 10))
def test_p_does_not_change_when_all_generators_grow_together(scale):
    W = torch.tensor([[2.0, 0.0], [1.0, 1.0], [-1.0, 0.5]], dtype=torch.float64)
    p, q = (adapter_weights(row_sums(self_similarity(x)), 0.7) for x in (W, scale * W))
    torch.testing.assert_close(p, q)


def test_a_longer_generator_weighs_more():
    W = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    longer = W * torch.tensor([[2.0], [1.0]])
    assert adapter_weights(row_sums(self_similarity(W)), 1.0).tolist() == [0.5, 0.5]
    p = adapter_weights(row_sums(self_similarity(longer)), 1.0)
    assert p[0] > p[1]


# --- one generator, and many folded into one ----------------------------------------------------


def test_one_generator_is_the_ppg_exactly():
    (alone,) = generators(1)
    adapter = StableWeightAdapter([alone], tau=0.3)
    e = torch.randn(4, LATENT)
    assert torch.equal(adapter.p(), torch.ones(1))
    assert torch.equal(adapter(e), alone(e))


@pytest.mark.parametrize("form", ("two_layer", "dense"))
def test_a_ppg_whose_generators_are_wrapped_is_the_ppg(form):
    torch.manual_seed(0)
    plain = PPG(8, ((8, 4), (4, 2)), latent=6, rank=3, form=form)
    assert not any(isinstance(g, StableWeightAdapter) for g in plain.generators)
    wrapped = copy.deepcopy(plain)
    for n, g in enumerate(plain.generators):
        wrapped.generators[n] = StableWeightAdapter([g])
    clicks, mask = torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool)
    for a, b in zip(plain(clicks, mask), wrapped(clicks, mask), strict=True):
        assert torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias)


def test_copies_of_one_generator_weigh_alike():
    adapter = StableWeightAdapter(generators(1) * 4)
    torch.testing.assert_close(adapter.p(), torch.full((4,), 0.25))


def test_the_folded_generator_writes_the_same():
    adapter, e = StableWeightAdapter(generators(4), tau=0.2), torch.randn(6, LATENT)
    folded = adapter.fold()
    torch.testing.assert_close(folded(e), adapter(e))
    assert sum(p.numel() for p in adapter.parameters()) == 4 * sum(
        p.numel() for p in folded.parameters()
    )


@pytest.mark.parametrize("form", ("two_layer", "dense"))
def test_a_folded_ppg_gives_the_same_layers_and_leaves_the_first_alone(form):
    torch.manual_seed(1)
    ppg = PPG(8, ((8, 4), (4, 2)), latent=6, rank=3, form=form, n_generators=3)
    before = copy.deepcopy(ppg.state_dict())
    folded = fold_adapters(ppg)
    clicks, mask = torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool)
    for a, b in zip(ppg(clicks, mask), folded(clicks, mask), strict=True):
        torch.testing.assert_close(a.weight, b.weight)
        torch.testing.assert_close(a.bias, b.bias)
    assert all(isinstance(g, TwoLayerGenerator) for g in folded.generators)
    assert before.keys() == ppg.state_dict().keys()
    sizes = [sum(p.numel() for p in m.generators.parameters()) for m in (ppg, folded)]
    assert sizes[0] == 3 * sizes[1]


def test_no_generators_is_an_error():
    with pytest.raises(ValueError, match="at least one generator"):
        StableWeightAdapter([])


def test_shapes_of_the_blend():
    adapter = StableWeightAdapter(generators(2))
    shapes = [tuple(x.shape) for x in adapter.blended()]
    assert shapes == [(ROWS, RANK, LATENT), (ROWS, RANK), (RANK, COLS), (COLS,)]


# --- training ----------------------------------------------------------------------------------


def test_gradients_reach_every_generator_and_are_those_of_differences():
    adapter = StableWeightAdapter(generators(3), tau=0.7).double()
    e = torch.randn(4, LATENT, dtype=torch.float64)
    adapter(e).pow(2).sum().backward()
    for name in NAMES:
        gradient = getattr(adapter, name).grad
        assert (gradient.flatten(1).norm(dim=1) > 0).all(), name
    # W_1 has two ways to the loss: through the blend and through p. A difference sees both.
    W, h = adapter.W_1, 1e-6
    with torch.no_grad():
        for index in ((0, 0, 0, 0), (1, 2, 1, 3), (2, 4, 0, 1)):
            W[index] += h
            up = adapter(e).pow(2).sum()
            W[index] -= 2 * h
            down = adapter(e).pow(2).sum()
            W[index] += h
            assert W.grad[index].item() == pytest.approx(((up - down) / (2 * h)).item(), rel=1e-5)


def test_with_p_held_each_gradient_is_p_times_that_of_the_blend():
    adapter = StableWeightAdapter(generators(3))
    e, p = torch.randn(4, LATENT), adapter.p().detach()
    parts = [blend(p, getattr(adapter, name)) for name in NAMES]
    for part in parts:
        part.retain_grad()
    generate(e, *parts).pow(2).sum().backward()
    for name, part in zip(NAMES, parts, strict=True):
        expected = torch.stack([p_i * part.grad for p_i in p])
        torch.testing.assert_close(getattr(adapter, name).grad, expected)


def test_every_generator_is_in_the_state_and_moves():
    torch.manual_seed(2)
    ppg = PPG(8, ((8, 4), (4, 2)), latent=6, rank=3, n_generators=3)
    names = {f"generators.{n}.{name}" for n in range(2) for name in NAMES}
    assert names <= set(ppg.state_dict()) and names <= {n for n, _ in ppg.named_parameters()}
    before = {k: v.clone() for k, v in ppg.state_dict().items()}
    optimizer = torch.optim.Adam(ppg.parameters(), 1e-2)
    clicks, mask = torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool)
    sum(
        (layer.weight**2).sum() + (layer.bias - 1).pow(2).sum() for layer in ppg(clicks, mask)
    ).backward()
    optimizer.step()
    for name in names:
        moved = (ppg.state_dict()[name] - before[name]).flatten(1).norm(dim=1)
        assert moved.shape == (3,) and (moved > 0).all(), name


def test_a_saved_adapter_comes_back_the_same():
    a, b = (StableWeightAdapter(generators(3, seed)) for seed in (0, 1))
    e = torch.randn(2, LATENT)
    assert not torch.allclose(a(e), b(e))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(e), b(e))


def test_the_blend_starts_with_the_variance_of_a_single_generator():
    sizes = {"rows": 64, "cols": 48, "latent": 32, "rank": 16}
    e = torch.randn(64, 32, generator=torch.Generator().manual_seed(9))
    (alone,) = generators(1, **sizes)
    adapter = StableWeightAdapter(generators(5, seed=1, **sizes))
    alone_std, blend_std = alone(e).std().item(), adapter(e).std().item()
    assert blend_std == pytest.approx(alone_std, rel=0.1)
    # without the √5, W_1 and W_2 would each be √5 smaller, and what they generate 5 times
    shrunk = copy.deepcopy(adapter)
    with torch.no_grad():
        for name in NAMES:
            getattr(shrunk, name).div_(math.sqrt(5))
    assert shrunk(e).std().item() == pytest.approx(alone_std / 5, rel=0.1)


@pytest.mark.cuda
def test_the_adapter_on_cuda_gives_what_it_gives_on_the_cpu():
    adapter, e = StableWeightAdapter(generators(3), tau=0.5), torch.randn(6, LATENT)
    expected = adapter(e)
    on_gpu = copy.deepcopy(adapter).cuda()
    torch.testing.assert_close(on_gpu(e.cuda()).cpu(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(on_gpu.fold()(e.cuda()).cpu(), expected, rtol=1e-4, atol=1e-5)
