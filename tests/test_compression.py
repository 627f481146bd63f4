"""Smaller downloads against loops over devices and neurons, and layers rounded by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from duetlib.beyond.compression import (
    Axes,
    axes_of,
    divided,
    joined,
    neurons,
    pack_counts,
    rounded,
    rounded_bytes,
    unpack_counts,
    unrounded,
)
from duetlib.dynamic import Layer
from duetlib.methods import build
from duetlib.ppg import PPG
from duetlib.serving.folded import Generator
from duetlib.serving.payload import split_layers

SHAPES = ((5, 3), (3, 4))  # all numbers different, so that a swapped axis shows
B, P, N = 6, 34, 7  # (5 + 1) · 3 + (3 + 1) · 4 numbers, 3 + 4 neurons
BITS = range(2, 9)


def numbers(dtype: torch.dtype = torch.float32) -> Tensor:
    """Six devices; their neurons differ in size, and the third device's second one is all zero."""
    generator = torch.Generator().manual_seed(0)
    layers = [
        Layer(
            torch.randn(B, n_in, n_out, generator=generator) * 10.0 ** -torch.arange(n_out),
            torch.randn(B, n_out, generator=generator) / 3,
        )
        for n_in, n_out in SHAPES
    ]
    layers[0].weight[2, :, 1] = layers[0].bias[2, 1] = 0
    return joined(layers).to(dtype)


def columns(row: Tensor) -> list[np.ndarray]:
    """The weights and the bias of each neuron, from one device's numbers, as chapter 10 has it."""
    named = split_layers(row.numpy(), SHAPES)
    return [
        np.append(named[f"{n}.weight"][:, i], named[f"{n}.bias"][i])
        for n, (_, n_out) in enumerate(SHAPES)
        for i in range(n_out)
    ]


# ---- few bits


def test_the_tiny_layer_by_hand() -> None:
    """Steps of 3/7 and 2/7, as fp16 has them; -1 is 3.5 of the second and goes to 4."""
    tiny = [Layer(torch.tensor([[[3.0, -2], [2, -1]]]), torch.tensor([[2.0, -1]]))]
    X = joined(tiny)
    assert X.tolist() == [[3, -2, 2, -1, 2, -1]]
    message = rounded(X, [(2, 2)], bits=4)
    assert message.counts.tolist() == [[7, -7, 5, -4, 5, -4]]
    assert message.step.tolist() == [[1755 / 4096, 1170 / 4096]]
    (layer,) = divided(unrounded(message, [(2, 2)]) * 4096, [(2, 2)])
    assert layer.weight[0].tolist() == [[7 * 1755, -7 * 1170], [5 * 1755, -4 * 1170]]
    assert layer.bias[0].tolist() == [5 * 1755, -4 * 1170]
    assert rounded_bytes([(2, 2)], bits=4) == 3 + 4  # six half bytes, and two steps
    assert pack_counts(message.counts[0], 4) == bytes([14 + 0 * 16, 12 + 3 * 16, 12 + 3 * 16])


def test_the_order_is_that_of_the_wire() -> None:
    X = numbers()
    assert X.shape == (B, P)
    layers = divided(X, SHAPES)
    assert torch.equal(joined(layers), X)
    for b in range(B):
        for name, right in split_layers(X[b].numpy(), SHAPES).items():
            n, part = name.split(".")
            assert getattr(layers[int(n)], part)[b].tolist() == right.tolist()


def test_a_model_s_numbers_are_those_of_the_service() -> None:
    torch.manual_seed(0)
    model, history = build("gru4rec", "duet_no_swa", n_items=20), torch.randint(1, 21, (B, 4))
    with torch.no_grad():
        X = joined(model.layers(history))
    right = torch.from_numpy(Generator(model, length=4)(list(history)))
    torch.testing.assert_close(X, right, rtol=0, atol=1e-5)


def test_neurons_are_the_columns() -> None:
    found = columns(neurons(SHAPES))
    assert [set(column.tolist()) for column in found] == [{i} for i in range(N)]


