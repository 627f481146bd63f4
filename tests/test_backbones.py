"""Backbones and the Universal Meta Network against loops written by hand (Chapter 3)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from duetlib import backbones, methods, umn
from duetlib.backbones import BACKBONES, DIN, GRU4Rec, SASRec, click_mask, last_click
from duetlib.controls import BiasOnly, NeckAsInput
from duetlib.dynamic import apply_layers
from duetlib.hypernetwork import HyperNetwork
from duetlib.ppg import PPG
from duetlib.serving.folded import encode
from duetlib.sessions import Seen, Sessions
from duetlib.training import full_ranks, score

N_ITEMS, L = 20, 6
HISTORY = torch.tensor([[3, 7, 1, 0, 0, 0], [5, 2, 9, 4, 8, 6], [11, 0, 0, 0, 0, 0]])
CANDIDATES = torch.tensor([[2, 9, 12, 4], [1, 3, 7, 13], [6, 5, 14, 2]])
EVERY = [(b, m) for b in BACKBONES for m in methods.METHODS]


def model(backbone: str, method: str = "base") -> umn.UniversalMetaNetwork:
    """A fresh model in double precision, with embeddings far from zero."""
    torch.manual_seed(0)
    built = methods.build(backbone, method, N_ITEMS).double().eval()
    with torch.no_grad():
        built.items.weight.mul_(10)  # as wide as features of a trained model: differences show
    return built


def embedded(dim: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Clicks, their mask and candidates, embedded; rows at padding are *not* zero."""
    table = torch.randn(N_ITEMS + 1, dim, generator=torch.Generator().manual_seed(1))
    return table[HISTORY], click_mask(HISTORY), table[CANDIDATES]


@pytest.mark.parametrize(("backbone", "method"), EVERY)
def test_more_padding_changes_nothing(backbone: str, method: str) -> None:
    m = model(backbone, method)
    wide = torch.cat([HISTORY, torch.zeros(3, 4, dtype=torch.long)], dim=1)
    torch.testing.assert_close(m(wide, CANDIDATES), m(HISTORY, CANDIDATES))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_stands_at_padding_is_not_read(backbone: str) -> None:
    """The embedding of padding is zero, which hides a missing mask: here it is anything else."""
    torch.manual_seed(0)
    static = BACKBONES[backbone]()
    clicks, mask, items = embedded()
    other = torch.where(mask.unsqueeze(-1), clicks, clicks + 100.0)
    torch.testing.assert_close(static(other, mask, items), static(clicks, mask, items))


