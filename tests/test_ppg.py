"""Eq. 5, 6 and 7 against a second, independent way to compute them: plain loops over numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from duetlib.backbones import BACKBONES, DIN, click_mask
from duetlib.dynamic import Layer
from duetlib.hypernetwork import TwoLayerGenerator
from duetlib.latency import n_generated
from duetlib.methods import build
from duetlib.metrics import count_parameters
from duetlib.ppg import FROM_DEVICE, PPG, MeanNeck, ppg_loss
from duetlib.umn import UniversalMetaNetwork

B, L, D = 3, 4, 5
SHAPES = ((4, 6), (6, 2))  # all numbers different, so that a swapped axis shows
SMALL = {"latent": 7, "rank": 3}


def small_ppg(**settings) -> PPG:
    """A small PPG in double precision, with no parameter left at zero."""
    torch.manual_seed(0)
    ppg = PPG(D, SHAPES, **{**SMALL, **settings}).double()
    with torch.no_grad():
        for parameter in ppg.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return ppg


def some_clicks() -> tuple[Tensor, Tensor]:
    """Clicks of three devices with 4, 2 and 1 clicks; zeros after them."""
    torch.manual_seed(1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    return torch.randn(B, L, D, dtype=torch.float64) * mask.unsqueeze(-1), mask


# --- the second way -------------------------------------------------------------------------------


def sigmoid(v: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-v))


def naive_gru(gru: nn.GRU, clicks: np.ndarray) -> np.ndarray:
    """The last state of a GRU over `[n, D]` clicks, gate by gate."""
    W_i, W_h, b_i, b_h = (p.detach().numpy() for p in gru.parameters())
    size = W_h.shape[1]
    h = np.zeros(size)
    for x in clicks:
        from_x = [
            W_i[g * size : (g + 1) * size] @ x + b_i[g * size : (g + 1) * size] for g in range(3)
        ]
        from_h = [
            W_h[g * size : (g + 1) * size] @ h + b_h[g * size : (g + 1) * size] for g in range(3)
        ]
        reset, update = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
        new = np.tanh(from_x[2] + reset * from_h[2])
        h = (1 - update) * new + update * h
    return h


def naive_K(generator: TwoLayerGenerator, e: np.ndarray) -> np.ndarray:
    """Eq. 6 for one device, one number at a time."""
    W_1, B_1, W_2, B_2 = (
        getattr(generator, name).detach().numpy() for name in ("W_1", "B_1", "W_2", "B_2")
    )
    rows, rank, latent = W_1.shape
    K = np.zeros((rows, W_2.shape[1]))
    for r in range(rows):
        for n in range(W_2.shape[1]):
            K[r, n] = B_2[n]
            for k in range(rank):
                A = B_1[r, k]
                for z in range(latent):
                    A += W_1[r, k, z] * e[z]
                K[r, n] += A * W_2[k, n]
    return K


def naive_layers(ppg: PPG, clicks: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Eq. 5 and 6 for one device with `[n, D]` clicks: the weight and bias of each layer."""
    shared = naive_gru(ppg.neck.gru, clicks)
    layers = []
    for adjust, generator, (n_in, n_out) in zip(
        ppg.adjust, ppg.generators, ppg.shapes, strict=True
    ):
        e = adjust.weight.detach().numpy() @ shared + adjust.bias.detach().numpy()
        numbers = naive_K(generator, e).ravel()
        weight = np.zeros((n_in, n_out))
        for i in range(n_in):
            weight[i] = numbers[i * n_out : (i + 1) * n_out]
        layers.append((weight, numbers[n_in * n_out :]))
    return layers


@pytest.mark.parametrize("form", ["two_layer", "dense"])
def test_eq_5_and_6_against_plain_loops(form):
    ppg = small_ppg(form=form)
    clicks, mask = some_clicks()
    layers = ppg(clicks, mask)
    for b in range(B):
        real = clicks[b, mask[b]].numpy()
        for layer, (weight, bias) in zip(layers, naive_layers(ppg, real), strict=True):
            np.testing.assert_allclose(layer.weight[b].detach().numpy(), weight, atol=1e-10)
            np.testing.assert_allclose(layer.bias[b].detach().numpy(), bias, atol=1e-10)