@pytest.mark.parametrize("bits", BITS)
def test_rounding_is_a_loop_over_neurons(bits: int) -> None:
    X, top = numbers(), 2 ** (bits - 1) - 1
    message = rounded(X, SHAPES, bits)
    assert message.counts.dtype == torch.int8 and message.step.shape == (B, N)
    rebuilt = unrounded(message, SHAPES)
    for b in range(B):
        told = zip(columns(message.counts[b]), columns(rebuilt[b]), strict=True)
        for i, (column, (counts, back)) in enumerate(zip(columns(X[b]), told, strict=True)):
            if (b, i) == (2, 1):
                assert not counts.any() and not back.any()
                continue
            step = np.float32(np.float16(np.abs(column).max() / np.float32(top)))
            assert message.step[b, i] == step
            assert counts.tolist() == np.clip(np.round(column / step), -top, top).tolist()
            assert back.tolist() == (counts * step).tolist()
            assert abs(counts[np.abs(column).argmax()]) == top
            assert (np.abs(back - column) <= step * 0.5001).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_comes_back_is_of_the_same_type(dtype: torch.dtype) -> None:
    message = rounded(numbers(dtype), SHAPES, 4)
    assert message.step.dtype == unrounded(message, SHAPES).dtype == dtype
    assert torch.equal(message.step.half().to(dtype), message.step)  # which travels as fp16


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e9])
def test_a_number_that_cannot_be_told_is_seen(wrong: float) -> None:
    """It must not come out as some harmless one: the neuron is NaN, all others as they were."""
    X, broken = numbers(), numbers()
    broken[3, 0] = wrong
    here, there = (unrounded(rounded(x, SHAPES, 4), SHAPES) for x in (X, broken))
    its = torch.zeros(B, P, dtype=torch.bool)
    its[3] = neurons(SHAPES) == 0
    assert there[its].isnan().all()
    assert torch.equal(there[~its], here[~its])


@pytest.mark.parametrize("bits", BITS)
def test_a_packed_message_takes_the_bytes_that_are_said(bits: int) -> None:
    message = rounded(numbers(), SHAPES, bits)
    for counts, step in zip(*message, strict=True):
        packed = pack_counts(counts, bits)
        assert len(packed) + len(step.half().numpy().tobytes()) == rounded_bytes(SHAPES, bits)
        assert torch.equal(unpack_counts(packed, P, bits), counts)
        written = "".join(f"{byte:08b}"[::-1] for byte in packed)  # bits in order, lowest first
        places = [written[i * bits : (i + 1) * bits] for i in range(P)]
        assert [int(p[::-1], 2) - 2 ** (bits - 1) + 1 for p in places] == counts.tolist()
        assert set(written[P * bits :]) <= {"0"}


def test_what_does_not_fit_is_refused() -> None:
    for bits in (1, 9):
        with pytest.raises(ValueError, match=f"bits is {bits}: it must be .* from 2 to 8"):
            rounded(numbers(), SHAPES, bits)
    with pytest.raises(ValueError, match="33 numbers are not the 34 of"):
        rounded(numbers()[:, 1:], SHAPES, 4)
    for code in (-8, 8):
        with pytest.raises(ValueError, match="with 4 bits, counts go from -7 to 7"):
            pack_counts(torch.tensor([0, code], dtype=torch.int8), 4)
    for n_bytes in (16, 18):
        with pytest.raises(ValueError, match=f"{n_bytes} bytes are not the 17 of 34 counts"):
            unpack_counts(bytes(n_bytes), 34, 4)


# ---- few axes


def generated(rows: int, dim: int = 32, seed: int = 0) -> Tensor:
    """`[rows, 180]` from one PPG with a neck of `dim`, for other clicks with each seed."""
    torch.manual_seed(5)
    ppg = PPG(dim, ((9, 10), (7, 10)), latent=40, rank=8).double().requires_grad_(False)
    clicks = torch.randn(rows, 3, dim, generator=torch.Generator().manual_seed(seed))
    return joined(ppg(clicks.double(), torch.ones(rows, 3).bool()))


