"""Videos of patches, small enough that a model trains on them in a second."""

from __future__ import annotations

import numpy as np

from data_prep.videos import CLASSES, Videos, frame_emotions


def videos(n_people: int = 15, each: int = 3, size: int = 32, seed: int = 0) -> Videos:
    """Every person shows some emotions: a grey face of patches, brighter where the emotion is."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(1, n_people + 1), each)
    emotion = rng.permutation(np.resize(np.arange(1, len(CLASSES)), len(person)))
    look = rng.integers(0, 120, (n_people, 4, 4))
    patches = np.repeat(look[person - 1][:, None], 6, axis=1)  # [V, 6, 4, 4]
    for v, k in enumerate(emotion):
        patches[v, 3:, k // 4, k % 4] += 130
    patches = patches + rng.integers(0, 5, patches.shape)
    return Videos(
        frames=patches.repeat(size // 4, 2).repeat(size // 4, 3).astype(np.uint8),
        emotion=frame_emotions(emotion.astype(np.int64)),
        subject=person.astype(np.int64),
        n_subjects=n_people,
        label="patches",
        sha256="0" * 64,
    )
