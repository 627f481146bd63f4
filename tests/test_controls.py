"""Controls against ordinary networks with the same weights, and against loops over users."""

from __future__ import annotations

from typing import Any

import pytest
import small_data
import torch
from torch import Tensor, nn

from duetlib.backbones import BACKBONES
from duetlib.controls import BiasOnly, NeckAsInput, by_user, constant, shuffled, stale
from duetlib.dynamic import Layer, apply_layers
from duetlib.methods import build
from duetlib.metrics import count_parameters
from duetlib.sessions import leave_last_out
from duetlib.training import score
from duetlib.umn import UniversalMetaNetwork

B, L, C, D = 3, 4, 2, 5
SHAPES = ((6, 7), (7, 3))  # all numbers different, so that a swapped axis shows
DATA = small_data.interactions()
SPLIT = leave_last_out(DATA, length=10)
TRAINED = ("bias_only", "neck_as_input", "neck_as_input_small")


def clicks_and_features() -> tuple[Tensor, Tensor, Tensor]:
    """Three devices with 4, 2 and 1 clicks, and features of two candidates each."""
    torch.manual_seed(1)
    mask = torch.arange(L) < torch.tensor([[4], [2], [1]])
    clicks, x = torch.randn(B, L, D).double(), torch.randn(B, C, SHAPES[0][0]).double()
    return clicks.requires_grad_(), mask, x.requires_grad_()


def source_of(kind: Any) -> Any:
    """In double precision, with no parameter left at zero."""
    torch.manual_seed(0)
    source = kind(D, SHAPES, latent=8, rank=2).double()
    for parameter in source.parameters():
        nn.init.normal_(parameter)
    return source


def last_states(gru: nn.GRU, clicks: Tensor, mask: Tensor) -> Tensor:
    """`[B, D]` PyTorch's own GRU over each device's real clicks, one device after the other."""
    return torch.stack([gru(c[m].unsqueeze(0))[1][0, 0] for c, m in zip(clicks, mask, strict=True)])


# ---- trained controls


def test_bias_only_is_an_ordinary_network_but_for_its_biases() -> None:
    source, (clicks, mask, x) = source_of(BiasOnly), clicks_and_features()
    out = apply_layers(x, source(clicks, mask))
    for b, state in enumerate(last_states(source.neck.gru, clicks, mask)):
        h = x[b]
        for n, (adjust, g) in enumerate(zip(source.adjust, source.generators, strict=True)):
            e = adjust.weight @ state + adjust.bias
            bias = (g.W_1[0] @ e + g.B_1[0]) @ g.W_2 + g.B_2
            h = nn.functional.linear(h.tanh() if n else h, source.weight[n].T, bias)
        torch.testing.assert_close(out[b], h)


def test_only_the_biases_of_bias_only_depend_on_the_clicks() -> None:
    source, (clicks, mask, _) = source_of(BiasOnly), clicks_and_features()
    here, there = source(clicks, mask), source(clicks + 1, mask)
    for n, shape in enumerate(SHAPES):
        assert here[n].weight.shape == shape and here[n].bias.shape == (B, shape[1])
        assert torch.equal(here[n].weight, there[n].weight)
        assert ((here[n].bias - there[n].bias).abs().amax(1) > 1e-3).all()
        assert torch.equal(source.state_dict()[f"weight.{n}"], here[n].weight)