@pytest.mark.parametrize(("backbone", "method"), EVERY)
def test_rows_of_a_batch_do_not_meet(backbone: str, method: str) -> None:
    m = model(backbone, method)
    alone = [m(HISTORY[i : i + 1], CANDIDATES[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(m(HISTORY, CANDIDATES), torch.cat(alone))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_once_for_all_candidates_is_as_one_by_one(backbone: str) -> None:
    m = model(backbone)
    loop = [m(HISTORY, CANDIDATES[:, c : c + 1]) for c in range(CANDIDATES.shape[1])]
    torch.testing.assert_close(m(HISTORY, CANDIDATES), torch.cat(loop, dim=1))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_each_click_counts(backbone: str) -> None:
    """Every real click of a full history has a say in the score."""
    m = model(backbone)
    clicks = m.items(HISTORY[1:2]).detach().requires_grad_()
    m.backbone(clicks, click_mask(HISTORY[1:2]), m.items(CANDIDATES[1:2])).square().sum().backward()
    assert clicks.grad is not None
    assert (clicks.grad.abs().sum(-1) > 1e-8).all()


@pytest.mark.parametrize(("backbone", "method"), EVERY)
def test_an_empty_history_gives_numbers(backbone: str, method: str) -> None:
    m = model(backbone, method)
    empty = torch.cat([torch.zeros(1, L, dtype=torch.long), HISTORY[:1]])
    scores = m(empty, CANDIDATES[:2])
    scores.sum().backward()
    assert scores.isfinite().all()
    assert all(p.grad.isfinite().all() for p in m.parameters() if p.grad is not None)


@pytest.mark.parametrize(("backbone", "method"), EVERY)
def test_no_tensor_is_made_on_another_device(backbone: str, method: str) -> None:
    """On `meta`, work on tensors of two devices fails: what would fail on a GPU fails here."""
    m = methods.build(backbone, method, N_ITEMS).to("meta")
    scores = m(HISTORY.to("meta"), CANDIDATES.to("meta"))
    assert scores.device.type == "meta" and scores.shape == CANDIDATES.shape


def test_meta_device_finds_a_stray_tensor() -> None:
    with pytest.raises(RuntimeError):
        torch.zeros(3, device="meta") + torch.zeros(3)


def test_gru4rec_is_a_cell_in_a_loop() -> None:
    torch.manual_seed(0)
    static = GRU4Rec()
    clicks, mask, items = embedded()
    cell = nn.GRUCell(32, 32)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in static.gru.state_dict().items()})
    for b in range(3):
        state = torch.zeros(32)
        for click in clicks[b, : int(mask[b].sum())]:
            state = cell(click, state)
        torch.testing.assert_close(static(clicks, mask, items)[b, 0], state)


def test_din_is_a_loop_over_pairs() -> None:
    torch.manual_seed(0)
    static = DIN()
    clicks, mask, items = embedded()
    got = static(clicks, mask, items)
    for b in range(3):
        real = clicks[b, : int(mask[b].sum())]
        for c, item in enumerate(items[b]):
            interest = torch.zeros(32)
            for click in real:
                hidden = (
                    static.of_item(item)
                    + static.of_click(click)
                    + (click * item) @ static.of_product
                )
                interest += static.out(hidden.relu()) * click
            torch.testing.assert_close(got[b, c], interest / len(real), atol=1e-4, rtol=1e-4)


def sasrec_in_full(static: SASRec, clicks: Tensor, mask: Tensor, item: int) -> Tensor:
    """All states of all clicks of one history without padding, softmax written out."""
    x = clicks[item, : int(mask[item].sum())]
    n = len(x)
    x = x + static.position[torch.arange(n - 1, -1, -1)]
    causal = torch.ones(n, n).tril().bool()
    for block in static.blocks:
        q = block.query(block.norm_1(x))
        k, v = block.key_value(block.norm_1(x)).split(32, dim=-1)
        weight = (q @ k.T / 32**0.5).masked_fill(~causal, float("-inf")).softmax(-1)
        y = x + weight @ v
        x = y + block.feed(block.norm_2(y))
    return static.norm(x)


def test_sasrec_shortcut_of_the_last_block_is_the_full_computation() -> None:
    torch.manual_seed(0)
    static = SASRec()
    clicks, mask, items = embedded()
    got = static(clicks, mask, items)
    assert got.shape == (3, 1, 32)
    for b in range(3):
        torch.testing.assert_close(got[b, 0], sasrec_in_full(static, clicks, mask, b)[-1])


def test_sasrec_does_not_look_ahead() -> None:
    """Another last click leaves the first block's states of all earlier clicks as they were."""
    torch.manual_seed(0)
    static = SASRec()
    clicks, mask, items = embedded()
    states: list[Tensor] = []
    static.blocks[0].register_forward_hook(lambda *call: states.append(call[2]))
    static(clicks, mask, items)
    other = clicks.clone()
    other[1, -1] += 5.0
    static(other, mask, items)
    torch.testing.assert_close(states[0][1, :-1], states[1][1, :-1])
    assert not torch.allclose(states[0][1, -1], states[1][1, -1])


def test_sasrec_never_looks_at_nothing() -> None:
    """A softmax over nothing is not a number: an empty history looks at its first place."""
    static = SASRec()
    clicks, mask = torch.zeros(2, L, 32), torch.zeros(2, L).bool()
    mask[1, :2] = True
    out = static(clicks, mask, torch.zeros(2, 1, 32))
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in static.parameters())