@pytest.mark.parametrize("form", ["two_layer", "dense"])
def test_shapes(form):
    layers = PPG(D, SHAPES, form=form, **SMALL)(torch.randn(B, L, D), torch.ones(B, L).bool())
    assert [tuple(layer.weight.shape) for layer in layers] == [(B, *shape) for shape in SHAPES]
    assert [tuple(layer.bias.shape) for layer in layers] == [(B, 6), (B, 2)]


def test_two_layer_form_is_of_rank_d_and_affine():
    generator = TwoLayerGenerator(33, 32, latent=16, rank=5, std=1.0, from_code=0.1).double()
    with torch.no_grad():
        generator.B_2.normal_()
    u, v = torch.randn(2, 1, 16, dtype=torch.float64)
    assert torch.linalg.matrix_rank(generator(u)[0] - generator.B_2) == 5
    zero = generator(torch.zeros_like(u))
    torch.testing.assert_close(generator(u + v) - zero, generator(u) + generator(v) - 2 * zero)


# --- Eq. 7 ----------------------------------------------------------------------------------------


def test_eq_7_by_hand():
    logits = torch.tensor([[0.0, 0.0], [2.0, -1.0], [0.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    first = math.log(2)
    second = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    third = (math.log(2) + math.log(1 + math.exp(-1))) / 2
    by_hand = (1 * first + 0.5 * second + 0.25 * third) / 1.75
    loss = ppg_loss(logits, labels, gamma=0.5, t=torch.tensor([0, 1, 2]))
    assert loss.item() == pytest.approx(by_hand, rel=1e-6)


def test_gamma_does_nothing_with_one_target_per_session():
    logits, labels = torch.randn(4, 5), torch.eye(4, 5)
    plain = nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert ppg_loss(logits, labels, gamma=0.3) == plain
    alone = ppg_loss(logits, labels, gamma=0.3, t=torch.zeros(4))
    torch.testing.assert_close(alone, plain)


# --- what trains ----------------------------------------------------------------------------------


def moved_by_one_step(method: str, **settings) -> dict[str, bool]:
    """For each parameter, whether one step of Adam on a batch moved it."""
    torch.manual_seed(0)
    model = build("sasrec", method, n_items=30, **settings)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    ids = torch.randint(1, 31, (8, 5))
    logits = model(torch.randint(1, 31, (8, 6)), ids)
    labels = torch.eye(1, 5).expand(8, -1)
    ppg_loss(logits, labels).backward()
    optimizer.step()
    return {name: not torch.equal(p, before[name]) for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    "settings",
    [{}, {"form": "dense"}, {"n_generators": 3}, {"neck": "mean"}, {"neck": "state"}],
    ids=str,
)
def test_every_generator_parameter_is_registered_and_trains(settings):
    model = build("sasrec", "duet_no_swa", n_items=30, **settings)
    generators = {
        f"source.generators.{layer}.{name}"
        for layer in (0, 1)
        for name in ("W_1", "B_1", "W_2", "B_2")
    }
    assert generators <= set(model.state_dict())
    moved = moved_by_one_step("duet_no_swa", **settings)
    of_the_ppg = {name: yes for name, yes in moved.items() if name.startswith("source.")}
    assert any(".neck." in name for name in of_the_ppg) == ("neck" not in settings)
    assert generators <= set(of_the_ppg) and all(of_the_ppg.values()), of_the_ppg


def test_frozen_generators_stay_and_the_rest_of_the_ppg_trains():
    moved = moved_by_one_step("duet_as_released")
    stay = {
        name for name, yes in moved.items() if name.startswith("source.generators.") and not yes
    }
    assert len(stay) == 8
    rest = {
        name: yes for name, yes in moved.items() if name.startswith(("source.neck", "source.adj"))
    }
    assert rest and all(rest.values())


# --- how it starts --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["two_layer", "dense"])
def test_starts_with_the_variance_of_nn_linear(form):
    torch.manual_seed(0)
    n_in, n_out = 16, 24
    codes = torch.randn(64, 32)
    # One start of the dense form hangs on the d numbers of B_1: average over many starts.
    generators = (PPG(D, [(n_in, n_out)], latent=32, form=form).generators[0] for _ in range(200))
    squares = torch.stack([g(codes).detach().square().mean() for g in generators])
    ordinary = nn.Linear(n_in, 1000).weight.detach().square().mean()
    assert squares.mean().item() == pytest.approx(ordinary.item(), rel=0.1)


def test_starts_close_to_one_ordinary_layer():
    torch.manual_seed(0)
    generator = PPG(D, [(32, 32)], latent=64).generators[0]
    K = generator(torch.randn(512, 64)).detach()
    across_devices = K.var(0).mean() / K.square().mean()
    assert across_devices.item() == pytest.approx(FROM_DEVICE, rel=0.15)


# --- who gets what --------------------------------------------------------------------------------


def rows_equal(layers: list[Layer], i: int, j: int) -> bool:
    return all(torch.allclose(part[i], part[j]) for layer in layers for part in layer)


def test_same_clicks_same_layers_and_other_clicks_other_layers():
    ppg = small_ppg()
    one, other = torch.randn(2, L, D, dtype=torch.float64)
    backwards = one.flip(0)
    clicks = torch.stack([one, one, other, backwards])
    layers = ppg(clicks, torch.ones(4, L, dtype=torch.bool))
    assert rows_equal(layers, 0, 1)
    assert not rows_equal(layers, 0, 2)
    assert not rows_equal(layers, 0, 3)  # order counts


def test_padding_and_company_do_not_matter():
    ppg = small_ppg()
    clicks, mask = some_clicks()
    together = ppg(clicks, mask)
    for b in range(B):
        real = clicks[b, mask[b]].unsqueeze(0)
        alone = ppg(real, torch.ones(real.shape[:2], dtype=torch.bool))
        for a, t in zip(alone, together, strict=True):
            torch.testing.assert_close(a.weight[0], t.weight[b])
            torch.testing.assert_close(a.bias[0], t.bias[b])


@pytest.mark.parametrize(
    ("backbone", "P"), [("sasrec", 2112), ("din", 2112), ("din_concat", 16641)]
)
def test_size_of_the_download(backbone, P):
    with torch.device("meta"):  # shapes alone: nothing is computed
        static = BACKBONES[backbone](32)
        layers = PPG(32, static.shapes)(torch.empty(512, 30, 32), torch.empty(512, 30).bool())
    assert all(part.device.type == "meta" for layer in layers for part in layer)
    assert [layer.weight.shape for layer in layers] == [(512, *shape) for shape in static.shapes]
    assert n_generated(static.shapes) == P
    assert sum(part[0].numel() for layer in layers for part in layer) == P


# --- cheaper necks --------------------------------------------------------------------------------


def test_the_mean_neck_is_a_mean_over_real_clicks():
    clicks, mask = some_clicks()
    clicks = torch.where(mask.unsqueeze(-1), clicks, 100.0)  # what stands at padding is not read
    got = MeanNeck(D)(clicks, mask)
    for b in range(B):
        real = clicks[b, mask[b]].numpy()
        np.testing.assert_allclose(got[b].numpy(), sum(real) / len(real), atol=1e-12)
    assert MeanNeck(D)(clicks, torch.zeros_like(mask)).tolist() == [[0.0] * D] * B


def test_the_mean_neck_forgets_the_order_and_has_nothing_to_train():
    ppg = small_ppg(neck="mean")
    one = torch.randn(1, L, D, dtype=torch.float64)
    clicks, mask = torch.cat([one, one.flip(1), one + 1]), torch.ones(3, L, dtype=torch.bool)
    layers = ppg(clicks, mask)
    assert rows_equal(layers, 0, 1)
    assert not rows_equal(layers, 0, 2)
    assert count_parameters(ppg.neck) == 0
    assert count_parameters(small_ppg()) - count_parameters(ppg) == 2 * 3 * D * (D + 1)  # a GRU


def test_the_state_neck_hands_on_what_it_is_given():
    ppg, state = small_ppg(neck="state"), torch.randn(B, D, dtype=torch.float64)
    codes = ppg.codes(*some_clicks(), state)
    layers = ppg(*some_clicks(), state)
    for b in range(B):
        for n, (n_in, _) in enumerate(SHAPES):
            adjust = ppg.adjust[n]
            e = (adjust.weight @ state[b] + adjust.bias).detach().numpy()
            np.testing.assert_allclose(codes[n][b].detach().numpy(), e, atol=1e-12)
            K = naive_K(ppg.generators[n], e)
            np.testing.assert_allclose(layers[n].weight[b].detach().numpy(), K[:n_in], atol=1e-10)
            np.testing.assert_allclose(layers[n].bias[b].detach().numpy(), K[n_in], atol=1e-10)
    assert count_parameters(ppg.neck) == 0


def test_the_state_neck_wants_a_state():
    ppg = small_ppg(neck="state")
    for call in (ppg, ppg.codes):
        with pytest.raises(ValueError, match="neck='state' reads the backbone's state"):
            call(*some_clicks())


def state_model(backbone: str) -> UniversalMetaNetwork:
    torch.manual_seed(0)
    model = build(backbone, "duet_no_swa", n_items=20, neck="state").double()
    with torch.no_grad():
        model.items.weight.mul_(10)
    return model


HISTORY = torch.tensor([[3, 7, 1, 0], [5, 2, 9, 4], [11, 0, 0, 0]])
CANDIDATES = torch.tensor([[2, 9, 12], [1, 3, 7], [6, 5, 14]])


@pytest.mark.parametrize("backbone", ["din", "sasrec", "gru4rec"])
def test_the_backbones_own_state_makes_the_layers(backbone):
    """Device by device, without padding; DIN's state is the interest as the last click sees it."""
    model = state_model(backbone)
    layers = model.layers(HISTORY)
    for b, length in enumerate((3, 4, 1)):
        clicks = model.items(HISTORY[b : b + 1, :length])
        last = clicks[:, -1:] if isinstance(model.backbone, DIN) else clicks[:, :0]
        state = model.backbone(clicks, click_mask(HISTORY[b : b + 1, :length]), last)[:, 0]
        for got, right in zip(layers, model.source(clicks, None, state), strict=True):
            torch.testing.assert_close(got.weight[b], right.weight[0])
            torch.testing.assert_close(got.bias[b], right.bias[0])


@pytest.mark.parametrize("neck", ["mean", "state"])
@pytest.mark.parametrize("backbone", ["din", "sasrec", "gru4rec"])
def test_cloud_and_device_together_are_the_forward_pass_with_every_neck(backbone, neck):
    torch.manual_seed(0)
    model = build(backbone, "duet", n_items=20, neck=neck).double()
    with torch.no_grad():
        model.items.weight.mul_(10)
    logits = model(HISTORY, CANDIDATES)
    torch.testing.assert_close(model.rank(HISTORY, CANDIDATES, model.layers(HISTORY)), logits)


@pytest.mark.parametrize("neck", ["mean", "state"])
def test_cheaper_necks_on_meta(neck):
    with torch.device("meta"):
        model = build("din", "duet", n_items=20, neck=neck)
        out = model(torch.ones(512, 30, dtype=torch.long), torch.ones(512, 7, dtype=torch.long))
    assert out.device.type == "meta" and out.shape == (512, 7)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="neck is 'lstm': it must be one of 'gru', 'mean'"):
        PPG(D, SHAPES, neck="lstm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="form is 'deep': it must be one of"):
        PPG(D, SHAPES, form="deep")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_generators is 0"):
        PPG(D, SHAPES, n_generators=0)


@pytest.mark.cuda
def test_same_on_cuda():
    ppg, (clicks, mask) = small_ppg(), some_clicks()
    here = ppg(clicks, mask)
    there = ppg.cuda()(clicks.cuda(), mask.cuda())
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a.weight, b.weight.cpu())
        torch.testing.assert_close(a.bias, b.bias.cpu())


@pytest.mark.parametrize("backbone", ["din", "sasrec", "gru4rec"])
def test_the_state_is_that_of_the_history_with_one_candidate_too(backbone: str) -> None:
    model = state_model(backbone)
    torch.testing.assert_close(model(HISTORY, CANDIDATES[:, :1]), model(HISTORY, CANDIDATES)[:, :1])


def test_a_state_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="neck='state' reads D numbers, but din_concat"):
        build("din_concat", "duet", n_items=20, neck="state")