def test_points_on_a_line_by_hand() -> None:
    """Steps of 0.1, up to 127 of them; what lies beside the line is lost."""
    axes = axes_of(torch.tensor([[13.7, 2.0], [-11.7, 2], [1, 2]]), 1)
    assert axes.mean.tolist() == pytest.approx([1, 2])
    assert axes.step.tolist() == pytest.approx([0.1])
    counts = axes.coordinates(torch.tensor([[1.53, 2], [1, 9], [99, 2], [-99, 2]]))
    way = axes.axes[0, 0].sign()  # an axis may point either way
    assert (way * counts).flatten().tolist() == [5, 0, 127, -127]
    right = torch.tensor([[1.5, 2], [1, 2], [13.7, 2], [-11.7, 2]])
    torch.testing.assert_close(axes.numbers(counts), right)


def on_axes(axes: Axes, X: Tensor) -> Tensor:
    """`[B, P]` rebuilt one device and one axis at a time, without rounding."""
    rows = []
    for x in X:
        away = [float((x - axes.mean) @ axis) * axis for axis in axes.axes]
        rows.append(axes.mean + sum(away))
    return torch.stack(rows)


def test_as_many_axes_as_the_neck_is_wide_tell_all() -> None:
    """Behind the neck all is affine, so that other users' layers lie on the same 32 axes."""
    known, others = generated(200), generated(9, seed=1)
    torch.testing.assert_close(on_axes(axes_of(known, 32), others), others, rtol=0, atol=1e-9)
    assert (on_axes(axes_of(known, 31), others) - others).abs().max() > 1e-4


@pytest.mark.parametrize("k", [1, 8, 32])
def test_a_coordinate_is_off_by_half_a_step_at_most(k: int) -> None:
    known = generated(200)
    axes = axes_of(known, k)
    torch.testing.assert_close(axes.axes @ axes.axes.T, torch.eye(k).double())
    counts = axes.coordinates(known)
    assert len(counts[0].numpy().tobytes()) == k
    assert (counts.abs().amax(0) == 127).all()  # the farthest is reached, and none lies beyond
    rebuilt = axes.numbers(counts)
    assert rebuilt.dtype == known.dtype and rebuilt.shape == known.shape
    off = (rebuilt - on_axes(axes, known)) @ axes.axes.T  # [200, k]
    assert (off.abs() <= 0.5001 * axes.step).all()
    assert (off.abs() > 0.4 * axes.step).any()


def test_axes_that_cannot_be_are_refused() -> None:
    for k in (0, 21):
        with pytest.raises(ValueError, match=f"k is {k}: it must be a whole number from 1 to 20"):
            axes_of(generated(20), k)
    with pytest.raises(ValueError, match="the same"):
        axes_of(generated(1).expand(20, -1), 1)


def test_an_axis_along_which_nothing_varies_tells_nothing() -> None:
    axes = axes_of(torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 0, 0]]), 3)
    assert (axes.step > 0).all()  # 0 / 0 as an int8 is another number on each machine
    rebuilt = axes.numbers(axes.coordinates(torch.tensor([[0.5, 3, 3]])))
    torch.testing.assert_close(rebuilt, torch.tensor([[0.5, 0, 0]]), rtol=0, atol=1 / 254)


# ---- any device


def test_no_tensor_is_made_on_another_device() -> None:
    """On `meta`, work on tensors of two devices fails: what would fail on a GPU fails here."""
    layers = divided(numbers().to("meta"), SHAPES)
    back = unrounded(rounded(joined(layers), SHAPES, 4), SHAPES)
    axes = Axes(*(part.to("meta") for part in axes_of(numbers(), 3)))
    for found in (back, axes.numbers(axes.coordinates(back))):
        assert found.device.type == "meta" and found.shape == (B, P)
