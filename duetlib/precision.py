"""Which numbers a model works in: those of 32 or 64 bits. Half precision is refused by name.

With eight or eleven bits, training's small steps are lost, the row sums of Eq. 8 agree where they
should not, and scores tie; some operations are not there at all. Fewer bits make sense for what is
sent to a device (Chapter 11).
"""

from __future__ import annotations

import torch
from torch import Tensor

WHOLE = (torch.float32, torch.float64)


def full_precision(weight: Tensor) -> None:
    """Refuse a model in half precision, and autocast around it.

    Args:
        weight: one of the model's parameters. Nothing is read from the device.

    Raises:
        ValueError: if its numbers have fewer than 32 bits, or autocast is on for its device.
    """
    if weight.dtype not in WHOLE:
        raise ValueError(
            f"the model is in {weight.dtype}: it must be in torch.float32 or torch.float64, "
            "so call model.float()"
        )
    device = weight.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        raise ValueError(
            f"autocast is on for {device}: it must be off where this model is called, "
            f"so leave it, or write `with torch.autocast({device!r}, enabled=False)`"
        )
