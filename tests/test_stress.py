"""Long tests, run by `make stress` alone: killed again and again, and negatives of any shape."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest
import small_data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duetlib.methods import build
from duetlib.sessions import Negatives
from duetlib.training import Result, TrainConfig, train

pytestmark = pytest.mark.stress
LONG = TrainConfig(lr=0.01, batch_size=256, max_epochs=60, patience=60)


def run(file: Path) -> Result:
    """A run of some seconds, the same in every process."""
    torch.set_num_threads(1)
    split = small_data.split(n_users=120)
    torch.manual_seed(0)
    model = build("sasrec", "duet", split.n_items)
    return train(model, split, LONG, seed=1, checkpoint=file)


def test_ten_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    """Each attempt lives long enough for an epoch, and dies at any moment of the next two."""
    processes = multiprocessing.get_context("forkserver")  # PyTorch is imported once for them all
    processes.set_forkserver_preload(["duetlib.training"])
    whole = run(tmp_path / "whole.safetensors")
    epoch, file = whole.seconds / len(whole.history), tmp_path / "killed.safetensors"
    dice = random.Random(0)
    kills = 0
    while kills < 10:
        process = processes.Process(target=run, args=(file,))
        process.start()
        seen, started = stamp(file), time.monotonic()
        while process.is_alive() and stamp(file) == seen and time.monotonic() - started < 60:
            time.sleep(0.001)  # until one epoch is done
        time.sleep(dice.uniform(0, 2 * epoch))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    resumed = run(file)
    assert (resumed.history, resumed.metrics) == (whole.history, whole.metrics)
    assert resumed.best_epoch == whole.best_epoch


def stamp(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


@settings(max_examples=2_000, deadline=None)
@given(
    n_users=st.integers(1, 40),
    n_items=st.integers(1, 300),
    share=st.floats(0, 0.99),
    rows=st.integers(0, 200),
    n=st.integers(0, 60),
    seed=st.integers(0, 2**31),
)
def test_no_negative_is_ever_seen(
    n_users: int, n_items: int, share: float, rows: int, n: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shares = share * torch.rand(n_users + 1, 1, generator=generator) ** 0.2
    seen = torch.rand(n_users + 1, n_items + 1, generator=generator) < shares
    seen[:, 0] = True
    seen[
        torch.arange(n_users + 1),
        torch.randint(1, n_items + 1, (n_users + 1,), generator=generator),
    ] = False
    user = torch.randint(1, n_users + 1, (rows,), generator=generator)
    negatives = Negatives(small_data.seen_of(seen))
    drawn = negatives.draw(user, n, generator)
    assert drawn.shape == (rows, n)
    assert not seen[user.unsqueeze(1), drawn].any()
    unseen = (~seen).sum(1)[user]
    if rows and int(unseen.min()) < n:
        with pytest.raises(ValueError, match=f"unseen items, {n} negatives are needed"):
            negatives.fixed(user, n, seed)
    elif n <= int((~seen).sum(1).max()):
        fixed = negatives.fixed(user, n, seed)
        assert fixed.shape == (rows, n)
        assert not seen[user.unsqueeze(1), fixed].any()
        assert all(len(set(row)) == n for row in fixed.tolist())
