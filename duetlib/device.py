"""The runtime on the device: asks for weights, verifies them, and always has an answer.

The static layers and the encoder's neck run in ONNX Runtime, the dynamic layers are inputs. At the
start of a session the device asks the cloud once. It then ranks with fresh weights, or with the
last good ones if they have not expired, or with the classifier that it was shipped with, and every
answer says which of the three it was, and why. Nothing here needs PyTorch. Chapter 10.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from safetensors.numpy import load_file

from .payload import SKEW, VERSION, Contract, Layers, Refused, Weights, unpack
from .transport import Declined, Transport

Source = Literal["fresh", "last good", "shipped"]


class NoClicks(Refused):
    """A new user: there is nothing to make weights from, so nobody is asked."""


@dataclass(frozen=True)
class Answer:
    """What the user gets.

    Attributes:
        ids: `[C]` candidates, the best first. scores: `[C]` theirs, in that order.
        source: whose weights ranked them. why: the reason, where they are not fresh.
    """

    ids: np.ndarray
    scores: np.ndarray
    source: Source
    why: str


@dataclass(frozen=True)
class Session:
    """The weights of one session, and where they come from; see `Answer`."""

    layers: Layers
    source: Source
    why: str


class Device:
    """One user's device.

    Args:
        folder: what was shipped, as `export` wrote it. ask: how a request gets to the cloud.
        upload: what leaves the device: `embedding` (the neck's output, D numbers) or `clicks`.
        wait: the most seconds before the second, and last, try; the wait itself is drawn.
        skew: seconds that this clock and the cloud's may differ by. clock: seconds since 1970.

    Attributes:
        counts: how often each thing happened: `fresh`, `last good` and `shipped` add up to
            `sessions`; every refusal adds one to the counter that its class names.

    Raises:
        ValueError: if the folder does not hold what its list says, or `upload` is something else.

    Source: Chapter 10; Figure 1(c).
    """

    def __init__(
        self,
        folder: Path,
        ask: Transport,
        *,
        upload: Literal["embedding", "clicks"] = "embedding",
        wait: float = 0.1,
        skew: float = SKEW,
        clock: Callable[[], float] = time.time,
    ):
        if upload not in ("embedding", "clicks"):
            raise ValueError(f"upload {upload!r} is not 'embedding' or 'clicks'")
        about = json.loads((folder / "device.json").read_text())
        static = static_hash(folder)
        if static != about["static"]:
            raise ValueError(f"the models in {folder} are not those that were shipped: export anew")
        shapes = tuple((n_in, n_out) for n_in, n_out in about["shapes"])
        self.contract = Contract(about["model"], static, shapes, about["largest"])
        self.key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(about["key"]))
        self.length, self.n_items = about["length"], about["n_items"]
        self.ask, self.upload, self.wait, self.skew, self.clock = ask, upload, wait, skew, clock
        self.static, self.encoder = (_load(folder / f"{n}.onnx") for n in ("static", "encoder"))
        self.shipped = load_file(folder / "shipped.safetensors")
        self.last_good: Weights | None = None
        self.session = Session(self.shipped, "shipped", "no session has begun")
        self.counts: Counter[str] = Counter()

    def start_session(self, clicks: Sequence[int]) -> Session:
        """Ask the cloud once; what comes of it serves the whole session.

        Args:
            clicks: item ids so far, oldest first.

        Raises:
            ValueError: for an item that the device does not know; the session before goes on.
        """
        self._ids(clicks)
        self.counts["sessions"] += 1
        try:
            if not len(clicks):
                raise NoClicks("no clicks yet")
            self.last_good = self._fetch(clicks)
            self.session = Session(self.last_good.layers, "fresh", "")
        except Refused as refused:
            self.counts[refused.counter] += isinstance(refused, NoClicks)
            self.session = self._without(f"{refused.counter}: {refused}")
        self.counts[self.session.source] += 1
        return self.session

    def rank(self, clicks: Sequence[int], candidates: Sequence[int]) -> Answer:
        """Candidates in order, by the weights of this session.

        Args:
            clicks: item ids so far, oldest first. candidates: `[C]` item ids.

        Raises:
            ValueError: for an id that is no item.
        """
        ids = self._ids(candidates)
        feeds = {"history": self._history(clicks), "candidates": ids[None], **self.session.layers}
        (scores,) = self.static.run(["scores"], feeds)  # [1, C]
        order = np.argsort(-scores[0], kind="stable")
        return Answer(ids[order], scores[0, order], self.session.source, self.session.why)

    def embed(self, clicks: Sequence[int]) -> np.ndarray:
        """`[D]` what the neck makes of the clicks: E_share of Eq. 5."""
        return self.encoder.run(["shared"], {"history": self._history(clicks)})[0][0]

    def request(self, clicks: Sequence[int]) -> bytes:
        """The bytes of a new request; no two are alike, for each has its own nonce."""
        asked = {
            "version": VERSION,
            "model": self.contract.model,
            "static": self.contract.static,
            "nonce": secrets.token_hex(16),
        }
        if self.upload == "clicks":
            return json.dumps(
                {**asked, "clicks": self._ids(clicks[-self.length :]).tolist()}
            ).encode()
        embedding = base64.b64encode(self.embed(clicks).astype("<f4").tobytes()).decode()
        return json.dumps({**asked, "embedding": embedding}).encode()

    def _fetch(self, clicks: Sequence[int]) -> Weights:
        """Verified weights, at the first try or the second; a "no" (4xx) is not asked again."""
        for last_try in (False, True):
            request = self.request(clicks)
            try:
                message = self.ask(request, self.contract.limit)
                return unpack(message, self.contract, request, self.key, self.clock(), self.skew)
            except Refused as refused:
                self.counts[refused.counter] += 1
                if last_try or (isinstance(refused, Declined) and refused.status < 500):
                    raise
            self.counts["retried"] += 1
            time.sleep(random.uniform(0, self.wait))  # so that a crowd does not come back as one
        raise AssertionError("the second try returns or raises")

    def _without(self, why: str) -> Session:
        """The session without fresh weights."""
        if self.last_good and self.last_good.expires >= self.clock() - self.skew:
            return Session(self.last_good.layers, "last good", why)
        return Session(self.shipped, "shipped", why)

    def _history(self, clicks: Sequence[int]) -> np.ndarray:
        """`[1, L]` the last clicks, filled with 0 on the right."""
        ids = self._ids(clicks[-self.length :])
        return np.pad(ids, (0, self.length - len(ids)))[None]

    def _ids(self, ids: Sequence[int]) -> np.ndarray:
        array = np.asarray(ids)
        whole = array.ndim == 1 and (array.dtype.kind in "iu" or not array.size)
        if not whole or ((array < 1) | (array > self.n_items)).any():
            raise ValueError(f"item ids are whole numbers from 1 to {self.n_items}, in a list")
        return array.astype(np.int64)


def static_hash(folder: Path) -> str:
    """SHA-256 over what a device holds: its two models, and the layers that came with them."""
    files = [folder / name for name in ("static.onnx", "encoder.onnx", "shipped.safetensors")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _load(file: Path) -> onnxruntime.InferenceSession:
    """A model on one thread: these are too small to be worth a second."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
