"""Faults that the tests must catch: each is put in by itself, and the tests named must then fail.

python tests/seeded.py            put each in, in a copy of the tree, and say which are caught
python tests/seeded.py "Eq. 3"    those with these words alone

Run it before and after tests are dropped or merged. It takes about a quarter of an hour. What needs
the built site is caught by `make test` and is not here: a link to a page that is gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Fault(NamedTuple):
    """A change that is wrong.

    Attributes:
        what: in words. file, right, wrong: where, and what it turns into what.
        tests: those that have to see it, as pytest takes them.
    """

    what: str
    file: str
    right: str
    wrong: str
    tests: str


FAULTS = (
    Fault(
        "a sign in Eq. 3",
        "duetlib/hypernetwork.py",
        "@ W_2 + B_2  #",
        "@ W_2 - B_2  #",
        "tests/test_equations.py tests/test_hypernetwork.py",
    ),
    Fault(
        "the axis of a softmax",
        "duetlib/backbones.py",
        "seen.transpose(1, 2)), dim=-1)",
        "seen.transpose(1, 2)), dim=-2)",
        "tests/test_backbones.py",
    ),
    Fault(
        "a mask that lets padding be seen",
        "duetlib/backbones.py",
        "return history != PAD",
        "return history >= PAD",
        "tests/test_backbones.py",
    ),
    Fault(
        "a look one click ahead",
        "duetlib/sessions.py",
        "rows = (r[:, None] - n) + offset",
        "rows = (r[:, None] - n) + offset + 1",
        "tests/test_sessions.py",
    ),
    Fault(
        "a parameter left out of parameters()",
        "duetlib/ppg.py",
        "self.adjust = nn.ModuleList(nn.Linear(dim, latent) for _ in shapes)",
        "self.adjust = [nn.Linear(dim, latent) for _ in shapes]",
        "tests/test_ppg.py tests/test_backbones.py",
    ),
    Fault(
        "MB for MiB in Table 3",
        "duetlib/latency.py",
        'in ("KB", "ms") else 1024**2)',
        'in ("KB", "ms") else 1000**2)',
        "tests/test_latency.py",
    ),
    Fault(
        "the second-last click taken for the last",
        "duetlib/backbones.py",
        "last = (mask.sum(1) - 1).clamp(min=0)",
        "last = (mask.sum(1) - 2).clamp(min=0)",
        "tests/test_backbones.py",
    ),
    Fault(
        "a stale cache entry read",
        "duetlib/training.py",
        "settings += [split.seen.device.type, code_hash(), torch.__version__]",
        "settings += [split.seen.device.type, torch.__version__]",
        "tests/test_training.py",
    ),
    Fault(
        "an unsigned download applied",
        "duetlib/serving/payload.py",
        "key.verify(rest[:SIGNATURE], prefix + rest[SIGNATURE:])",
        "_ = key",
        "tests/test_payload.py",
    ),
    Fault(
        "a figure without alternative text",
        "book/04_personalized_parameters_generator.ipynb",
        '"alt": "',
        '"title": "',
        "tests/test_notebooks.py",
    ),
    Fault(
        "a verdict turned round",
        "book/duetbook/verdicts.py",
        '"Does not hold": (1,),',
        '"Holds": (1,),',
        "tests/test_paper_map.py",
    ),
    Fault(
        "a bootstrap over rows instead of users",
        "duetlib/evidence/statistics.py",
        "means = user_draws(n_users, draws, seed) @ values.mean(0)",
        "means = user_draws(n_seeds, draws, seed) @ values.mean(1)",
        "tests/test_tables.py",
    ),
    Fault(
        "a checkpoint that forgets how far its generator was",
        "duetlib/training.py",
        'self.result = Result(**json.loads(metadata["result"]))',
        "self.result = Result()",
        "tests/test_training.py",
    ),
    Fault(
        "a negative that the user has clicked",
        "duetlib/sessions.py",
        "seen.item - 1 - i",
        "seen.item - i",
        "tests/test_sessions.py",
    ),
    Fault(
        "a check that accepts its first wrong answer",
        "book/duetbook/checks/verdict.py",
        "for more in (cases, edges):",
        "for more in (cases,):",
        "tests/test_exercises.py",
    ),
    Fault(
        "a kept file with a wrong hash",
        "duetlib/cache.py",
        'metadata.pop("sha256", None) != _digest(tensors, metadata)',
        'metadata.pop("sha256", None) is None',
        "tests/test_training.py",
    ),
    Fault(
        "a Colab link to another chapter",
        "tools/enrich.py",
        '/{name}.ipynb"',
        '/01_one_model_many_devices.ipynb"',
        "tests/test_build_book.py",
    ),
    Fault(
        "an import against the arrows",
        "duetlib/ppg.py",
        "from duetlib.swa import",
        "from duetlib.training import Trainer as _\nfrom duetlib.swa import",
        "tests/test_rooms.py",
    ),
    Fault(
        "a missing id taken for a user",
        "data_prep/clicks.py",
        'marks = _NO_DATE if name == "time" else (*_NO_DATE, _NO_ID)',
        "marks = _NO_DATE",
        "tests/test_data_prep_clicks.py",
    ),
    Fault(
        "a limit that a chunked answer gets past",
        "duetlib/serving/transport.py",
        "_Received(connection.sock, limit + HEAD)",
        "_Received(connection.sock, 2**40)",
        "tests/test_device.py",
    ),
)


def green(tests: list[str], tree: Path) -> bool:
    """Whether these tests pass in a copy of the tree."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'book'}",
        "DUET_PROGRESS": "0",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["-m", "not stress and not browser", *tests]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode == 0


def caught(fault: Fault, tree: Path) -> bool:
    """Whether a test fails with the fault in a copy of the tree."""
    path = tree / fault.file
    text = path.read_text()
    if fault.right not in text:
        sys.exit(f"{fault.file} has no {fault.right!r}: bring `{fault.what}` up to date")
    path.write_text(text.replace(fault.right, fault.wrong, 1))
    seen = not green(fault.tests.split(), tree)
    path.write_text(text)
    return seen


def main(words: list[str]) -> int:
    """Put every fault in that has one of the words, or all; return how many went unseen."""
    chosen = [fault for fault in FAULTS if not words or any(word in fault.what for word in words)]
    if not chosen:
        sys.exit(f"no fault has any of these words: {' '.join(words)}")
    unseen = 0
    with tempfile.TemporaryDirectory() as made:
        tree = Path(made) / "tree"
        names = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split("\0")
        for name in filter(None, names):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
        tests = sorted({test for fault in chosen for test in fault.tests.split()})
        if not green(tests, tree):
            sys.exit(f"without any fault they fail already: {' '.join(tests)}")
        for fault in chosen:
            seen = caught(fault, tree)
            unseen += not seen
            print(f"{'caught' if seen else 'NOT SEEN':9} {fault.what}", flush=True)
    return unseen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) > 0)
