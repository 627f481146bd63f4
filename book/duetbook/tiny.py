"""One tiny user who walks through every chapter: four clicks, seven films, four numbers a film.

Small enough to check each product by hand. The four axes of the embedding can be read: how much a
film is *funny*, *tense*, *old*, *long*.
"""

from __future__ import annotations

import torch
from torch import Tensor

FILMS = ("", "Farce", "Romcom", "Thriller", "Noir", "Epic", "Silent", "Heist")
AXES = ("funny", "tense", "old", "long")

EMBEDDING = (
    (0, 0, 0, 0),  # 0: padding
    (2, 0, 0, 0),  # 1: Farce
    (1, 0, 0, 1),  # 2: Romcom
    (0, 2, 0, 0),  # 3: Thriller
    (0, 1, 2, 0),  # 4: Noir
    (0, 0, 1, 2),  # 5: Epic
    (1, 0, 2, 0),  # 6: Silent
    (1, 1, 0, 0),  # 7: Heist
)


def embedding() -> Tensor:
    """`[8, 4]` the films as numbers; row 0 is padding."""
    return torch.tensor(EMBEDDING, dtype=torch.float32)


def history() -> Tensor:
    """`[1, 4]` the tiny user's four clicks, oldest first: Romcom, Farce, Noir, Thriller."""
    return torch.tensor([[2, 1, 4, 3]])


def candidates() -> Tensor:
    """`[1, 3]` what is to be ranked: Heist (chosen next), Epic, Silent."""
    return torch.tensor([[7, 5, 6]])