def test_neck_as_input_is_an_ordinary_head_on_features_and_neck() -> None:
    source, (clicks, mask, x) = source_of(NeckAsInput), clicks_and_features()
    n_in, hidden = source.of_features.shape
    head = nn.Sequential(nn.Linear(n_in + D, hidden), nn.Tanh(), nn.Linear(hidden, SHAPES[-1][1]))
    head.double()
    with torch.no_grad():
        head[0].weight.copy_(torch.cat([source.of_features.T, source.of_neck.weight], dim=1))
        head[0].bias.copy_(source.of_neck.bias)
        head[2].weight.copy_(source.weight.T)
        head[2].bias.copy_(source.bias)
    states = last_states(source.neck.gru, clicks, mask).unsqueeze(1).expand(-1, C, -1)
    ours, theirs = apply_layers(x, source(clicks, mask)), head(torch.cat([x, states], dim=-1))
    torch.testing.assert_close(ours, theirs)

    uneven = torch.arange(ours.numel()).double().view_as(ours)
    inputs = [x, clicks, *source.neck.parameters()]
    of_ours = [source.of_features, source.of_neck.weight, source.of_neck.bias]
    got = torch.autograd.grad((uneven * ours).sum(), [*inputs, *of_ours, source.weight])
    right = torch.autograd.grad((uneven * theirs).sum(), [*inputs, *head.parameters()])
    n = len(inputs)
    torch.testing.assert_close(got[:n], right[:n])
    torch.testing.assert_close(torch.cat([got[n].T, got[n + 1]], dim=1), right[n])
    torch.testing.assert_close(got[n + 2], right[n + 1])
    torch.testing.assert_close(got[n + 3].T, right[n + 2])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_neck_as_input_is_as_large_as_duet(backbone: str) -> None:
    ours, duet = (build(backbone, m, n_items=1000) for m in ("neck_as_input", "duet_no_swa"))
    for a, b in ((ours, duet), (ours.source, duet.source)):
        assert count_parameters(a) == pytest.approx(count_parameters(b), rel=1e-3)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_small_head_is_as_wide_as_the_base_s(backbone: str) -> None:
    """By hand: the neck, and a row of weights for each number that it puts out."""
    small = build(backbone, "neck_as_input_small", n_items=1000)
    (n_in, width), (_, n_out) = small.backbone.shapes[0], small.backbone.shapes[-1]
    head = (n_in + small.backbone.dim) * width + width + width * n_out + n_out
    assert count_parameters(small.source) == count_parameters(small.source.neck) + head
    if backbone != "din_concat":  # whose base has one layer more
        base = build(backbone, "base", n_items=1000)
        more = count_parameters(small.source.neck) + small.backbone.dim * width
        assert count_parameters(small) == count_parameters(base) + more


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_wide_head_is_as_large_as_duet_and_reads_nothing(backbone: str) -> None:
    wide, duet = (build(backbone, m, n_items=1000) for m in ("wide_head", "duet_no_swa"))
    assert count_parameters(wide) == pytest.approx(count_parameters(duet), rel=1e-3)
    (n_in, width), (same, n_out) = [tuple(weight.shape) for weight in wide.source.weight]
    assert (n_in, n_out) == (wide.backbone.shapes[0][0], wide.backbone.shapes[-1][1])
    assert same == width > 1000


@pytest.mark.parametrize("method", TRAINED)
def test_every_parameter_is_registered_and_moves(method: str) -> None:
    torch.manual_seed(0)
    model = build("sasrec", method, n_items=30)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = {
        "bias_only": {
            *("source.weight.0", "source.weight.1", "source.neck.gru.weight_ih_l0"),
            *(f"source.adjust.{n}.{name}" for n in (0, 1) for name in ("weight", "bias")),
            *(f"source.generators.{n}.{w}" for n in (0, 1) for w in ("W_1", "B_1", "W_2", "B_2")),
        },
        "neck_as_input": {
            *("source.of_features", "source.weight", "source.bias", "source.of_neck.weight"),
            *("source.of_neck.bias", "source.neck.gru.weight_ih_l0"),
        },
    }
    assert wanted[method.removesuffix("_small")] <= set(before)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    logits = model(torch.randint(1, 31, (8, 6)), torch.randint(1, 31, (8, 5)))
    nn.functional.binary_cross_entropy_with_logits(logits, torch.eye(8, 5)).backward()
    optimizer.step()
    still = [name for name, value in model.state_dict().items() if torch.equal(value, before[name])]
    assert not still


@pytest.mark.parametrize("kind", [BiasOnly, NeckAsInput])
def test_on_meta(kind: Any) -> None:
    """Work on tensors of two devices fails there: what would fail on a GPU fails here."""
    with torch.device("meta"):
        source = kind(32, [(64, 128), (128, 1)])
        layers = source(torch.empty(512, 30, 32), torch.empty(512, 30).bool())
        out = apply_layers(torch.empty(512, 7, 64), layers)
    assert out.device.type == "meta" and out.shape == (512, 7, 1)


@pytest.mark.parametrize("method", TRAINED)
def test_a_control_starts_out_as_nn_linear_does(method: str) -> None:
    torch.manual_seed(0)
    source = build("sasrec", method, n_items=3).source
    mine = source.weight[0] if method == "bias_only" else source.weight
    ordinary = nn.Linear(*mine.shape).weight
    assert mine.std().item() == pytest.approx(ordinary.std().item(), rel=0.1)


# ---- controls on a trained DUET


class Echo(nn.Module):
    """Its "layers" are the history that they are made from."""

    def layers(self, history: Tensor) -> list[Layer]:
        return [Layer(history.double().unsqueeze(2), history.double())]


def model_of(method: str = "duet_no_swa") -> UniversalMetaNetwork:
    torch.manual_seed(0)
    return build("gru4rec", method, SPLIT.n_items).eval()


