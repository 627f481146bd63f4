"""The cloud: a trained generator as a service. Clicks or an embedding in, signed weights out.

`python -m duetlib.serving.cloud` serves what `python -m duetlib.serving.export` has written, on
127.0.0.1. Requests that arrive together are generated together. What a proxy does better (TLS,
several workers, slow senders, crowds) is left to it: `haproxy.cfg` beside this file is the one for
it. Chapter 10.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gc
import hmac
import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pooch
import torch
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import ClientDisconnect
from torch import Tensor

from data_prep.arguments import number, of_type, whole
from data_prep.command import run_command
from duetlib.cache import Damaged, read_safetensors
from duetlib.methods import build
from duetlib.serving.batching import Batcher
from duetlib.serving.folded import Generator
from duetlib.serving.payload import LIFETIME, VERSION, Contract, pack, read_json, split_layers

log = logging.getLogger("duetlib.serving.cloud")
LARGEST_INPUT = 1e3  # no neck writes a number beyond it; one that does is not ours
HEX = r"^[0-9a-f]+$"
PROXY = Path(__file__).with_name("haproxy.cfg")
# uvicorn's own limits. Connections that wait to be accepted are few, since asyncio writes a
# traceback for each of them once no more files can be opened; a request's head has 16 KiB at most.
LIMITS = {"backlog": 128, "timeout_keep_alive": 5, "h11_max_incomplete_event_size": 2**14}
# Told to stop, it finishes what it accepted. Nothing is done at start and end: `lifespan` would be
# a task for nothing, whose end by Ctrl-C uvicorn may report as an error.
FIXED = {"access_log": False, "server_header": False, "lifespan": "off"}
FIXED |= {"timeout_graceful_shutdown": 10, **LIMITS}


@dataclass(frozen=True)
class Settings:
    """What the service allows, and how long it waits.

    Attributes:
        max_body: bytes. body_seconds: for the whole body to arrive.
        max_batch: requests that are generated together, at most. batch_seconds: how long the first
            of them waits for others; at 0 it takes those along that are there already.
        max_connections: at a time; more are told to come back later (503).
        lifetime: seconds that weights may be used for, a day at most.

    Raises:
        ValueError: for a limit that is none; it names it.
    """

    max_body: int = 4096
    body_seconds: float = 2.0
    max_batch: int = 64
    batch_seconds: float = 0.0
    max_connections: int = 512
    lifetime: float = 3600.0

    def __post_init__(self) -> None:
        counts = ("max_body", "max_batch", "max_connections")
        whole(1, **{name: getattr(self, name) for name in counts})
        number(0, above=True, body_seconds=self.body_seconds)
        number(0, batch_seconds=self.batch_seconds)
        number(0, LIFETIME, above=True, lifetime=self.lifetime)


class Ask(BaseModel):
    """A request: what the device has, and its last clicks, raw or as the neck's output.

    `embedding` is D little-endian 32-bit floats in base64. Exactly one of the two is given.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int
    model: Annotated[str, Field(max_length=64)]
    static: Annotated[str, Field(pattern=HEX, min_length=64, max_length=64)]
    nonce: Annotated[str, Field(pattern=HEX, min_length=32, max_length=32)]
    clicks: Annotated[list[int], Field(min_length=1, max_length=256)] | None = None
    embedding: Annotated[str, Field(max_length=2048)] | None = None

    @model_validator(mode="after")
    def one_of_two(self) -> Ask:
        """Clicks or an embedding, not both and not neither."""
        if (self.clicks is None) == (self.embedding is None):
            raise ValueError("give either clicks or an embedding")
        return self


class Problem(BaseModel):
    """Why there are no weights."""

    detail: str