def test_sasrec_knows_the_order() -> None:
    torch.manual_seed(0)
    static = SASRec()
    clicks, mask, items = embedded()
    swapped = clicks[1:2, [1, 0, 2, 3, 4, 5]]
    assert not torch.allclose(
        static(clicks[1:2], mask[1:2], items[1:2]), static(swapped, mask[1:2], items[1:2])
    )


def test_sasrec_says_when_a_history_is_too_long() -> None:
    with pytest.raises(ValueError, match="history of 6 clicks, but SASRec has 4 positions"):
        SASRec(length=4)(*embedded())


def test_last_click_of_histories_of_all_lengths() -> None:
    states = torch.arange(12.0).view(3, 4, 1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    assert last_click(states, mask).flatten().tolist() == [3.0, 4.0, 8.0]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_ordinary_layers_are_nn_linear(backbone: str) -> None:
    """The base model's dynamic layers, once more as a classical network."""
    torch.manual_seed(0)
    static = BACKBONES[backbone]()
    source = umn.OrdinaryLayers(static.shapes)
    modules: list[nn.Module] = []
    for (n_in, n_out), w, b in zip(static.shapes, source.weight, source.bias, strict=True):
        linear = nn.Linear(n_in, n_out)
        linear.load_state_dict({"weight": w.detach().T, "bias": b.detach()})
        modules += [linear, nn.Tanh()]
    classical = nn.Sequential(*modules[:-1])
    x = torch.randn(3, 4, static.shapes[0][0])
    layers = source(x, torch.ones(3, 4).bool())
    torch.testing.assert_close(apply_layers(x, layers), classical(x))
    given = {
        f"{2 * n}.{name}": value
        for n, layer in enumerate(layers)
        for name, value in (("weight", layer.weight.T), ("bias", layer.bias))
    }
    called = torch.func.functional_call(nn.Sequential(*modules[:-1]), given, (x,))
    torch.testing.assert_close(apply_layers(x, layers), called)


def test_ordinary_layers_start_as_nn_linear_does() -> None:
    torch.manual_seed(0)
    source, linear = umn.OrdinaryLayers([(400, 300)]), nn.Linear(400, 300)
    for ours, theirs in ((source.weight[0], linear.weight), (source.bias[0], linear.bias)):
        assert ours.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.02)
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.1)


@pytest.mark.parametrize(("backbone", "method"), EVERY)
def test_device_and_cloud_together_are_the_forward_pass(backbone: str, method: str) -> None:
    m = model(backbone, method)
    sent = m.layers(HISTORY)
    torch.testing.assert_close(m.rank(HISTORY, CANDIDATES, sent), m(HISTORY, CANDIDATES))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_features_are_what_the_static_layers_alone_give(backbone: str) -> None:
    m = model(backbone)
    table = m.items.weight
    features, items = m.features(HISTORY, CANDIDATES)
    assert torch.equal(items, table[CANDIDATES])
    assert torch.equal(features, m.backbone(table[HISTORY], HISTORY != 0, table[CANDIDATES]))
    assert features.shape == (3, 4 if backbone.startswith("din") else 1, m.backbone.shapes[0][0])
    x = features
    for n, (w, b) in enumerate(zip(m.source.weight, m.source.bias, strict=True)):
        x = (x.tanh() if n else x) @ w + b
    logits = x[..., 0] if backbone == "din_concat" else (x * items).sum(-1)
    torch.testing.assert_close(m(HISTORY, CANDIDATES), logits)


SOURCES = {
    "base": umn.OrdinaryLayers,
    "hypernetwork": HyperNetwork,
    "duet_no_swa": PPG,
    "duet": PPG,
    "duet_as_released": PPG,
    "bias_only": BiasOnly,
    "neck_as_input": NeckAsInput,
    "neck_as_input_small": NeckAsInput,
    "wide_head": umn.OrdinaryLayers,
}