def clicks_of(user: int, until: int) -> list[int]:
    """A user's clicks but the last few, the latest ten of them, padded."""
    clicks = [int(i) for u, i in zip(DATA.user, DATA.item, strict=True) if u == user][:-until]
    return clicks[-10:] + [0] * (10 - len(clicks))


def test_histories_by_user_are_a_loop() -> None:
    for part, until in ((SPLIT.test, 1), (SPLIT.valid, 2)):
        mixed = part[torch.randperm(len(part), generator=torch.Generator().manual_seed(0))]
        table = by_user(SPLIT, mixed)
        assert table[0].sum() == 0
        for user in range(1, SPLIT.n_users + 1):
            assert table[user].tolist() == clicks_of(user, until)


def test_a_user_with_two_sessions_or_none_is_refused() -> None:
    for part in (SPLIT.train, SPLIT.test[1:], SPLIT.test[torch.tensor([0, *range(29)])]):
        with pytest.raises(ValueError, match="exactly one session for each user"):
            by_user(SPLIT, part)


@pytest.mark.parametrize("seed", range(10))
def test_shuffled_gives_nobody_their_own_and_everybody_somebodys(seed: int) -> None:
    owner = {tuple(h): u for h, u in zip(SPLIT.test.history.tolist(), range(1, 31), strict=True)}
    assert len(owner) == 30
    mixed = SPLIT.test[torch.randperm(30, generator=torch.Generator().manual_seed(99))]
    layers_of = shuffled(Echo(), SPLIT, seed)
    (layer,) = layers_of(mixed)
    gets = {
        user: owner[tuple(history)]
        for user, history in zip(mixed.user.tolist(), layer.bias.long().tolist(), strict=True)
    }
    assert all(user != other for user, other in gets.items())
    assert sorted(gets.values()) == list(range(1, 31))
    alone = layers_of(mixed[4:5])[0].bias[0].long().tolist()
    assert owner[tuple(alone)] == gets[int(mixed.user[4])]  # whoever else is in the batch


def test_shuffled_comes_from_its_seed_alone() -> None:
    first, other = (shuffled(Echo(), SPLIT, seed)(SPLIT.test)[0].bias for seed in (0, 1))
    torch.rand(3)
    assert torch.equal(first, shuffled(Echo(), SPLIT)(SPLIT.test)[0].bias)
    assert not torch.equal(first, other)


def test_stale_is_the_history_of_one_click_earlier() -> None:
    mixed = SPLIT.test[torch.randperm(30, generator=torch.Generator().manual_seed(0))]
    (layer,) = stale(Echo(), SPLIT)(mixed)
    for user, history in zip(mixed.user.tolist(), layer.bias.long().tolist(), strict=True):
        assert history == clicks_of(user, until=2)


def test_constant_is_the_mean_over_users() -> None:
    model = model_of()
    one_by_one = [model.layers(SPLIT.valid.history[u : u + 1]) for u in range(30)]
    for n, layer in enumerate(constant(model, SPLIT)(SPLIT.test)):
        for i, part in enumerate(layer):
            total = sum(layers[n][i][0] for layers in one_by_one)
            torch.testing.assert_close(part, total / 30)
            assert not part.requires_grad


def test_scores_with_the_layers_of_a_control() -> None:
    """Every control, batch by batch, against the layers being handed to one device at a time."""
    model, ids = model_of(), torch.randint(1, 141, (30, 8))
    histories = {"stale": by_user(SPLIT, SPLIT.valid)[1:]}
    histories["shuffled"] = shuffled(Echo(), SPLIT)(SPLIT.test)[0].bias.long()
    for name, control in (("stale", stale), ("shuffled", shuffled)):
        got = score(model, SPLIT.test, ids, control(model, SPLIT), batch=7)
        for u in range(30):
            layers = model.layers(histories[name][u : u + 1])
            one = model.rank(SPLIT.test.history[u : u + 1], ids[u : u + 1], layers)
            torch.testing.assert_close(got[u], one[0].detach(), rtol=0, atol=1e-6)
        assert not torch.allclose(got, score(model, SPLIT.test, ids), atol=1e-6)
    mean = constant(model, SPLIT)(SPLIT.test)
    each = [Layer(w.expand(30, -1, -1), b.expand(30, -1)) for w, b in mean]
    torch.testing.assert_close(
        score(model, SPLIT.test, ids, constant(model, SPLIT), batch=7),
        model.rank(SPLIT.test.history, ids, each).detach(),
        rtol=0,
        atol=1e-6,
    )