class Cloud:
    """What every request needs: generator, key, token, contract, counters.

    Args:
        folder: as `export` wrote it. settings: limits and waits.
    """

    def __init__(self, folder: Path, settings: Settings):
        file, secret = folder / "cloud" / "model.safetensors", folder / "cloud" / "secret.json"
        if not file.exists():
            raise FileNotFoundError(
                f"no model in {folder}: `python -m duetlib.serving.export` writes one"
            )
        try:
            metadata, tensors = read_safetensors(file, "cpu")
        except Damaged as error:
            raise ValueError(f"{error}: `python -m duetlib.serving.export` anew") from None
        made, about = json.loads(metadata["model"]), json.loads(metadata["about"])
        model = build(made["backbone"], made["method"], about["n_items"], **made["ppg"])
        model.load_state_dict(tensors)
        shapes = tuple((n_in, n_out) for n_in, n_out in about["shapes"])
        self.contract = Contract(about["model"], about["static"], shapes, about["largest"])
        self.generator = Generator(model, about["length"])
        try:
            secrets = read_json(secret.read_text())
            self.key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secrets["key"]))
            self.token, self.settings = secrets["token"].encode(), settings
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            name = type(error).__name__  # the error itself may show what the file holds
            told = (
                f"{secret} holds no key and token ({name}): `python -m duetlib.serving.export` anew"
            )
            raise ValueError(told) from None
        self.batcher = Batcher(self.generator, settings.max_batch, settings.batch_seconds)
        self.counts: Counter[str] = Counter()

    def declined(self, status: int, name: str, detail: str = "") -> HTTPException:
        """Count and log that there are no weights; the log holds a name, never what was sent."""
        self.counts[name] += 1
        log.info("declined: %d %s", status, name)
        return HTTPException(status, f"{name}: {detail}".rstrip(": "), {"Connection": "close"})

    async def body(self, request: Request) -> bytes:
        """The request's body, if it is small enough and there in time."""
        body = bytearray()
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > self.settings.max_body:
                        raise self.declined(413, "too_large", f"{self.settings.max_body} bytes")
        except TimeoutError:
            raise self.declined(408, "too_slow") from None
        except ClientDisconnect:
            raise self.declined(400, "hung_up") from None
        return bytes(body)

    def row(self, body: bytes) -> Tensor:
        """What the generator reads: a `[L]` history or a `[D]` embedding, checked."""
        try:
            ask = Ask.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise self.declined(422, "malformed", f"{where} {first['msg']}".strip()) from None
        ours = VERSION, self.contract.model, self.contract.static
        if (ask.version, ask.model, ask.static) != ours:
            raise self.declined(409, "other_model", "another version, model or static layers")
        return self._history(ask.clicks) if ask.clicks else self._embedding(ask.embedding or "")

    def _history(self, clicks: list[int]) -> Tensor:
        known = all(1 <= item <= self.generator.n_items for item in clicks)
        if not known or len(clicks) > self.generator.length:
            raise self.declined(422, "malformed", "clicks: unknown items, or too many")
        history = torch.zeros(self.generator.length, dtype=torch.int64)
        history[: len(clicks)] = torch.tensor(clicks)
        return history

    def _embedding(self, text: str) -> Tensor:
        try:
            values = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
            fits = len(values) == len(self.generator.W) and (np.abs(values) <= LARGEST_INPUT).all()
        except ValueError:
            fits = False
        if not fits:
            raise self.declined(422, "malformed", "embedding: not D finite floats in base64")
        return torch.from_numpy(values.copy())

    async def answer(self, request: Request) -> bytes:
        """A signed message for one request."""
        body = await self.body(request)
        numbers = await self.batcher(self.row(body))  # [P]
        layers = split_layers(numbers, self.contract.shapes)
        self.counts["answered"] += 1
        return pack(layers, self.contract, body, self.key, time.time(), self.settings.lifetime)


bearer = HTTPBearer(auto_error=False)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
STATUS = {
    400: "The client hung up",
    401: "No token, or a wrong one",
    408: "The body took too long",
    409: "Another version, model or static layers",
    413: "The body is too large",
    422: "Not a request that the service understands",
}


