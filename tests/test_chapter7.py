"""Chapter 7: its exercises' checks, its figures whatever is recorded, and sums behind its prose."""

from __future__ import annotations

import torch
from duetbook.style import METHOD_STYLE
from exercises import solution
from torch import nn

from duetlib.evidence.records import STARTS_FROM
from duetlib.methods import METHODS, build

CHAPTER = "07_evidence_recommendation"


def test_film_before_is_what_the_solution_says() -> None:
    W, b, gamma, beta, x = (torch.randn(s) for s in ((4, 3), (3,), (4,), (4,), (5, 4)))
    weight, bias = solution(CHAPTER, "film_before")(W, b, gamma, beta)
    assert torch.allclose((gamma * x + beta) @ W + b, x @ weight + bias, atol=1e-5)


def test_one_more_input_is_a_generated_bias() -> None:
    """`NeckAsInput` against an ordinary `nn.Linear` over features and neck, joined."""
    torch.manual_seed(0)
    source = build("sasrec", "neck_as_input", 20).source
    clicks, mask, x = torch.randn(4, 6, 32), torch.ones(4, 6, dtype=torch.bool), torch.randn(4, 32)
    first = source(clicks, mask)[0]
    joined = nn.Linear(64, first.weight.shape[1])
    with torch.no_grad():
        joined.weight[:, :32], joined.bias[:] = source.of_features.T, source.of_neck.bias
        joined.weight[:, 32:] = source.of_neck.weight
    s = source.neck(clicks, mask)
    assert torch.allclose(joined(torch.cat([x, s], 1)), x @ first.weight + first.bias, atol=1e-5)


# --- figures -----------------------------------------------------------------------------------


def test_every_method_has_a_look_of_its_own() -> None:
    assert set(METHODS) | set(STARTS_FROM) <= set(METHOD_STYLE)
    looks = [(s["color"], s["marker"]) for s in METHOD_STYLE.values()]
    assert len(set(looks)) == len(looks)
