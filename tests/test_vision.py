"""MobileNetV3 with generated layers, against torchvision, ordinary layers and autograd."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from duetlib.dynamic import Layer
from duetlib.evidence.paper import TABLE_2_COSTS, TABLE_3, amount
from duetlib.hypernetwork import TwoLayerGenerator
from duetlib.latency import n_generated
from duetlib.metrics import count_flops
from duetlib.swa import StableWeightAdapter, Temperature, fold_adapters
from duetlib.vision import costs, fused_swa
from duetlib.vision import network as vision
from duetlib.vision.factored import Factored, apply, built, factors
from duetlib.vision.mobilenet import HEAD, mobilenet_v3, torchvision_models
from duetlib.vision.network import (
    LATENT,
    METHODS,
    RANK,
    FramePPG,
    VisionNetwork,
    build,
    n_dense,
    n_two_layer,
    normalised,
)

SMALL, LARGE = "mobilenet_v3_small", "mobilenet_v3_large"
SHAPES = {
    SMALL: [(96, 576), (576, 1280), (1280, 8)],
    LARGE: [(160, 960), (960, 1280), (1280, 8)],
}


def videos(
    devices: int = 3, frames: int = 2, size: int = 64, channels: int = 1, seed: int = 0
) -> Tensor:
    """Patches of grey, 4 across: pictures of which no two are alike after pooling."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (devices, frames, channels, 4, 4)
    patches = torch.randint(0, 256, sizes, dtype=torch.uint8, generator=generator)
    return patches.repeat_interleave(size // 4, -1).repeat_interleave(size // 4, -2)


def settled(model: VisionNetwork) -> VisionNetwork:
    """The model with BatchNorms that know what they get: without that, frames look all alike."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(videos(8, 4, 64, seed=1))
    return model.eval()


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames become doubles: with `model.double()`, two ways that agree do so to 15 digits."""
    monkeypatch.setattr(vision, "normalised", lambda frames: normalised(frames).double())


# ---- the base


@pytest.mark.parametrize("name", SHAPES)
def test_the_base_is_torchvisions_model(name: str, exact: None) -> None:
    """The same weights in torchvision's own module, its head without biases and as wide."""
    torch.manual_seed(0)
    model = settled(build(name, "base").double())
    other: Any = getattr(torchvision_models(), name)(weights=None, num_classes=8)
    other.classifier[0] = nn.Linear(SHAPES[name][1][0], HEAD, bias=False)
    other.classifier[3] = nn.Linear(HEAD, 8, bias=False)
    conv, hidden, classifier = model.source.weight
    state = {f"features.{k}": v for k, v in model.trunk.state_dict().items()}
    last = len(model.trunk)
    state[f"features.{last}.0.weight"] = conv.T[..., None, None]
    state |= {f"features.{last}.1.{k}": v for k, v in model.norm.state_dict().items()}
    state |= {"classifier.0.weight": hidden.T, "classifier.3.weight": classifier.T}
    other.double().load_state_dict(state)  # strict: nothing is missing, nothing too much
    x = videos(channels=3)
    with torch.no_grad():
        right = other.eval()(vision.normalised(x.flatten(0, 1))).view(3, 2, 8)
        assert right.flatten(0, 1).std(0).max() > 1e-3  # frames differ
        torch.testing.assert_close(model(x), right)


def test_grey_is_three_equal_channels() -> None:
    model, x = settled(build(SMALL, "base")), videos()
    with torch.no_grad():
        torch.testing.assert_close(model(x), model(x.expand(-1, -1, 3, -1, -1)))
    assert normalised(torch.tensor([[[0, 255]]])).flatten().tolist() == [-2, 2] * 3


def test_a_frame_is_judged_alone_given_the_layers() -> None:
    """Of the other frames a frame sees nothing: not in the head, which pools its own pixels."""
    model, x = settled(build(SMALL, "duet_no_swa")), videos(2, 4)
    with torch.no_grad():
        layers = model.layers(x[:, 0])
        whole = model.classify(model.see(x), layers)
        torch.testing.assert_close(whole, model(x))
        for t in range(4):
            alone = model.classify(model.see(x[:, t : t + 1]), layers)
            torch.testing.assert_close(alone.squeeze(1), whole[:, t], atol=1e-5, rtol=1e-4)


# ---- generated layers


class Ordinary(nn.Module):
    """The head as a device has it: an `nn.Conv2d`, its BatchNorm, two `nn.Linear`."""

    def __init__(self, shapes: list[tuple[int, int]], norm: nn.Module):
        super().__init__()
        self.conv = nn.Conv2d(*shapes[0], 1, bias=False)
        self.hidden, self.classifier = (nn.Linear(*shape, bias=False) for shape in shapes[1:])
        self.norm = norm

    def forward(self, features: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.conv(features))).mean((-2, -1))
        return self.classifier(F.hardswish(self.hidden(x)))