def test_each_method_has_its_source() -> None:
    assert set(SOURCES) == set(methods.METHODS)
    for method, kind in SOURCES.items():
        assert type(methods.build("din", method, N_ITEMS).source) is kind


@pytest.mark.parametrize("method", methods.METHODS)
def test_whose_layers_depend_on_the_clicks(method: str) -> None:
    """Weights and biases, of the two layers: those of a device's own, and those of everybody."""
    other = torch.where(HISTORY > 0, HISTORY % N_ITEMS + 1, 0)  # other clicks in every row
    before, after = (model("sasrec", method).layers(h) for h in (HISTORY, other))
    differ = [
        [not torch.equal(a, b) for a, b in zip(*x, strict=True)]
        for x in zip(before, after, strict=True)
    ]
    duet = [[True, True], [True, True]]
    expected = {"bias_only": [[False, True]] * 2, "neck_as_input": [[False, True], [False, False]]}
    expected["neck_as_input_small"] = expected["neck_as_input"]
    expected |= {m: [[False, False]] * 2 for m in ("base", "hypernetwork", "wide_head")}
    assert differ == expected.get(method, duet)


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_a_history_padded_on_the_left_is_refused_and_never_ranked(backbone: str) -> None:
    built = model(backbone, "duet")
    layers = built.layers(HISTORY)
    for wrong in (
        HISTORY.flip(1),
        HISTORY.roll(1, 1),
        HISTORY[:1].index_fill(1, torch.tensor(1), 0),
    ):
        sessions = Sessions(wrong, wrong[:, 0], wrong[:, 0])
        for ask in (
            lambda h=wrong: built(h, CANDIDATES),
            lambda h=wrong: built.layers(h),
            lambda h=wrong: encode(built, h),
            lambda h=wrong: built.features(h, CANDIDATES),
            lambda h=wrong: built.rank(h, CANDIDATES, layers),
            lambda s=sessions: score(built, s, CANDIDATES[: len(s)]),
            lambda s=sessions: full_ranks(built, s, Seen.of(s.user, s.target, 20, N_ITEMS)),
        ):
            with pytest.raises(ValueError, match="history 0 has a 0 before a click: .*the right"):
                ask()
    with pytest.raises(ValueError, match="history 1 has a 0"):
        built.layers(torch.stack([HISTORY[0], HISTORY[0].flip(0)]))
    assert built.layers(torch.zeros(1, 6, dtype=torch.long))  # no click at all: a new user


def test_a_longer_history_is_read_whole_or_refused() -> None:
    longer = torch.arange(1, 13).repeat(1, 4)  # 48 clicks
    for backbone in BACKBONES:
        built = model(backbone)
        if backbone == "sasrec":
            with pytest.raises(ValueError, match="48 clicks, but SASRec has 30.*the last 30"):
                built(longer, CANDIDATES[:1])
        else:
            assert not torch.equal(
                built(longer, CANDIDATES[:1]), built(longer[:, -30:], CANDIDATES[:1])
            )


def test_a_backbone_by_itself_says_what_it_is() -> None:
    with pytest.raises(TypeError, match="abstract"):
        backbones.Backbone()(*embedded())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("lstm", "base"), "backbone 'lstm' is not one of din, din_concat, sasrec, gru4rec"),
        (("din", "magic"), "method 'magic' is not one of base"),
    ],
)
def test_unknown_names(names: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methods.build(*names, n_items=3)


@pytest.mark.parametrize("method", [m for m in methods.METHODS if not m.startswith("duet")])
def test_a_method_without_a_ppg_takes_none_of_its_settings(method: str) -> None:
    with pytest.raises(ValueError, match=f"method '{method}' has no PPG to take rank, neck"):
        methods.build("din", method, n_items=3, rank=4, neck="mean")
