"""Every public function of the library on a CUDA device, against the CPU.

`pytest -m cuda` runs this file; where there is no CUDA device its tests are skipped, but for the
one that looks whether a function has been forgotten.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_data
import torch
from duetbook import notebook, tiny
from torch import Tensor
from torch.utils import _pytree as pytree

from duetlib.backbones import click_mask, last_click, refuse_gaps
from duetlib.beyond import compression, refresh
from duetlib.cache import write_safetensors
from duetlib.controls import BiasOnly, NeckAsInput, by_user, constant, shuffled, stale
from duetlib.dynamic import (
    Layer,
    apply_layers,
    linear_batched,
    linear_grouped,
    linear_loop,
    per_device,
)
from duetlib.evidence import experiments
from duetlib.evidence.experiments import RunConfig, cut
from duetlib.evidence.records import provenance
from duetlib.finetuning import (
    Copies,
    OwnRows,
    Unrolled,
    finetune_all,
    finetune_dynamic,
    mean_over_own,
    own_layers,
    own_rows,
    own_sessions,
    rows_of,
)
from duetlib.hypernetwork import HyperNetwork, TwoLayerGenerator, assemble, generate
from duetlib.methods import METHODS, build
from duetlib.metrics import auc, auc_shares, count_flops, hit_rate, ndcg, rank_of_target, user_auc
from duetlib.ppg import PPG, MeanNeck, Neck, ppg_loss, split_bias
from duetlib.sessions import Negatives, Seen, candidates, labels_like, padded
from duetlib.swa import (
    StableWeightAdapter,
    adapter_weights,
    blend,
    fold_adapters,
    row_sums,
    self_similarity,
)
from duetlib.training import (
    TrainConfig,
    Trainer,
    bce_loss,
    evaluate,
    evaluation,
    full_ranks,
    rank_among_all,
    sampled_candidates,
    score,
    split_hash,
    train,
    trained,
)
from duetlib.umn import OrdinaryLayers

DEVICE = "cuda"
MODULES = (
    "duetlib.backbones duetlib.beyond.compression duetlib.beyond.refresh duetlib.controls "
    "duetlib.cuda_graphs duetlib.dynamic duetlib.finetuning duetlib.hypernetwork duetlib.metrics "
    "duetlib.ppg duetlib.sessions duetlib.swa duetlib.training duetlib.umn duetbook.notebook "
    "duetbook.tiny"
)
# These work on shapes, names and settings, and know no device; models are made by `build`.
NO_DEVICE = (
    "DIN DINConcat SASRec GRU4Rec AttentionBlock Backbone UniversalMetaNetwork block_grid "
    "wide_as_duet n_generated payload_bytes count_parameters leave_last_out Sessions Split Result "
    "Evaluation progress cache_dir code_hash Rounded Axes neurons rounded_bytes check_temperature "
    "Damaged read_safetensors "
    "Capture CapturedStep"  # these two have a file of their own, test_cuda_graphs.py
)
SPLIT = small_data.split()
SHORT = TrainConfig(lr=0.01, batch_size=128, max_epochs=2, patience=2)


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """cuDNN's recurrent layers round to 10 bits (TF32) unless told not to."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_no_public_function_is_forgotten() -> None:
    nodes = list(ast.walk(ast.parse(Path(__file__).read_text())))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    for name in MODULES.split():
        module = importlib.import_module(name)
        for what, thing in vars(module).items():
            if inspect.isfunction(thing) or inspect.isclass(thing):
                public = thing.__module__ == module.__name__ and not what.startswith("_")
                assert not public or what in used | set(NO_DEVICE.split()), f"{name}.{what}"


def on(device: str, tree: Any) -> Any:
    """A copy of some tensors and modules on a device; tensors there are leaves."""

    def move(leaf: Any) -> Any:
        if isinstance(leaf, torch.nn.Module):
            return copy.deepcopy(leaf).to(device)
        if isinstance(leaf, Tensor):
            moved = leaf.detach().clone().to(device)
            return moved.requires_grad_(leaf.is_floating_point())
        return leaf

    return pytree.tree_map(move, tree)


