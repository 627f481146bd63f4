"""Every equation of the paper once more, in plain numpy, a user and a number at a time.

| equation | what | here |
|---|---|---|
| 1 | the cloud makes a device's numbers, the device ranks with them | `cloud`, then `device` |
| 2 | loss of the Universal Meta Network | `cross_entropy` of the method `base` |
| 3 | a generator makes a base kernel from a latent `z` | `eq_6_first_line` on `z` |
| 4 | a kernel is put together from base kernels | `eq_4` |
| 5 | a layer's code from the shared neck | `eq_5` |
| 6 | a layer from its code | `eq_6_first_line`, and `eq_6` for weight and bias |
| 7 | loss of the generator, earlier samples weighing more | `eq_7` |
| 8, 9 | the weights of M generators, and their blend | `eq_8`, `eq_9` |

Nothing is imported here from the library but the model that is tested: all numbers come from its
`state_dict`, and histories are cut to their real clicks, so that there is no padding to get wrong.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from duetlib.methods import build
from duetlib.ppg import ppg_loss
from duetlib.training import bce_loss

Array = NDArray[np.float64]
State = dict[str, Array]

HISTORIES = [[3, 1, 4, 1, 5], [9, 2], [6], [5, 3, 5, 8, 9, 7, 9]]
CANDIDATES = [[2, 7, 1], [8, 2, 8], [1, 8, 2], [4, 5, 9]]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gru(state: State, name: str, clicks: Array) -> Array:
    """The last state of a gated recurrent unit, as its formula is printed in textbooks."""
    w_i, w_h = state[f"{name}.weight_ih_l0"], state[f"{name}.weight_hh_l0"]
    b_i, b_h = state[f"{name}.bias_ih_l0"], state[f"{name}.bias_hh_l0"]
    h = np.zeros(w_h.shape[1])
    for x in clicks:
        (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(w_i @ x + b_i, 3), np.split(w_h @ h + b_h, 3)
        r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
        n = np.tanh(n_x + r * n_h)
        h = (1 - z) * n + z * h
    return h


def din(state: State, clicks: Array, item: Array) -> Array:
    """The clicks, each weighed by a small network on click, item and their product."""
    total = np.zeros_like(item)
    for click in clicks:
        hidden = (
            state["backbone.of_item.weight"] @ item
            + state["backbone.of_item.bias"]
            + state["backbone.of_click.weight"] @ click
            + (click * item) @ state["backbone.of_product"]
        )
        weight = state["backbone.out.weight"][0] @ np.maximum(hidden, 0)
        total += (weight + state["backbone.out.bias"][0]) * click
    return total / len(clicks)


def eq_5(state: State, n: int, clicks: Array) -> Array:
    shared = gru(state, "source.neck.gru", clicks)
    return state[f"source.adjust.{n}.weight"] @ shared + state[f"source.adjust.{n}.bias"]


def eq_6_first_line(e: Array, W_1: Array, B_1: Array, W_2: Array, B_2: Array) -> Array:
    return np.stack([(W_1[row] @ e + B_1[row]) @ W_2 + B_2 for row in range(len(W_1))])


def eq_6(e: Array, *generator: Array) -> tuple[Array, Array]:
    w = eq_6_first_line(e, *generator)
    return w[:-1], w[-1]  # the bias is one more row


def eq_8(W_1: Array, tau: float, printed: bool) -> Array:
    row_sums = np.array([sum((a * b).sum() for b in W_1) for a in W_1])
    if printed:
        logits = (row_sums / tau) / (row_sums / tau).sum()
    else:
        logits = row_sums / (tau * row_sums.sum())
    return np.exp(logits) / np.exp(logits).sum()


def eq_9(p: Array, W: Array) -> Array:
    total = np.zeros_like(W[0])
    for share, one in zip(p, W, strict=True):
        total += share * one
    return total


def eq_4(blocks: list[Array], across: int) -> Array:
    rows = [blocks[i : i + across] for i in range(0, len(blocks), across)]
    return np.block(rows)


def cloud(state: State, method: str, clicks: Array, tau: float, printed: bool) -> list:
    """Eq. 1, left of the arrow: the numbers that are sent to a device, layer by layer."""
    layers = []
    for n in range(2):
        if method == "base":
            layers.append((state[f"source.weight.{n}"], state[f"source.bias.{n}"]))
        elif method == "hypernetwork":
            g = [state[f"source.g.{name}"] for name in ("W_1", "B_1", "W_2", "B_2")]
            blocks = [eq_6_first_line(z, *g) / np.sqrt(32) for z in state[f"source.z.{n}"]]
            layers.append((eq_4(blocks, 32 // g[2].shape[1]), state[f"source.bias.{n}"]))
        else:
            names = [f"source.generators.{n}.{name}" for name in ("W_1", "B_1", "W_2", "B_2")]
            g = [state[name] for name in names]
            if method == "duet":
                p = eq_8(g[0], tau, printed)
                g = [eq_9(p, each) for each in g]
            layers.append(eq_6(eq_5(state, n, clicks), *g))
    return layers


def device(state: State, backbone: str, clicks: Array, item: Array, layers: list) -> float:
    """Eq. 1, right of the arrow: one candidate's logit, with the numbers that were sent."""
    x = gru(state, "backbone.gru", clicks) if backbone == "gru4rec" else din(state, clicks, item)
    (K_1, b_1), (K_2, b_2) = layers
    return float((np.tanh(x @ K_1 + b_1) @ K_2 + b_2) @ item)


