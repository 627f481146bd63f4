"""Videos moved, turned, zoomed, lit and mirrored a little, so that 200 of them last for longer.

All frames of a video are changed alike: what is between them is what a device's layers are for.
Every method sees the same changes. Chapter 8.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# The most that is done, to either side: half sizes of a frame, radians, a factor, and of 255.
SHIFT, ROLL, ZOOM, LIGHT = 0.1, 0.1, 0.06, 0.08


def shaken(frames: Tensor) -> Tensor:
    """Another look at each video: floats from 0 to 255, of the same shape.

    Args:
        frames: `[B, T, C, S, S]` uint8.
    """
    moves = _moves(len(frames), frames.device)
    flat = frames.flatten(1, 2).float()  # [B, T·C, S, S]: the frames of a video are its channels
    where = F.affine_grid(moves, list(flat.shape), align_corners=False)
    x = F.grid_sample(flat, where, padding_mode="border", align_corners=False)
    contrast, light = (_even(len(frames), LIGHT, frames.device).view(-1, 1, 1, 1) for _ in range(2))
    x = (x - 127.5) * (1 + contrast) + 127.5 * (1 + light)
    return x.clamp(0, 255).view(frames.shape)


def _even(n: int, most: float, device: torch.device) -> Tensor:
    """`[n]` numbers drawn evenly from -most to most."""
    return most * (2 * torch.rand(n, device=device) - 1)


def _moves(n: int, device: torch.device) -> Tensor:
    """`[n, 2, 3]` an affine map for each video, half of them with a mirror."""
    roll, zoom = _even(n, ROLL, device), 1 + _even(n, ZOOM, device)
    mirror = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
    cos, sin = zoom * roll.cos(), zoom * roll.sin()
    across = torch.stack([mirror * cos, -sin, _even(n, SHIFT, device)], dim=1)
    down = torch.stack([mirror * sin, cos, _even(n, SHIFT, device)], dim=1)
    return torch.stack([across, down], dim=1)