def assert_same_on_both(function: Any, *arguments: Any, atol: float = 1e-4) -> None:
    """Value and gradients on the device equal those on the CPU, and the value lives there."""
    values, gradients = [], []
    for device in ("cpu", DEVICE):
        moved = on(device, arguments)
        out = [t for t in pytree.tree_leaves(function(*moved)) if isinstance(t, Tensor)]
        assert out
        assert {t.device.type for t in out} == {device}
        through = [t for t in out if t.requires_grad]
        leaves = [t for t in pytree.tree_leaves(moved) if isinstance(t, Tensor)]
        leaves += [
            p
            for m in pytree.tree_leaves(moved)
            if isinstance(m, torch.nn.Module)
            for p in m.parameters()
        ]
        if through:
            sum(t.square().sum() for t in through).backward()  # type: ignore[union-attr]
        values.append([t.detach().cpu() for t in out])
        gradients.append([t.grad.cpu() for t in leaves if t.grad is not None])
    torch.testing.assert_close(values[1], values[0], rtol=1e-4, atol=atol)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=atol)


# ---- the pieces


@pytest.mark.cuda
@pytest.mark.parametrize("linear", [linear_loop, linear_batched, linear_grouped])
def test_dynamic_layers(linear: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3, 8)
    layers = [Layer(torch.randn(5, 8, n) / 3, torch.randn(5, n)) for n in (8, 4)]
    assert_same_on_both(linear, x, layers[0])
    for shared in (Layer(layers[0].weight[0], layers[0].bias), Layer(*(p[0] for p in layers[0]))):
        assert_same_on_both(linear, x, shared)
        assert_same_on_both(lambda layer: per_device(layer, 5), shared)
    assert_same_on_both(lambda x, layers: apply_layers(x, layers, linear), x, layers)


@pytest.mark.cuda
def test_generators() -> None:
    torch.manual_seed(0)
    e, g = torch.randn(5, 6), TwoLayerGenerator(9, 8, latent=6, rank=4, std=0.3, from_code=0.5)
    assert_same_on_both(lambda e, g: g(e), e, g)
    assert_same_on_both(generate, e, g.W_1, g.B_1, g.W_2, g.B_2)
    assert_same_on_both(lambda blocks: assemble(blocks, (2, 3)), torch.randn(6, 4, 5, 3, 3))
    hyper = HyperNetwork([(8, 4), (4, 8)], (4, 4), latent=6, rank=4)
    assert_same_on_both(lambda net: net(None, None), hyper)
    images = HyperNetwork([(4, 8, 3, 3)], (4, 4, 3, 3), latent=6, rank=4)
    assert_same_on_both(lambda net: net.kernel(0), images)


@pytest.mark.cuda
@pytest.mark.parametrize("kind", ["as_printed", "tempered"])
def test_the_adapter(kind: Any) -> None:
    torch.manual_seed(0)
    W, e = torch.randn(3, 5, 4, 6) / 5, torch.randn(7, 6)
    assert_same_on_both(self_similarity, W)
    assert_same_on_both(row_sums, self_similarity(W))
    assert_same_on_both(lambda p: adapter_weights(p, 0.5, kind), torch.tensor([0.2, -0.1, 0.7]))
    assert_same_on_both(blend, torch.tensor([0.2, 0.3, 0.5]), W)
    several = [TwoLayerGenerator(5, 4, 6, 3, std=1.0, from_code=0.5) for _ in range(3)]
    adapter = StableWeightAdapter(several, 0.5, kind)
    assert_same_on_both(lambda adapter, e: adapter(e), adapter, e)
    there = on(DEVICE, adapter)
    folded = there.fold()
    assert folded.W_1.device.type == DEVICE
    torch.testing.assert_close(folded(e.to(DEVICE)), there(e.to(DEVICE)), rtol=1e-4, atol=1e-4)


def some_clicks() -> tuple[Tensor, Tensor]:
    """Embedded histories of four devices, and their masks."""
    torch.manual_seed(0)
    return torch.randn(4, 6, 8), torch.arange(6) < torch.tensor([[6], [1], [3], [5]])


