"""Chapter 2: the checks of its exercises, and the sums behind its figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch
from duetbook.checks import chapter2 as check
from duetbook.plots import chapter2 as figures
from exercises import checks

CHAPTER = "02_hypernetworks"
CHECKS = checks(CHAPTER)


def layer_of(
    W_1: torch.Tensor, B_1: torch.Tensor, W_2: torch.Tensor, B_2: torch.Tensor, by_row: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bias and weight, output by output, as Eq. 3 reads."""
    R, d, N = len(W_1), len(W_2), len(B_2)
    places = [(r, n) for r in range(R) for n in range(N)]
    places = places if by_row else sorted(places, key=lambda place: place[1])
    bias = [sum(B_1[r, k] * W_2[k, n] for k in range(d)) + B_2[n] for r, n in places]
    weight = [sum(W_1[r, k] * W_2[k, n] for k in range(d)) for r, n in places]
    return torch.stack(bias), torch.stack(weight)


def columns_first(blocks: torch.Tensor, i: int, j: int) -> torch.Tensor:
    return torch.cat([torch.cat([blocks[v * i + u] for v in range(j)], 1) for u in range(i)])


def swapped(blocks: torch.Tensor, i: int, j: int) -> torch.Tensor:
    return torch.cat([torch.cat([blocks[u * i + v] for v in range(i)], 1) for u in range(j)])


def pays(cost: Callable[[int, int, int, int], int], latents: bool) -> Callable[..., int]:
    def answer(R: int, N: int, Z: int, d: int) -> int:
        each = Z if latents else 0
        enough = (n for n in range(1, 10_000) if n * each + cost(R, N, Z, d) < n * R * N)
        return next(enough, 0)

    return answer


WRONG: list[tuple[str, str, Callable[..., Any]]] = [
    ("ordinary_layer", "weight first", lambda *given: layer_of(*given)[::-1]),
    (
        "ordinary_layer",
        "no B_1",
        lambda W_1, B_1, W_2, B_2: layer_of(W_1, torch.zeros_like(B_1), W_2, B_2),
    ),
    (
        "ordinary_layer",
        "no B_2",
        lambda W_1, B_1, W_2, B_2: layer_of(W_1, B_1, W_2, torch.zeros_like(B_2)),
    ),
    ("ordinary_layer", "by column", lambda *given: layer_of(*given, by_row=False)),
    (
        "ordinary_layer",
        "transposed",
        lambda *given: (layer_of(*given)[0], layer_of(*given)[1].T),
    ),
    ("lay", "reshape", lambda blocks, i, j: blocks.reshape(i * blocks.shape[1], -1)),
    ("lay", "by column", columns_first),
    ("lay", "other way up", swapped),
    ("pays_from", "no biases", pays(lambda R, N, Z, d: R * d * Z + N * d, latents=True)),
    (
        "pays_from",
        "no latents",
        pays(lambda R, N, Z, d: R * d * (Z + 1) + N * (d + 1), latents=False),
    ),
    ("std_of_W_1", "variance", lambda Z, d, fan_in, v: 1 / (d * Z * fan_in * v)),
    ("std_of_W_1", "no d", lambda Z, d, fan_in, v: math.sqrt(1 / (Z * fan_in * v))),
    ("std_of_W_1", "no Z", lambda Z, d, fan_in, v: math.sqrt(1 / (d * fan_in * v))),
]


@pytest.mark.parametrize(("name", "mistake", "answer"), WRONG)
def test_usual_mistakes_are_named(name: str, mistake: str, answer: Callable[..., Any]) -> None:
    assert CHECKS[name](answer).name == mistake


def test_counting_up_finds_the_same_number_of_blocks() -> None:
    counted = pays(lambda R, N, Z, d: R * d * (Z + 1) + N * (d + 1), latents=True)
    assert check.pays_from(counted).passed


def test_pays_from_is_the_first_cheaper_count() -> None:
    assert figures.pays_from(lambda n: 10 * n, lambda n: 20 + n, most=100) == 3
    assert figures.pays_from(lambda n: 10 * n, lambda n: 18 + n, most=100) == 3  # 20 = 20 at 2
    assert figures.pays_from(lambda n: n, lambda n: n + 1, most=100) is None


def test_figures_show_what_they_are_given() -> None:
    kernel = torch.arange(16.0).view(4, 4)
    figures.blocks(torch.zeros(2, 2, 2), kernel)
    shown = [text.get_text() for text in plt.gcf().axes[1].texts]
    assert shown == [str(n) for n in range(16)]

    figures.singular_values({"diagonal": torch.diag(torch.tensor([1.0, 4.0, 2.0]))})
    assert plt.gca().lines[0].get_ydata().tolist() == pytest.approx([4, 2, 1])

    figures.activations({"start": [2.0, 4.0]}, {"start": 2.0})
    line, marks, _ = plt.gca().lines
    assert line.get_ydata().tolist() == [1, 2, 4] and list(marks.get_ydata()) == [2, 4]
    plt.close("all")