@pytest.mark.parametrize("ppg", [{}, {"n_generators": 2, "rank": 5, "latent": 7}])
@pytest.mark.parametrize("name", SHAPES)
def test_generated_layers_are_ordinary_ones_on_every_device(
    name: str, ppg: Any, exact: None
) -> None:
    """Values and gradients. (A BatchNorm over pixels in one column had right values alone.)"""
    torch.manual_seed(0)
    model, x = settled(build(name, "duet_no_swa", **ppg).double()), videos(size=64)
    head = Ordinary(SHAPES[name], model.norm)
    features = model.see(x)
    layers = built(model.layers(x[:, 0]))
    assert [tuple(layer.shape) for layer in layers] == [(3, *shape) for shape in SHAPES[name]]
    right = []
    for b in range(3):  # a device has its own three layers, and no other's
        conv, hidden, classifier = (layer[b].T for layer in layers)
        weights = {"conv.weight": conv[..., None, None], "hidden.weight": hidden}
        weights["classifier.weight"] = classifier
        right.append(functional_call(head, weights, features[b]))
    torch.testing.assert_close(model(x), torch.stack(right))
    source = list(model.source.parameters())
    for a, b in zip(
        torch.autograd.grad(model(x).square().sum(), source),
        torch.autograd.grad(torch.stack(right).square().sum(), source),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-6)


def test_factors_are_what_is_built() -> None:
    torch.manual_seed(0)
    g = TwoLayerGenerator(7, 5, 4, 3, 1.0, 0.5).double()
    nn.init.normal_(g.B_2)  # which starts at zero
    e, x = torch.randn(2, 4).double(), torch.randn(2, 6, 7).double()
    found = factors(g, e, scale=0.3)
    torch.testing.assert_close(found.built(), 0.3 * g(e))
    torch.testing.assert_close(apply(x, found), x @ (0.3 * g(e)))
    shared = Layer(torch.randn(7, 5).double(), torch.randn(2, 5).double())
    torch.testing.assert_close(
        apply(x, shared), torch.stack([x[b] @ shared.weight + shared.bias[b] for b in (0, 1)])
    )


def test_the_layers_depend_on_the_first_frame_alone() -> None:
    model, x = settled(build(SMALL, "duet")), videos(2, 3)
    other = x.clone()
    other[:, 1:] = 0
    with torch.no_grad():
        one, two = (built(model.source(model.shared(model.see(v)))) for v in (x, other))
        for a, b in zip(one, two, strict=True):
            torch.testing.assert_close(a, b)
            assert (a[0] - a[1]).abs().max() > 1e-6  # and devices differ


def test_the_start_is_torchvisions() -> None:
    """The spread of generated numbers is that of the ordinary layers' at their start."""
    torch.manual_seed(0)
    for method in ("hypernetwork", "duet_no_swa", "duet"):
        model = build(SMALL, method)
        with torch.no_grad():
            layers = built(model.layers(videos(2, 1)[:, 0]))
        stds = [float(layer.std()) for layer in layers]
        ordinary = [float(w.detach().std()) for w in build(SMALL, "base").source.weight]
        assert stds == pytest.approx(ordinary, rel=0.15), method
        assert ordinary == pytest.approx([math.sqrt(2 / 576), 0.01, 0.01], rel=0.05)


# ---- the Stable Weight Adapter by hand


@pytest.mark.parametrize(("tau", "temperature"), [(0.7, "tempered"), (1.0, "as_printed")])
def test_the_gradient_by_hand_is_autograds(tau: float, temperature: Temperature) -> None:
    torch.manual_seed(0)
    few = [TwoLayerGenerator(4, 5, 3, 2, 1.0, 0.4).double() for _ in range(4)]
    adapter = StableWeightAdapter(few, tau, temperature)
    parameters = list(adapter.parameters())

    def values(blended: tuple[Tensor, ...]) -> list[Tensor]:
        weighed = [(b * torch.linspace(-1, 2, b.numel()).view_as(b)).sum() for b in blended]
        return [*blended, *torch.autograd.grad(torch.stack(weighed).square().sum(), parameters)]

    for ours, right in zip(
        values(fused_swa.blended(adapter)), values(adapter.blended()), strict=True
    ):
        torch.testing.assert_close(ours, right)
    assert torch.autograd.gradcheck(
        lambda W: fused_swa._Blend.apply(W, tau, temperature),
        adapter.W_1.flatten(1).detach().requires_grad_(),
    )