@pytest.mark.cuda
@pytest.mark.parametrize("form", ["two_layer", "dense"])
def test_the_generator_of_layers(form: Any) -> None:
    clicks, mask = some_clicks()
    assert_same_on_both(last_click, clicks, mask)
    for neck in (Neck(8), MeanNeck(8)):
        assert_same_on_both(lambda neck, *x: neck(*x), neck, clicks, mask)
    given = PPG(8, [(8, 4), (4, 1)], latent=6, rank=3, form=form, neck="state")
    assert_same_on_both(lambda ppg, *x: ppg(*x), given, clicks, mask, torch.randn(4, 8))
    ppg = PPG(8, [(8, 4), (4, 1)], latent=6, rank=3, form=form, n_generators=3)
    assert_same_on_both(lambda ppg, *x: ppg(*x), ppg, clicks, mask)
    assert_same_on_both(lambda ppg, *x: ppg.codes(*x), ppg, clicks, mask)
    assert_same_on_both(split_bias, torch.randn(4, 9, 5))
    there = on(DEVICE, ppg)
    x = clicks.to(DEVICE), mask.to(DEVICE)
    torch.testing.assert_close(fold_adapters(there)(*x), there(*x), rtol=1e-4, atol=1e-4)
    assert_same_on_both(lambda layers: layers(None, None), OrdinaryLayers([(8, 4), (4, 1)]))


@pytest.mark.cuda
@pytest.mark.parametrize("control", [BiasOnly, NeckAsInput])
def test_the_trained_controls(control: Any) -> None:
    source = control(8, [(8, 4), (4, 1)], latent=6, rank=3)
    assert_same_on_both(lambda source, *x: source(*x), source, *some_clicks())


@pytest.mark.cuda
def test_losses_and_metrics() -> None:
    torch.manual_seed(0)
    logits, ids = torch.randn(6, 20), torch.randint(1, 9, (6, 20))
    labels, t = labels_like(ids), torch.arange(6)
    assert_same_on_both(lambda ids: labels_like(ids), ids)
    assert_same_on_both(lambda x: bce_loss(x, labels.to(x.device)), logits)
    assert_same_on_both(lambda x: ppg_loss(x, labels.to(x.device)), logits)
    assert_same_on_both(lambda x, t: ppg_loss(x, labels.to(x.device), 0.9, t), logits, t)
    assert_same_on_both(user_auc, logits)
    assert_same_on_both(rank_of_target, logits)
    for metric in (hit_rate, ndcg):
        assert_same_on_both(metric, rank_of_target(logits))
    assert auc(logits.to(DEVICE)) == auc(logits)
    assert_same_on_both(lambda x: auc_shares(x.detach()), logits)
    user, full = torch.tensor([2, 1, 3, 3, 2, 1]), rank_of_target(logits)
    there = evaluation(*(x.to(DEVICE) for x in (logits, full, user)))
    assert there == evaluation(logits, full, user)
    loss, own = torch.rand(3, 2, 5), torch.tensor([[True, True], [True, False], [False, False]])
    assert_same_on_both(mean_over_own, loss, own)


@pytest.mark.cuda
def test_the_tiny_user_and_the_notebook() -> None:
    device = notebook.start(seed=0)
    assert device.type == DEVICE
    items = tiny.embedding().to(device)
    clicks = items[tiny.history().to(device)]
    scores = clicks.mean(1, keepdim=True) @ items[tiny.candidates().to(device)].transpose(1, 2)
    assert scores.shape == (1, 1, 3)
    assert notebook.median_ms(lambda: clicks @ clicks.transpose(1, 2), device, repeat=3) > 0


# ---- sessions


@pytest.mark.cuda
def test_negatives_are_drawn_on_the_device() -> None:
    split = SPLIT.to(DEVICE)
    negatives, user = Negatives(split.seen), split.train.user
    generator = torch.Generator(DEVICE).manual_seed(0)
    drawn = negatives.draw(user, 4, generator)
    assert drawn.device.type == DEVICE
    assert not split.seen[user].gather(1, drawn).any()
    assert not torch.equal(drawn, negatives.draw(user, 4, generator))
    fixed = negatives.fixed(split.test.user, 100, seed=5)
    assert fixed.device.type == DEVICE
    assert torch.equal(fixed.cpu(), Negatives(SPLIT.seen).fixed(SPLIT.test.user, 100, seed=5))
    assert split_hash(split) == split_hash(SPLIT)
    ids = candidates(split.test, fixed)
    assert torch.equal(ids[:, 0].cpu(), SPLIT.test.target)
    assert torch.equal(sampled_candidates(split, "test").cpu(), sampled_candidates(SPLIT, "test"))
    assert torch.equal(click_mask(split.test.history).cpu(), click_mask(SPLIT.test.history))


