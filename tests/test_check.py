"""How the self-checks compare answers: whatever a reader returns, they tell and never stop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from duetlib.check.verdict import judge, same

VECTOR = torch.tensor([0.5, 2.0])
MASK = torch.tensor([True, False])


@pytest.mark.parametrize(
    ("given", "right", "agree"),
    [
        (VECTOR.double(), VECTOR, True),
        (VECTOR.numpy(), VECTOR, True),
        (VECTOR.tolist(), VECTOR, True),
        (VECTOR + 2e-6, VECTOR, True),
        (VECTOR + 1e-3, VECTOR, False),
        (VECTOR.clone().requires_grad_(), VECTOR, True),
        (torch.tensor([[1, 2]]), torch.tensor([[1.0, 2.0]]), True),  # whole numbers
        (0.25, torch.tensor(0.25), True),
        (torch.tensor([0.25]), 0.25, True),
        (np.float64(0.25), 0.25, True),
        (VECTOR, 0.25, False),  # several where one is wanted
        (VECTOR.unsqueeze(0), VECTOR, False),  # another shape
        ("0.25", 0.25, False),
        (float("nan"), 0.25, False),
        (torch.tensor(float("nan")), float("nan"), True),
        (MASK, MASK, True),
        (MASK.float(), MASK, False),  # a mask is True and False
        ([1, 2.0], (1, 2.0), True),
        ([1], (1, 2), False),
        (VECTOR, [1, 2], False),
        (VECTOR, [0.5, 2], True),  # a list may come as a tensor
        (VECTOR.numpy(), [0.5, 2], True),
        (VECTOR, "nan", False),
        (2, 2, True),
        (VECTOR, 2, False),
    ],
    ids=str,
)
def test_same(given: Any, right: Any, agree: bool) -> None:
    assert same(given, right) is agree


def test_a_mask_of_numbers_is_said_so() -> None:
    found = judge(lambda: MASK.float(), MASK, {}, "right", "look again")
    assert found.name == "wrong" and "yours torch.float32" in found.message
    assert judge(lambda: MASK, MASK, {}, "right", "look again").passed
    listed = judge(lambda: [True, True], MASK, {}, "right", "look again")
    assert listed.message == "look again"  # it is boolean, and wrong
    numbers = judge(lambda: VECTOR + 1, VECTOR, {}, "right", "look again")
    assert numbers.message == "look again"