def test_folded_adapters_give_the_same_layers() -> None:
    torch.manual_seed(0)
    ppg = FramePPG(6, [(4, 5), (5, 3)], latent=3, rank=2, n_generators=3)
    shared = torch.randn(2, 6)
    for a, b in zip(built(ppg(shared)), built(fold_adapters(ppg)(shared)), strict=True):
        torch.testing.assert_close(a, b)


# ---- counting


@pytest.mark.parametrize(("name", "generated"), [(SMALL, 802_816), (LARGE, 1_392_640)])
def test_as_many_numbers_are_sent_as_table_3_says(name: str, generated: int) -> None:
    model = build(name, "duet_no_swa").eval()
    assert model.shapes == SHAPES[name]
    assert n_generated(model.shapes, bias=False) == generated
    layers = built(model.layers(videos(1, 1)[:, 0]))
    assert sum(layer.numel() for layer in layers) == generated
    size = amount(TABLE_3[name, "layers"][0])
    assert size.unit == "MB" and round(4 * generated / 2**20, 2) == size.value


@pytest.mark.parametrize("name", SHAPES)
def test_generators_are_as_large_as_the_formula_says(name: str) -> None:
    for n in (1, 2):
        ppg = FramePPG(10, SHAPES[name], n_generators=n)
        numbers = sum(p.numel() for p in ppg.generators.parameters())
        assert numbers == n * n_two_layer(SHAPES[name])
    small, large = n_two_layer(SHAPES[SMALL]), n_two_layer(SHAPES[LARGE])
    assert 8e6 < small < large < 1.02e7  # "about ten million" for Large


def test_the_dense_reading_is_only_a_sum() -> None:
    """`W_1 e + B_1` as one vector of d numbers, then one dense map to each layer."""
    right = 0
    for n_in, n_out in SHAPES[LARGE]:
        with torch.device("meta"):
            to_d, to_layer = nn.Linear(LATENT, RANK), nn.Linear(RANK, n_in * n_out)
        right += sum(p.numel() for m in (to_d, to_layer) for p in m.parameters())
    assert n_dense(SHAPES[LARGE]) == right
    assert 8.9e7 < right < 9.1e7


def test_the_second_input_costs_as_much_as_a_ppg() -> None:
    for name in SHAPES:
        with torch.device("meta"):
            one, two = (build(name, m) for m in ("first_frame_as_input", "duet_no_swa"))
        sizes = [sum(p.numel() for p in model.parameters()) for model in (one, two)]
        assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)


class Bottleneck(nn.Module):
    """The older implementation's block, put together from modules."""

    def __init__(self, channels: int, block: costs.Block):
        super().__init__()
        kernel, wide, out, squeeze, stride = block
        layers = [nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
        each = nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False)
        layers += [each, nn.BatchNorm2d(wide), nn.ReLU()]
        layers += [nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.body, self.stride = nn.Sequential(*layers), stride
        self.squeeze, self.shortcut = nn.Sequential(), nn.Sequential()
        if squeeze:
            few = out // 4
            layers = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(out, few, 1, bias=False)]
            layers += [nn.BatchNorm2d(few), nn.ReLU(), nn.Conv2d(few, out, 1, bias=False)]
            self.squeeze = nn.Sequential(*layers, nn.BatchNorm2d(out), nn.Hardsigmoid())
        if stride == 1 and channels != out:
            conv = nn.Conv2d(channels, out, 1, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y = y * self.squeeze(y) if len(self.squeeze) else y
        return y + self.shortcut(x) if self.stride == 1 else y


@pytest.mark.parametrize("name", SHAPES)
def test_table_2_counts_an_older_model(name: str) -> None:
    """Its formula against its modules, and both against the printed columns."""
    blocks, channels = [], 16
    for block in costs.BLOCKS[name]:
        blocks.append(Bottleneck(channels, block))
        channels = block.out
    (n_in, last), *_ = SHAPES[name]
    assert (n_in, last) == (channels, costs.LAST[name])
    layers = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(), *blocks]
    layers += [nn.Conv2d(n_in, last, 1, bias=False), nn.BatchNorm2d(last), nn.Hardswish()]
    layers += [nn.AvgPool2d(7), nn.Flatten(), nn.Linear(last, HEAD), nn.BatchNorm1d(HEAD)]
    model = nn.Sequential(*layers, nn.Hardswish(), nn.Linear(HEAD, 8)).to("meta").eval()
    params, products = costs.older(name)
    assert params == sum(p.numel() for p in model.parameters())
    assert 2 * products == count_flops(model, torch.zeros(1, 3, 224, 224, device="meta"))
    printed = amount(TABLE_2_COSTS[name].params)
    assert printed.unit == "M" and round(params / 1e6, 2) == printed.value
    flops = amount(TABLE_2_COSTS[name].flops)  # products, in billions: 10 % off at most
    assert flops.unit == "B" and products / 1e9 == pytest.approx(flops.value, rel=0.1)