@pytest.mark.cuda
def test_what_a_user_has_and_histories_with_gaps() -> None:
    train = SPLIT.train.to(DEVICE)
    seen = Seen.of(train.user, train.target, SPLIT.n_users, SPLIT.n_items)
    same = Seen.of(SPLIT.train.user, SPLIT.train.target, SPLIT.n_users, SPLIT.n_items)
    assert torch.equal(seen[train.user[:9]].cpu(), same[SPLIT.train.user[:9]])
    history = padded([[3, 5], [7]], length=4).to(DEVICE)
    refuse_gaps(history)
    with pytest.raises(ValueError, match="history 0 has a 0 before a click"):
        refuse_gaps(history.flip(1))


# ---- whole models


@pytest.mark.cuda
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backbone", ["din", "din_concat", "sasrec", "gru4rec"])
def test_a_model_forward_and_backward(backbone: str, method: str) -> None:
    torch.manual_seed(0)
    model = build(backbone, method, SPLIT.n_items)
    history, ids = SPLIT.test.history, sampled_candidates(SPLIT, "test")[:, :7]
    assert_same_on_both(lambda model, *x: model(*x), model, history, ids)
    assert_same_on_both(lambda model, *x: model.layers(*x), model, history)
    there = on(DEVICE, model)
    assert count_flops(there, history[:1].to(DEVICE), ids[:1].to(DEVICE)) > 0


@pytest.mark.cuda
@pytest.mark.parametrize("scheme", ["joint", "alternating"])
@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_of_training(method: str, scheme: Any, tmp_path: Path) -> None:
    split, config = SPLIT.to(DEVICE), replace(SHORT, scheme=scheme)
    torch.manual_seed(0)
    model = build("sasrec", method, split.n_items).to(DEVICE)
    before = copy.deepcopy(model.state_dict())
    trainer = Trainer(model, split, config, seed=0)
    trainer.run_epoch()
    loss = trainer.result.history[0]["loss"]
    assert 0 < loss < 2
    moved = [name for name, value in model.state_dict().items() if not value.equal(before[name])]
    assert "items.weight" in moved
    assert {value.device.type for value in model.state_dict().values()} == {DEVICE}
    trainer.save(tmp_path / "run.safetensors")
    again = Trainer(build("sasrec", method, split.n_items).to(DEVICE), split, config, seed=0)
    again.load(tmp_path / "run.safetensors")
    assert again.epoch == 1
    again.run_epoch()
    trainer.run_epoch()
    here, there = again.result.history[1]["loss"], trainer.result.history[1]["loss"]
    assert here == pytest.approx(there, abs=1e-4)  # sums on a GPU come in no fixed order


@pytest.mark.cuda
def test_a_run_from_start_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))
    split = SPLIT.to(DEVICE)
    torch.manual_seed(0)
    model = build("din", "duet", split.n_items).to(DEVICE)
    result = train(model, split, SHORT, checkpoint=tmp_path / "run.safetensors")
    assert evaluate(model, split).metrics == pytest.approx(result.metrics, abs=1e-4)
    kept, first = trained("din", "duet", split, SHORT)
    again, second = trained("din", "duet", split, SHORT)
    assert first == second
    assert kept.items.weight.equal(again.items.weight)
    write_safetensors(tmp_path / "x.safetensors", dict(kept.state_dict()), {})

    here, ids = copy.deepcopy(kept).to("cpu"), sampled_candidates(SPLIT, "test")
    there = score(kept, split.test, ids.to(DEVICE)).cpu()
    torch.testing.assert_close(there, score(here, SPLIT.test, ids), rtol=1e-4, atol=1e-4)
    ranks = full_ranks(kept, split.test, split.seen).cpu()
    on_cpu = full_ranks(here, SPLIT.test, SPLIT.seen)
    every = torch.randn(30, SPLIT.n_items + 1)
    given = [every.to(DEVICE), split.test, split.seen]
    assert torch.equal(rank_among_all(*given).cpu(), rank_among_all(every, SPLIT.test, SPLIT.seen))
    assert (ranks - on_cpu).abs().max() <= 1  # two logits closer than rounding may change places


# ---- beyond the paper


