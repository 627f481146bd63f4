"""Eq. 3 and 4: the two-layer generator, kernels from blocks, and how they start."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from duetlib.hypernetwork import HyperNetwork, TwoLayerGenerator, assemble, block_grid, generate
from duetlib.methods import build


def random_generator(rows: int = 3, cols: int = 4, latent: int = 5, rank: int = 2) -> list[Tensor]:
    """W_1, B_1, W_2, B_2, none of them zero."""
    shapes = ((rows, rank, latent), (rows, rank), (rank, cols), (cols,))
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]


def generate_by_loops(e: Tensor, W_1: Tensor, B_1: Tensor, W_2: Tensor, B_2: Tensor) -> Tensor:
    """Eq. 3 (and 6) number by number, with no product of tensors."""
    K = torch.zeros(len(e), len(W_1), len(B_2), dtype=e.dtype)
    for b, r, n in itertools.product(*map(range, K.shape)):
        total = float(B_2[n])
        for k in range(len(W_2)):
            a = float(B_1[r, k])
            for q in range(e.shape[1]):
                a += float(W_1[r, k, q]) * float(e[b, q])
            total += a * float(W_2[k, n])
        K[b, r, n] = total
    return K


def test_generate_is_equation_3() -> None:
    parts = random_generator()
    e = torch.randn(6, 5, dtype=torch.float64)
    torch.testing.assert_close(generate(e, *parts), generate_by_loops(e, *parts))


def test_generate_on_numbers_done_by_hand() -> None:
    W_1 = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    B_1 = torch.tensor([[0.0], [1.0]])
    W_2, B_2 = torch.tensor([[1.0, -1.0]]), torch.tensor([0.0, 1.0])
    K = generate(torch.tensor([[2.0, -1.0]]), W_1, B_1, W_2, B_2)
    assert K.tolist() == [[[2.0, -1.0], [0.0, 1.0]]]  # A = (2, 0); rows A·(1, -1) + (0, 1)


def test_the_class_computes_what_the_function_does() -> None:
    g = TwoLayerGenerator(3, 4, latent=5, rank=2, std=1.0, from_code=0.5).double()
    with torch.no_grad():
        g.B_2.normal_()
    e = torch.randn(2, 5, dtype=torch.float64)
    parts = [p.detach() for p in (g.W_1, g.B_1, g.W_2, g.B_2)]
    torch.testing.assert_close(g(e).detach(), generate_by_loops(e, *parts))


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_rank_is_at_most_d_before_B_2(rank: int) -> None:
    W_1, B_1, W_2, B_2 = random_generator(8, 9, 5, rank)
    K = generate(torch.randn(4, 5, dtype=torch.float64), W_1, B_1, W_2, B_2)
    assert torch.linalg.matrix_rank(K - B_2).tolist() == [rank] * 4
    assert torch.linalg.matrix_rank(K).tolist() == [rank + 1] * 4


def test_affine_in_the_code() -> None:
    parts = random_generator()
    a, b = torch.randn(2, 1, 5, dtype=torch.float64)
    straight = 0.3 * generate(a, *parts) + 0.7 * generate(b, *parts)
    torch.testing.assert_close(generate(0.3 * a + 0.7 * b, *parts), straight)


# --- kernels from blocks ---------------------------------------------------------------------


def assemble_by_loops(blocks: Tensor, i: int, j: int) -> Tensor:
    """Eq. 4 cell by cell: block (u, v) starts at row u·c_in and column v·c_out."""
    _, c_in, c_out, *filters = blocks.shape
    K = torch.zeros(i * c_in, j * c_out, *filters, dtype=blocks.dtype)
    for u, v, r, c in itertools.product(range(i), range(j), range(c_in), range(c_out)):
        K[u * c_in + r, v * c_out + c] = blocks[u * j + v, r, c]
    return K


@pytest.mark.parametrize("filters", [(), (3, 3), (1, 5)])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (3, 1)])
def test_assemble_is_equation_4(grid: tuple[int, int], filters: tuple[int, ...]) -> None:
    blocks = torch.randn(grid[0] * grid[1], 2, 4, *filters)
    assert torch.equal(assemble(blocks, grid), assemble_by_loops(blocks, *grid))


def test_a_kernel_is_its_blocks_each_from_its_own_latent() -> None:
    hyper = HyperNetwork([(6, 4, 2, 3)], base=(3, 2, 2, 3), latent=5, rank=4).double()
    kernel = hyper.kernel(0).detach()
    parts = [p.detach() for p in (hyper.g.W_1, hyper.g.B_1, hyper.g.W_2, hyper.g.B_2)]
    assert kernel.shape == (6, 4, 2, 3)
    for u, v in itertools.product(range(2), range(2)):
        K = generate_by_loops(hyper.z[0].detach()[None, u * 2 + v], *parts)[0]
        for c_in, c_out, w, h in itertools.product(range(3), range(2), range(2), range(3)):
            one = K.reshape(3, 2, 2, 3)[c_in, c_out, w, h] / math.sqrt(6 * 2 * 3)
            torch.testing.assert_close(kernel[u * 3 + c_in, v * 2 + c_out, w, h], one)


@pytest.mark.parametrize(
    ("target", "base", "grid"),
    [
        ((32, 32), (16, 16), (2, 2)),
        ((64, 1), (16, 1), (4, 1)),
        ((8, 4, 3, 3), (4, 4, 3, 3), (2, 1)),
    ],
)
def test_block_grid(target: tuple[int, ...], base: tuple[int, ...], grid: tuple[int, int]) -> None:
    assert block_grid(target, base) == grid


@pytest.mark.parametrize(
    ("target", "base", "named"),
    [
        ((5, 4), (2, 2), "C_in = 5 .* base's 2"),
        ((4, 5), (2, 2), "C_out = 5 .* base's 2"),
        ((2, 4), (4, 4), "C_in = 2"),
        ((4, 4), (0, 4), "C_in = 4"),
        ((8, 8, 5, 3), (4, 4, 3, 3), "same filter size"),
        ((8, 8, 3, 5), (4, 4, 3, 3), "same filter size"),
        ((8, 8), (4, 4, 3, 3), "same filter size"),
    ],
)
def test_size_conditions_name_what_is_wrong(
    target: tuple[int, ...], base: tuple[int, ...], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        block_grid(target, base)
    with pytest.raises(ValueError, match=named):
        HyperNetwork([target], base)


# --- how it starts ---------------------------------------------------------------------------


def check_mean(values: Sequence[float], expected: float) -> None:
    """The mean of independent draws is `expected`, within four standard errors of that mean.

    The draws have to be many enough for the test to mean something: four standard errors within a
    tenth of what is expected.
    """
    sample = torch.tensor(values, dtype=torch.float64)
    error = 4 * sample.std().item() / math.sqrt(len(sample))
    assert error < 0.1 * expected, "too few draws"
    assert abs(sample.mean().item() - expected) < error


TARGETS = ((32, 32), (64, 16), (16, 128), (8, 16, 3, 3), (16, 8, 1, 5))


@pytest.mark.parametrize("target", TARGETS)
def test_generated_weights_start_with_variance_1_over_fan_in(target: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    base = (8, 8, *target[2:])
    fan_in = target[0] * math.prod(target[2:])
    draws = [HyperNetwork([target], base).kernel(0).square().mean().item() for _ in range(500)]
    check_mean(draws, 1 / fan_in)


def test_layers_of_different_sizes_share_a_generator_and_start_right() -> None:
    torch.manual_seed(0)
    targets = ((16, 16), (128, 16))
    made = [HyperNetwork(targets, (16, 16)) for _ in range(500)]
    for n, (fan_in, _) in enumerate(targets):
        check_mean([h.kernel(n).square().mean().item() for h in made], 1 / fan_in)


@pytest.mark.parametrize("from_code", [0.0, 0.1, 1.0])
def test_the_generator_has_the_spread_asked_for_and_the_share_of_the_code(from_code: float) -> None:
    torch.manual_seed(0)
    e = torch.randn(300, 1, 16)
    made = [TwoLayerGenerator(16, 16, 16, 8, 0.5, from_code) for _ in range(300)]
    check_mean([g(c).square().mean().item() for g, c in zip(made, e, strict=True)], 0.25)
    if from_code:
        parts = [(g(c) - g(0 * c)).square().mean().item() for g, c in zip(made, e, strict=True)]
        check_mean(parts, 0.25 * from_code)
    else:
        assert all(torch.equal(g(c), g(-c)) for g, c in zip(made, e, strict=True))


def test_starting_each_layer_like_nn_linear_misses_the_scale() -> None:
    """The wrong way of chapter 2: variance 1/9 whatever the fan-in (the check above can fail)."""
    torch.manual_seed(0)
    draws = []
    for _ in range(500):
        g = TwoLayerGenerator(64, 16, 64, 32, std=1 / 8)
        nn.init.uniform_(g.W_1, -(64**-0.5), 64**-0.5)
        nn.init.uniform_(g.W_2, -(32**-0.5), 32**-0.5)
        draws.append(g(torch.randn(1, 64)).square().mean().item())
    check_mean(draws, 1 / 9)
    with pytest.raises(AssertionError):
        check_mean(draws, 1 / 64)


# --- training --------------------------------------------------------------------------------


def test_every_parameter_is_registered_and_moves_in_one_step() -> None:
    torch.manual_seed(0)
    hyper = HyperNetwork([(8, 8), (8, 4)], base=(4, 4), latent=6, rank=3)
    names = {"z.0", "z.1", "bias.0", "bias.1", "g.W_1", "g.B_1", "g.W_2", "g.B_2"}
    assert set(hyper.state_dict()) == names == {name for name, _ in hyper.named_parameters()}
    before = {name: value.clone() for name, value in hyper.state_dict().items()}
    optimizer = torch.optim.Adam(hyper.parameters(), 0.01)
    x = torch.randn(5, 8)
    for layer in hyper(torch.empty(0), torch.empty(0)):
        x = x @ layer.weight + layer.bias
    x.square().sum().backward()
    optimizer.step()
    still = [name for name, value in hyper.state_dict().items() if torch.equal(value, before[name])]
    assert not still


def test_generated_linear_layer_equals_nn_linear_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    hyper = HyperNetwork([(8, 4)], base=(4, 4), latent=6, rank=3).double()
    x, goal = torch.randn(5, 8).double(), torch.randn(5, 4).double()
    (layer,) = hyper(torch.empty(0), torch.empty(0))
    linear = nn.Linear(8, 4).double()
    linear.load_state_dict({"weight": layer.weight.T.detach(), "bias": layer.bias.detach()})
    y = x @ layer.weight + layer.bias
    torch.testing.assert_close(y, linear(x))

    # Three routes to the gradient of every parameter: straight; by nn.Linear's own gradient and
    # the chain rule; through nn.Linear called with the generated numbers.
    parameters = list(hyper.parameters())
    straight = torch.autograd.grad((y - goal).square().sum(), parameters, retain_graph=True)
    (linear(x) - goal).square().sum().backward()
    chain = torch.autograd.grad(
        [layer.weight, layer.bias],
        parameters,
        [linear.weight.grad.T, linear.bias.grad],
        retain_graph=True,
    )
    called = functional_call(linear, {"weight": layer.weight.T, "bias": layer.bias}, (x,))
    functional = torch.autograd.grad((called - goal).square().sum(), parameters)
    for a, b, c in zip(straight, chain, functional, strict=True):
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(a, c)


def test_generated_convolution_equals_nn_conv2d_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    hyper = HyperNetwork([(4, 6, 3, 5)], base=(2, 3, 3, 5), latent=6, rank=3).double()
    x = torch.randn(2, 4, 7, 7).double()
    kernel = hyper.kernel(0)
    conv = nn.Conv2d(4, 6, (3, 5), bias=False).double()
    conv.load_state_dict({"weight": kernel.transpose(0, 1).detach().contiguous()})
    y = nn.functional.conv2d(x, kernel.transpose(0, 1))
    torch.testing.assert_close(y, conv(x))
    parts = [hyper.z[0], *hyper.g.parameters()]
    straight = torch.autograd.grad(y.square().sum(), parts, retain_graph=True)
    conv(x).square().sum().backward()
    chain = torch.autograd.grad(kernel, parts, conv.weight.grad.transpose(0, 1))
    for a, b in zip(straight, chain, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backbone", ["din", "din_concat", "sasrec", "gru4rec"])
def test_all_devices_get_the_same_layers(backbone: str) -> None:
    torch.manual_seed(0)
    model = build(backbone, "hypernetwork", 20)
    first, second = torch.tensor([[1, 2, 3]]), torch.tensor([[9, 8, 0]])
    for p, q in zip(model.layers(first), model.layers(second), strict=True):
        assert torch.equal(p.weight, q.weight) and torch.equal(p.bias, q.bias)
    shapes = tuple(tuple(layer.weight.shape) for layer in model.layers(first))
    assert shapes == model.backbone.shapes
    assert model(first, torch.tensor([[4, 5]])).shape == (1, 2)