def test_eight_classes_and_not_seven() -> None:
    """Large's printed 2.69M tells the two apart, which Table 3's bytes do not."""
    assert round(costs.older(LARGE, 8).params / 1e6, 2) == 2.69
    assert round(costs.older(LARGE, 7).params / 1e6, 2) == 2.68


def test_torchvisions_model_is_not_what_table_2_counts() -> None:
    """Large's static part alone comes out as printed in units of 2^20; Small's does not."""
    large, small = costs.ours(LARGE), costs.ours(SMALL)
    assert round(large["static"] / 2**20, 2) == amount(TABLE_2_COSTS[LARGE].params).value
    for numbers in (small["static"], small["whole"]):
        for unit in (1e6, 2**20):
            assert abs(numbers / unit - amount(TABLE_2_COSTS[SMALL].params).value) > 0.3


# ---- what a module must do


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_is_kept_and_trains(method: str) -> None:
    torch.manual_seed(0)
    model, x = build(SMALL, method), videos(3, 2)
    named = dict(model.named_parameters())
    assert named.keys() <= model.state_dict().keys()
    before = {k: v.detach().clone() for k, v in named.items()}
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    F.cross_entropy(model(x).flatten(0, 1), torch.arange(6)).backward()
    optimizer.step()
    still = [k for k, v in named.items() if torch.equal(v, before[k])]
    assert not still
    again = build(SMALL, method)
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(x), model.eval()(x))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_made_on_another_device(method: str) -> None:
    """On `meta`, a tensor made on the CPU on the way would not fit the others."""
    model = build(SMALL, method, **({"n_generators": 2} if method == "duet" else {})).to("meta")
    y = model(videos(2, 3).to("meta"))
    assert y.shape == (2, 3, 8) and y.device.type == "meta"
    y.sum().backward()


@pytest.mark.parametrize("method", ["frame_difference", "first_frame_as_input"])
def test_the_controls_see_the_first_frame(method: str) -> None:
    model, x = settled(build(SMALL, method)), videos(2, 3)
    other = x.clone()
    other[:, 0] = 255 - other[:, 0]
    with torch.no_grad():
        assert (model(x) - model(other))[:, 1:].abs().max() > 1e-4
        base = settled(build(SMALL, "base"))
        torch.testing.assert_close(base(x)[:, 1:], base(other)[:, 1:])


def test_the_difference_of_a_frame_to_itself_is_nothing() -> None:
    model, x = settled(build(SMALL, "frame_difference")), videos(2, 2)
    with torch.no_grad():
        y = model(x)
        torch.testing.assert_close(y[0, 0], y[1, 0])  # whatever the first frame shows
        assert (y[0, 1] - y[1, 1]).abs().max() > 1e-4


def test_unknown_names_are_told() -> None:
    with pytest.raises(ValueError, match="method 'finetune' is not one of base, hypernetwork"):
        build(SMALL, "finetune")
    with pytest.raises(ValueError, match="model 'resnet' is not one of mobilenet_v3_small"):
        build("resnet", "base")
    with pytest.raises(ValueError, match="method 'base' has no PPG to take n_generators"):
        build(SMALL, "base", n_generators=2)
    with pytest.raises(ValueError, match="n_generators is 0"):
        build(SMALL, "duet", n_generators=0)


def test_the_head_is_as_wide_as_table_3_says() -> None:
    for name in SHAPES:
        model: Any = mobilenet_v3(name)
        assert model.classifier[0].out_features == HEAD
        assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
        assert isinstance(built([Factored(*(torch.zeros(1, 1),) * 3)])[0], Tensor)