def cross_entropy(logit: float, label: float) -> float:
    p = 1 / (1 + np.exp(-logit))
    return -float(label * np.log(p) + (1 - label) * np.log(1 - p))


def eq_7(logits: Array, labels: Array, gamma: float, t: list[int]) -> float:
    total, weights = 0.0, 0.0
    for row, row_labels, place in zip(logits, labels, t, strict=True):
        pairs = zip(row, row_labels, strict=True)
        total += gamma**place * float(np.mean([cross_entropy(x, y) for x, y in pairs]))
        weights += gamma**place
    return total / weights


@pytest.mark.parametrize("backbone", ["gru4rec", "din"])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("base", {}),
        ("hypernetwork", {}),
        ("duet_no_swa", {}),
        ("duet", {"tau": 0.2}),
        ("duet", {"tau": 0.2, "temperature": "as_printed", "n_generators": 3}),
    ],
)
def test_a_whole_model_equals_plain_numpy(backbone: str, method: str, settings: dict) -> None:
    torch.manual_seed(0)
    model = build(backbone, method, 9, **settings)
    with torch.no_grad():
        for parameter in model.parameters():  # nothing stays at the zeros that it starts from
            parameter += 0.05 * torch.randn_like(parameter)
        model.items.weight *= 5  # logits of the order of one
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    items = state["items.weight"]

    expected = np.zeros((4, 3))
    for user, (history, candidates) in enumerate(zip(HISTORIES, CANDIDATES, strict=True)):
        clicks = items[history]
        printed = settings.get("temperature") == "as_printed"
        layers = cloud(state, method, clicks, settings.get("tau", 1.0), printed)
        for place, item in enumerate(candidates):
            expected[user, place] = device(state, backbone, clicks, items[item], layers)

    padded = torch.tensor([history + [0] * (7 - len(history)) for history in HISTORIES])
    logits = model(padded, torch.tensor(CANDIDATES)).detach()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-5, atol=1e-5)

    labels = torch.tensor([[1.0, 0, 0]] * 4)
    pairs = zip(expected.flatten(), labels.flatten().tolist(), strict=True)
    eq_2 = np.mean([cross_entropy(x, y) for x, y in pairs])
    assert bce_loss(logits, labels).item() == pytest.approx(eq_2, abs=1e-5)
    loss = ppg_loss(logits, labels, 0.7, torch.tensor([0, 2, 1, 3])).item()
    assert loss == pytest.approx(eq_7(expected, labels.numpy(), 0.7, [0, 2, 1, 3]), abs=1e-5)