@pytest.mark.cuda
def test_smaller_downloads() -> None:
    torch.manual_seed(0)
    shapes = [(8, 4), (4, 1)]
    X = torch.randn(9, 41)
    assert_same_on_both(lambda X: compression.divided(X, shapes), X)
    assert_same_on_both(compression.joined, compression.divided(X, shapes))
    message = compression.rounded(X, shapes, 4)
    assert_same_on_both(lambda X: compression.rounded(X.detach(), shapes, 4), X)
    assert_same_on_both(lambda message: compression.unrounded(message, shapes), message)
    there = on(DEVICE, message).counts[0]
    assert torch.equal(
        compression.unpack_counts(compression.pack_counts(there, 4), 41, 4), message.counts[0]
    )
    # An axis may point either way, and a number in the middle of two steps go to either.
    axes, found = compression.axes_of(X, 3), compression.axes_of(X.to(DEVICE), 3)
    assert {part.device.type for part in found} == {DEVICE}
    torch.testing.assert_close(found.step.cpu(), axes.step, rtol=1e-4, atol=0)
    here, there = axes.coordinates(X), on(DEVICE, axes).coordinates(X.to(DEVICE))
    assert (here.int() - there.cpu().int()).abs().max() <= 1
    assert_same_on_both(lambda axes, codes: axes.numbers(codes), axes, here)


@pytest.mark.cuda
def test_training_with_late_layers() -> None:
    ppg = PPG(8, [(8, 4), (4, 1)], latent=6, rank=3)
    assert_same_on_both(lambda late, *x: late(*x), refresh.Late(ppg, oldest=0), *some_clicks())
    clicks, mask = (x.to(DEVICE) for x in some_clicks())
    late = on(DEVICE, refresh.Late(ppg, oldest=4))
    assert {part.device.type for layer in late(clicks, mask) for part in layer} == {DEVICE}
    assert_same_on_both(refresh.without_last, mask, torch.arange(len(mask)))


@pytest.mark.cuda
def test_asking_seldom() -> None:
    test = cut(small_data.interactions(6, clicks=(13, 20)), "last-10").test
    there = test.to(DEVICE)
    history, ids = refresh.by_click(test, test.history), torch.randint(1, 141, (10, 6, 5))
    assert torch.equal(refresh.by_click(there, there.history).cpu(), history)
    torch.manual_seed(0)
    model = build("sasrec", "duet_no_swa", SPLIT.n_items)
    assert_same_on_both(refresh.embeddings, model, history)
    scores, embedding = refresh.scores_of_ages(model, history, ids), torch.randn(10, 6, 4)
    found = refresh.scores_of_ages(on(DEVICE, model), history.to(DEVICE), ids.to(DEVICE))
    torch.testing.assert_close(found.cpu(), scores, rtol=1e-4, atol=1e-4, equal_nan=True)
    assert_same_on_both(lambda e: refresh.when_moved(e.detach(), 2.0), embedding)
    asks = refresh.when_moved(embedding, 2.0)
    assert_same_on_both(refresh.asked_at, asks)
    for rule in (asks, refresh.every(3, 10, 6), refresh.at_random(0.3, 10, 6)):
        right = refresh.held(scores, rule)
        for anywhere in (rule, rule.to(DEVICE)):  # a rule that reads nothing is made on the CPU
            assert torch.equal(refresh.held(scores.to(DEVICE), anywhere).cpu(), right)
    path, user = embedding[0], torch.tensor([1, 1, 1, 2, 2, 2])
    move = refresh.usual_move(path.to(DEVICE), user.to(DEVICE))
    assert move == pytest.approx(refresh.usual_move(path, user), rel=1e-5)


# ---- what DUET is held against


@pytest.mark.cuda
def test_layers_that_are_not_a_devices_own() -> None:
    split = SPLIT.to(DEVICE)
    torch.manual_seed(0)
    here = build("gru4rec", "duet_no_swa", SPLIT.n_items)
    there = on(DEVICE, here)
    assert torch.equal(by_user(split, split.test).cpu(), by_user(SPLIT, SPLIT.test))
    for control in (shuffled, stale, constant):
        got, right = control(there, split)(split.test), control(here, SPLIT)(SPLIT.test)
        for a, b in zip(pytree.tree_leaves(got), pytree.tree_leaves(right), strict=True):
            assert a.device.type == DEVICE
            torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-4)
        assert 0 < evaluate(there, split, control(there, split)).metrics["auc"] < 1


