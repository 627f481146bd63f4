"""The runtime on the device: asks for weights, verifies them, and always has an answer.

The static layers and the encoder's neck run in ONNX Runtime, the dynamic layers are inputs. At the
start of a session the device asks the cloud once. It then ranks with fresh weights, or with the
last good ones if they have not expired, or with the classifier that it was shipped with, and every
answer says which of the three it was, and why. Nothing here needs PyTorch. Chapter 10.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import random
import secrets
import threading
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

from data_prep.arguments import number, one_of, refuse, whole
from duetlib.serving.payload import (
    SKEW,
    VERSION,
    Contract,
    Layers,
    Refused,
    Weights,
    read_json,
    unpack,
)
from duetlib.serving.transport import Declined, Transport, TransportFailed

SHIPPED = ("static.onnx", "encoder.onnx", "shipped.safetensors", "device.json")
Source = Literal["fresh", "last good", "shipped"]


class NoClicks(Refused):
    """A new user: there is nothing to make weights from, so nobody is asked."""


class NoTime(Refused):
    """The device's clock fails, or shows no time: nothing can be said to be still valid."""


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
    """One user's device. Threads may share it: a session may start while another one ranks.

    Args:
        folder: what was shipped, as `export` wrote it. ask: how a request gets to the cloud.
        upload: what leaves the device: `embedding` (the neck's output, D numbers) or `clicks`.
        wait: the most seconds before the second, and last, try; the wait itself is drawn.
        skew: seconds that this clock and the cloud's may differ by. clock: seconds since 1970.

    Attributes:
        counts: how often each thing happened: `fresh`, `last good` and `shipped` add up to
            `sessions`; every refusal adds one to the counter that its class names.

    Raises:
        ValueError: if the folder does not hold what its list, `device.json`, says, or that list
            is damaged; for a setting, or a clock, that could never be used.
        FileNotFoundError: if one of the four files is missing.

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
        one_of(("embedding", "clicks"), upload=upload)
        number(0, 60, wait=wait)
        number(skew=skew)
        if not callable(ask):
            raise refuse("ask", ask, "a function of a request and a limit, such as Http(...)")
        self.ask, self.upload, self.wait, self.skew, self.clock = ask, upload, wait, skew, clock
        try:
            self._now()
        except NoTime as error:
            raise ValueError(str(error)) from error.__cause__
        self._read(Path(folder))
        self.last_good: Weights | None = None
        self.session = Session(self.shipped, "shipped", "no session has begun")
        self.counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._try()

    def _read(self, folder: Path) -> None:
        """Read what was shipped, and check it against its list."""
        missing = [name for name in SHIPPED if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder} has no {', '.join(missing)}: "
                "`python -m duetlib.serving.export` writes them"
            )
        list_file = folder / "device.json"
        try:
            about = read_json(list_file.read_bytes())
            shapes = tuple(tuple(shape) for shape in about["shapes"])
            self.contract = Contract(about["model"], about["static"], shapes, about["largest"])
            self.key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(about["key"]))
            self.length, self.n_items = about["length"], about["n_items"]
            whole(1, length=self.length, n_items=self.n_items)
        except KeyError as error:
            raise ValueError(f"{list_file} has no {error}: export anew") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{list_file} is damaged: {error}: export anew") from None
        if static_hash(folder) != self.contract.static:
            raise ValueError(f"the models in {folder} are not those that were shipped: export anew")
        self.static, self.encoder = (_load(folder / f"{n}.onnx") for n in ("static", "encoder"))
        self.shipped = load_file(folder / "shipped.safetensors")

    def _try(self) -> None:
        """Compare what the list says with the models, then rank and embed once: now, not later."""
        shapes = {name: array.shape for name, array in self.shipped.items()}
        if shapes != self.contract.layout or self.encoder.get_inputs()[0].shape != [1, self.length]:
            raise ValueError("device.json does not fit its models, by shapes or length")
        first_and_last = [1, self.n_items]
        try:
            self.rank(first_and_last, first_and_last)
            self.embed(first_and_last)
        except Exception as error:  # ONNX Runtime has a dozen kinds
            raise ValueError(f"device.json does not fit its models: {error}") from None

    def start_session(self, clicks: Sequence[int]) -> Session:
        """Ask the cloud once; what comes of it serves the whole session.

        Args:
            clicks: item ids so far, oldest first.

        Raises:
            ValueError: for an item that the device does not know; the session before goes on.
        """
        self._ids(clicks)
        try:
            if not len(clicks):
                self._count(NoClicks().counter)
                raise NoClicks("no clicks yet")
            self.last_good = got = self._fetch(clicks)
            session = Session(got.layers, "fresh", "")
        except Refused as refused:
            session = self._without(f"{refused.counter}: {refused}")
        self._count("sessions", session.source)
        self.session = session  # of several threads, the last to come
        return session

    def rank(self, clicks: Sequence[int], candidates: Sequence[int]) -> Answer:
        """Candidates in order, by the weights of this session.

        Args:
            clicks: item ids so far, oldest first. candidates: `[C]` item ids.

        Raises:
            ValueError: for an id that is no item.
        """
        ids, session = self._ids(candidates), self.session  # read once: another may begin meanwhile
        feeds = {"history": self._history(clicks), "candidates": ids[None], **session.layers}
        (scores,) = self.static.run(["scores"], feeds)  # [1, C]
        order = np.argsort(-scores[0], kind="stable")
        return Answer(ids[order], scores[0, order], session.source, session.why)

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
                {**asked, "clicks": self._ids(clicks)[-self.length :].tolist()}
            ).encode()
        embedding = base64.b64encode(self.embed(clicks).astype("<f4").tobytes()).decode()
        return json.dumps({**asked, "embedding": embedding}).encode()

    def _fetch(self, clicks: Sequence[int]) -> Weights:
        """Verified weights, at the first try or the second; a "no" (4xx) is not asked again."""
        for last_try in (False, True):
            request = self.request(clicks)
            try:
                message = self._ask(request)
                return unpack(message, self.contract, request, self.key, self._now(), self.skew)
            except Refused as refused:
                self._count(refused.counter)
                if last_try or (isinstance(refused, Declined) and refused.status < 500):
                    raise
            self._count("retried")
            time.sleep(random.uniform(0, self.wait))  # so that a crowd does not come back as one
        raise AssertionError("the second try returns or raises")

    def _ask(self, request: bytes) -> bytes:
        """The transport's answer. Its own errors are counted too: there is always a list."""
        try:
            message = self.ask(request, self.contract.limit)
        except Refused:
            raise
        except Exception as error:  # its text is not ours, and might show a token
            raise TransportFailed(type(error).__name__) from None
        if not isinstance(message, bytes):
            raise TransportFailed(f"an answer of type {type(message).__name__}, not bytes")
        return message

    def _now(self) -> float:
        """Seconds since 1970."""
        try:
            now = self.clock()
            number(clock=now)
        except Exception as error:
            raise NoTime(f"the clock shows no time: {type(error).__name__}: {error}") from error
        return float(now)

    def _count(self, *names: str) -> None:
        with self._counting:  # another thread may count at the same time
            self.counts.update(names)

    def _without(self, why: str) -> Session:
        """The session without fresh weights."""
        good = self.last_good
        with contextlib.suppress(NoTime):
            if good and good.issued - self.skew <= self._now() <= good.expires + self.skew:
                return Session(good.layers, "last good", why)
        return Session(self.shipped, "shipped", why)

    def _history(self, clicks: Sequence[int]) -> np.ndarray:
        """`[1, L]` the last clicks, filled with 0 on the right."""
        ids = self._ids(clicks)[-self.length :]
        return np.pad(ids, (0, self.length - len(ids)))[None]

    def _ids(self, ids: Sequence[int]) -> np.ndarray:
        array = np.asarray(ids)
        whole = array.ndim == 1 and (array.dtype.kind in "iu" or not array.size)
        if not whole or ((array < 1) | (array > self.n_items)).any():
            raise ValueError(f"item ids are whole numbers from 1 to {self.n_items}, in a list")
        return array.astype(np.int64)


def static_hash(folder: Path) -> str:
    """SHA-256 over what a device holds: its two models, and the layers that came with them."""
    files = [folder / name for name in SHIPPED if name != "device.json"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _load(file: Path) -> onnxruntime.InferenceSession:
    """A model on one thread: these are too small to be worth a second."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