def create_app(folder: Path, settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application; its `state.cloud` has the counters.

    Args:
        folder: as `export` wrote it. settings: limits and waits.
    """
    cloud = Cloud(folder, settings or Settings())
    app = FastAPI(title="DUET by Hand: the cloud", docs_url=None, redoc_url=None)
    app.state.cloud = cloud

    async def authorised(credentials: Bearer) -> None:  # without `async` it would get a thread
        given = credentials.credentials.encode() if credentials else b""
        if not hmac.compare_digest(given, cloud.token):  # as long for a near miss as for any other
            raise cloud.declined(401, "unauthorised")

    # The body is read by hand, so that its size and time are limited before anything parses it.
    takes = {"content": {"application/json": {"schema": Ask.model_json_schema()}}, "required": True}
    problems: dict[int | str, dict] = {
        status: {"model": Problem, "description": why} for status, why in STATUS.items()
    }
    gives: dict[int | str, dict] = {
        200: {"content": {"application/octet-stream": {}}, "description": "A signed message"}
    }

    @app.post(
        "/weights",
        dependencies=[Depends(authorised)],
        response_class=Response,
        responses=gives | problems,
        openapi_extra={"requestBody": takes},
    )
    async def weights(request: Request) -> Response:
        """Weights for one session, signed."""
        return Response(await cloud.answer(request), media_type="application/octet-stream")

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Who serves, and how often what has happened in this worker, named by its process."""
        counts = dict(cloud.counts)
        about = {"model": cloud.contract.model, "version": VERSION}
        return {**about, "worker": os.getpid(), "counts": counts}

    return app


def server(app: FastAPI, host: str = "127.0.0.1", port: int = 0, **more: Any) -> uvicorn.Server:
    """uvicorn as this book runs it."""
    limit = app.state.cloud.settings.max_connections
    return uvicorn.Server(
        uvicorn.Config(app, host=host, port=port, limit_concurrency=limit, **{**FIXED, **more})
    )


@contextlib.contextmanager
def running(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The service in a thread of this process, for as long as the block lasts: gives its address.

    Args:
        port: to listen on; 0 for any that is free.
    """
    serving = server(app, port=port, log_level="warning")

    def run() -> None:
        with contextlib.suppress(SystemExit):  # uvicorn's, when it cannot start
            serving.run()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not serving.started:
        if not thread.is_alive():
            raise OSError(f"the service did not start: is port {port} taken?")
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{serving.servers[0].sockets[0].getsockname()[1]}"
    finally:
        serving.should_exit = True
        thread.join()


def default_folder() -> Path:
    """Where `export` writes and the service reads: `DUET_SERVED`, or the user's cache folder."""
    named = os.environ.get("DUET_SERVED") or Path(pooch.os_cache("duet-by-hand")) / "served"
    return Path(named).expanduser().absolute()


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m duetlib.serving.cloud`: serve until told to stop."""
    parser = argparse.ArgumentParser(
        prog="python -m duetlib.serving.cloud", description=main.__doc__
    )
    parser.add_argument("--folder", type=Path, default=default_folder(), help="what export wrote")
    parser.add_argument("--host", default="127.0.0.1", help="%(default)s: this machine alone")
    parser.add_argument("--port", type=of_type(_port), default=8765, help="%(default)s")
    parser.add_argument("--batch", type=int, default=64, help="at most together: %(default)s")
    parser.add_argument("--batch-ms", type=float, default=0.0, help="wait for others: %(default)s")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO)  # what is declined is said, by name alone
    torch.set_num_threads(1)
    try:
        settings = Settings(max_batch=given.batch, batch_seconds=given.batch_ms / 1000)
        app = create_app(given.folder, settings)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    _say_for_whom(given.host)
    gc.freeze()  # what is there now stays: looking through it for garbage would make some wait
    server(app, given.host, given.port).run()


def _port(text: str) -> int:
    whole(0, 65_535, port=int(text) if text.lstrip("-").isdecimal() else text)
    return int(text)


def _say_for_whom(host: str) -> None:
    """What an open port means: a few hundred half-sent requests of anyone lock everybody out."""
    if host in ("127.0.0.1", "::1", "localhost"):
        log.info("for this machine alone: put HAProxy with %s before it for others", PROXY)
    else:
        log.warning("others reach %s, and one can lock all out: put %s before it", host, PROXY)


if __name__ == "__main__":
    run_command(main)