def own_rows_on_both() -> tuple[OwnRows, OwnRows]:
    """The same rows on the CPU and on the device; a GPU draws other negatives from the seed."""
    rows = own_rows(SPLIT, 4, 4, seed=0, until="test")
    return rows, OwnRows(*(part.to(DEVICE) for part in rows))


@pytest.mark.cuda
def test_the_rows_of_users_on_the_device() -> None:
    split = SPLIT.to(DEVICE)
    rows, right = own_rows(split, 4, 4, seed=0, until="test"), own_rows_on_both()[0]
    assert torch.equal(rows.history.cpu()[right.there], right.history[right.there])
    assert torch.equal(rows.ids[..., 0].cpu()[right.there], right.ids[..., 0][right.there])
    assert torch.equal(rows.there.cpu(), right.there)
    few = rows_of(*own_sessions(split, 4, 0, until="test"), torch.tensor([3, 1], device=DEVICE), 4)
    for got, every in zip(few, rows.of(torch.tensor([3, 1], device=DEVICE)), strict=True):
        assert torch.equal(got, every)
    user = torch.arange(1, 31, device=DEVICE).view(-1, 1, 1).expand_as(rows.ids[..., 1:])
    known = split.seen[torch.arange(31)]
    known[split.test.user, split.test.target] = False  # what comes later may be drawn
    assert not known[user, rows.ids[..., 1:]][rows.there].any()


@pytest.mark.cuda
def test_a_gru_written_out() -> None:
    torch.manual_seed(0)
    assert_same_on_both(
        lambda gru, x: gru(x), Unrolled(3, 4, batch_first=True), torch.randn(2, 5, 3)
    )


@pytest.mark.cuda
@pytest.mark.parametrize("backbone", ["din", "sasrec", "gru4rec"])
def test_fine_tuning(backbone: str) -> None:
    torch.manual_seed(0)
    here = build(backbone, "base", SPLIT.n_items).eval()
    with torch.no_grad():
        here.items.weight.mul_(5)
    there, (rows, moved) = on(DEVICE, here), own_rows_on_both()
    layers = [*finetune_dynamic(here, rows, 0.01, [2]), *finetune_dynamic(there, moved, 0.01, [2])]
    right, got = (pytree.tree_leaves(each) for each in layers)
    for a, b in zip(got, right, strict=True):
        assert a.device.type == DEVICE
        torch.testing.assert_close(a.cpu(), b, rtol=0, atol=2e-3)  # Adam divides small by small
    split, ids = SPLIT.to(DEVICE), sampled_candidates(SPLIT, "test")
    scores = score(there, split.test, ids.to(DEVICE), own_layers(layers[1]))
    torch.testing.assert_close(
        scores.cpu(), score(here, SPLIT.test, ids, own_layers(layers[0])), rtol=0, atol=0.05
    )

    both = [Copies(here, 30, 0.01), Copies(there, 30, 0.01)]
    for copies, own in zip(both, (rows, moved), strict=True):
        copies.step(own)
    asked = SPLIT.test.history.unsqueeze(1), ids.unsqueeze(1)
    right, got = both[0].score(*asked), both[1].score(*(x.to(DEVICE) for x in asked))
    assert got.device.type == DEVICE
    torch.testing.assert_close(got.cpu(), right, rtol=0, atol=0.05)
    found = finetune_all(there, split, SHORT, seed=0)
    assert set(found.metrics) == set(evaluate(there, split).metrics)
    assert 0 < found.metrics["auc"] < 1


@pytest.mark.cuda
def test_with_the_last_ten_the_test_is_the_validation() -> None:
    split = cut(small_data.interactions(6, clicks=(13, 20)), "last-10").to(DEVICE)
    assert split.valid is split.test
    assert split.test.target.device.type == DEVICE


@pytest.mark.cuda
def test_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))
    monkeypatch.setattr(
        experiments, "load_movielens", lambda *args, **kwargs: small_data.interactions()
    )
    config = RunConfig("ml-100k", "gru4rec", "duet", 0, train=SHORT)
    record = json.loads(json.dumps(experiments.run(config, DEVICE)))
    assert record["device"] == provenance(DEVICE)["device"] == torch.cuda.get_device_name()
    assert 0 < record["metrics"]["auc"] < 1
