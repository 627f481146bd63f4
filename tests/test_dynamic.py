"""A layer per device: the three ways agree with each other, and with PyTorch's own layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from duetlib.dynamic import Layer, apply_layers, linear_batched, linear_grouped, linear_loop

WAYS = [linear_loop, linear_batched, linear_grouped]
B, C, N_IN, N_OUT = 5, 3, 4, 6  # all different, so that a swapped axis shows


def case(seed: int = 0) -> tuple[Tensor, Layer]:
    """Inputs and layers in double precision, with gradients."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return values.requires_grad_()

    return numbers(B, C, N_IN), Layer(numbers(B, N_IN, N_OUT), numbers(B, N_OUT))


def value_and_gradients(way, x: Tensor, layer: Layer) -> tuple[Tensor, ...]:
    """The output, and the gradients of an uneven sum of it with respect to all three inputs."""
    y = way(x, layer)
    uneven = torch.arange(y.numel(), dtype=y.dtype, device=y.device).view_as(y)
    return (y, *torch.autograd.grad((uneven * y).sum(), (x, *layer)))


def by_nn_linear(x: Tensor, layer: Layer) -> Tensor:
    """Each device gets an `nn.Linear`, called with its own weights."""
    module = nn.Linear(N_IN, N_OUT, dtype=x.dtype)
    rows = [
        functional_call(module, {"weight": w.T, "bias": b}, (x_b,))
        for x_b, w, b in zip(x, *layer, strict=True)
    ]
    return torch.stack(rows)


def by_vmap(x: Tensor, layer: Layer) -> Tensor:
    """`nn.Linear`, mapped over devices by PyTorch."""
    module = nn.Linear(N_IN, N_OUT, dtype=x.dtype)

    def one(x_b: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return functional_call(module, {"weight": w.T, "bias": b}, (x_b,))

    return vmap(one)(x, *layer)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reference", [by_nn_linear, by_vmap])
def test_agrees_with_nn_linear_in_value_and_gradient(way, reference):
    x, layer = case()
    ours, right = (value_and_gradients(f, x, layer) for f in (way, reference))
    for a, b in zip(ours, right, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("way", WAYS)
def test_equal_layers_are_one_ordinary_layer(way):
    x, _ = case()
    ordinary = nn.Linear(N_IN, N_OUT, dtype=torch.float64)
    copies = Layer(ordinary.weight.T.expand(B, -1, -1), ordinary.bias.expand(B, -1))
    torch.testing.assert_close(way(x, copies), ordinary(x))


@pytest.mark.parametrize("way", WAYS)
def test_a_device_is_moved_by_its_own_layer_alone(way):
    x, layer = case()
    y = way(x, layer)
    weight = layer.weight.detach().clone()
    weight[2] += 1.0
    moved = (way(x, Layer(weight, layer.bias)) - y).abs().amax((1, 2)) > 0
    assert moved.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("n", [B, N_IN, 1])  # also as many devices as inputs: no row is a device
@pytest.mark.parametrize("way", WAYS)
def test_shared_layer_is_the_ordinary_layer(way, n):
    x = torch.randn(n, C, N_IN, dtype=torch.float64)
    ordinary = nn.Linear(N_IN, N_OUT, dtype=torch.float64)
    shared = Layer(ordinary.weight.T, ordinary.bias)
    torch.testing.assert_close(way(x, shared), ordinary(x))


@pytest.mark.parametrize("n", [B, N_IN, 1])
@pytest.mark.parametrize("way", WAYS)
def test_a_shared_weight_and_a_bias_of_each_device(way, n):
    x, layer = case()
    x = x[:1].detach().expand(n, -1, -1).clone().requires_grad_()
    weight = layer.weight[0].detach().requires_grad_()
    bias = torch.randn(n, N_OUT, dtype=torch.float64, requires_grad=True)

    def by_devices(x: Tensor, layer: Layer) -> Tensor:
        module = nn.Linear(N_IN, N_OUT, bias=False, dtype=torch.float64)
        given = {"weight": layer.weight.T}
        each = [functional_call(module, given, (x[b],)) + layer.bias[b] for b in range(n)]
        return torch.stack(each)

    ours, right = (value_and_gradients(f, x, Layer(weight, bias)) for f in (way, by_devices))
    for a, b in zip(ours, right, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_of_each_device_and_a_shared_bias(way):
    x = torch.randn(B, N_OUT, N_IN, dtype=torch.float64)  # as many candidates as outputs: no axis
    weight = torch.randn(B, N_IN, N_OUT, dtype=torch.float64)  # may be taken for another
    bias = torch.randn(N_OUT, dtype=torch.float64)
    each = torch.stack([nn.functional.linear(x[b], weight[b].T, bias) for b in range(B)])
    torch.testing.assert_close(way(x, Layer(weight, bias)), each)


@pytest.mark.parametrize("way", WAYS)
def test_layers_of_other_devices_are_refused(way):
    x, layer = case()
    for wrong in (Layer(layer.weight[:2], layer.bias), Layer(layer.weight, layer.bias[:2])):
        with pytest.raises(RuntimeError):
            way(x, wrong)


@pytest.mark.parametrize("way", WAYS)
def test_two_layers_are_an_mlp_with_one_tanh(way):
    x, first = case()
    second = Layer(torch.randn(B, N_OUT, 2).double(), torch.randn(B, 2).double())
    for b in range(B):
        mlp = nn.Sequential(nn.Linear(N_IN, N_OUT), nn.Tanh(), nn.Linear(N_OUT, 2)).double()
        with torch.no_grad():
            for module, layer in ((mlp[0], first), (mlp[2], second)):
                module.weight.copy_(layer.weight[b].T)
                module.bias.copy_(layer.bias[b])
        torch.testing.assert_close(apply_layers(x, [first, second], way)[b], mlp(x[b]))


def test_a_wrong_size_is_named():
    x, layer = case()
    with pytest.raises(ValueError, match="dynamic layer 1 takes 4 numbers, but gets 6"):
        apply_layers(x, [layer, layer])


@pytest.mark.cuda
@pytest.mark.parametrize("way", WAYS)
def test_same_on_cuda(way):
    x, layer = case()
    there = [t.detach().cuda().requires_grad_() for t in (x, *layer)]
    here = value_and_gradients(linear_loop, x, layer)
    for a, b in zip(value_and_gradients(way, there[0], Layer(*there[1:])), here, strict=True):
        torch.testing.assert_close(a.cpu(), b)
