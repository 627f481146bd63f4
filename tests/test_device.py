"""The device's runtime: the same scores as PyTorch, and an answer whatever the cloud does."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import shutil
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_cloud
import torch
from duetbook.faults import Forger

from duetlib.dynamic import Layer
from duetlib.serving import device as module
from duetlib.serving import transport
from duetlib.serving.device import Device
from duetlib.serving.folded import encode
from duetlib.serving.payload import Layers
from duetlib.serving.transport import CutOff, Declined, NoConnection, TimedOut

CLICKS = [5, 9, 2]


@pytest.fixture(scope="module")
def forger() -> Forger:
    return Forger(small_cloud.folder())


@pytest.fixture
def device(forger: Forger) -> Device:
    return at_home(lambda request, limit: forger.message(request))


def at_home(ask: Callable[[bytes, int], bytes], **settings: float) -> Device:
    return Device(small_cloud.folder() / "device", ask, wait=0.0, **settings)  # type: ignore[arg-type]


def fails(*errors: Exception | None, otherwise: Forger) -> Callable[[bytes, int], bytes]:
    """A transport that raises one error after the other; where it is None, an honest answer."""
    left = iter(errors)

    def ask(request: bytes, limit: int) -> bytes:
        error = next(left)
        if error:
            raise error
        return otherwise.message(request)

    return ask


def fails_after(ask: Callable[[bytes, int], bytes]) -> Callable[[bytes, int], bytes]:
    """A transport that asks once; the second try finds nobody."""
    asked: list[bytes] = []

    def once(request: bytes, limit: int) -> bytes:
        if asked:
            raise NoConnection("once")
        asked.append(request)
        return ask(request, limit)

    return once


def by_torch(backbone: str, clicks: list[int], ids: np.ndarray, layers: Layers) -> np.ndarray:
    """The scores of `umn.rank`, from an unpadded history."""
    tensors = {name: torch.tensor(array) for name, array in layers.items()}
    own = [Layer(tensors[f"{n}.weight"], tensors[f"{n}.bias"]) for n in range(len(tensors) // 2)]
    with torch.no_grad():
        model = small_cloud.model(backbone)
        return model.rank(torch.tensor([clicks]), torch.tensor(ids)[None], own)[0].numpy()


@pytest.mark.parametrize("backbone", ["sasrec", "din"])
def test_scores_and_embedding_agree_with_torch(backbone: str) -> None:
    folder, generator = small_cloud.folder(backbone), torch.Generator().manual_seed(0)
    maker = Forger(folder)
    device = Device(folder / "device", lambda request, limit: maker.message(request))
    for n_clicks, n_candidates in ((1, 1), (4, 2), (10, 100), (10, 140)):
        clicks = torch.randint(1, 141, (n_clicks,), generator=generator).tolist()
        ids = torch.randperm(140, generator=generator)[:n_candidates] + 1
        for source in ("fresh", "shipped"):
            if source == "fresh":
                device.start_session(clicks)
            else:
                device.session = module.Session(device.shipped, "shipped", "")
            answer = device.rank(clicks, ids.tolist())
            expected = by_torch(backbone, clicks, answer.ids, device.session.layers)
            assert answer.source == source
            assert set(answer.ids) == set(ids.tolist())
            assert (np.diff(answer.scores) <= 0).all(), "the best first"
            np.testing.assert_allclose(answer.scores, expected, rtol=0, atol=1e-5)
        history = torch.tensor([clicks])
        expected = encode(small_cloud.model(backbone), history)[0].detach().numpy()
        np.testing.assert_allclose(device.embed(clicks), expected, rtol=0, atol=1e-5)


def test_the_shipped_classifier_is_the_mean_of_what_training_histories_generate() -> None:
    with torch.no_grad():
        layers = small_cloud.model().layers(small_cloud.SPLIT.train.history)
    device = at_home(lambda request, limit: b"")
    for n, layer in enumerate(layers):
        weight, bias = layer.weight.mean(0).numpy(), layer.bias.mean(0).numpy()
        np.testing.assert_allclose(device.shipped[f"{n}.weight"], weight, atol=1e-5)
        np.testing.assert_allclose(device.shipped[f"{n}.bias"], bias, atol=1e-5)
    largest = max(float(x.abs().max()) for layer in layers for x in layer)
    assert device.contract.largest == pytest.approx(10 * largest, rel=1e-4)


def test_an_embedding_is_all_that_leaves_the_device_unless_clicks_are_asked_for(
    device: Device,
) -> None:
    asked = json.loads(device.request(CLICKS))
    assert asked.keys() == {"version", "model", "static", "nonce", "embedding"}
    assert len(asked["embedding"]) == 172  # 32 floats in base64
    device.upload = "clicks"
    assert json.loads(device.request(CLICKS))["clicks"] == CLICKS
    assert json.loads(device.request(list(range(1, 30))))["clicks"] == list(range(20, 30))


def test_no_two_requests_are_alike(device: Device) -> None:
    nonces = {json.loads(device.request(CLICKS))["nonce"] for _ in range(100)}
    assert len(nonces) == 100
    assert {len(bytes.fromhex(nonce)) for nonce in nonces} == {16}


def test_what_was_got_at_the_start_serves_the_whole_session(device: Device) -> None:
    session = device.start_session(CLICKS)
    device.clock = lambda: 4e9  # long after it has expired
    for n in range(4, 8):
        assert device.rank(range(1, n), [1, 2, 3]).source == "fresh"
    assert device.session is session
    assert device.counts == {"sessions": 1, "fresh": 1}


def test_last_good_weights_serve_until_they_expire_and_then_the_shipped_ones(
    forger: Forger,
) -> None:
    now = [module.time.time()]
    errors = (None, *[NoConnection("nobody there")] * 4)
    device = at_home(fails(*errors, otherwise=forger), clock=lambda: now[0])  # type: ignore[arg-type]
    assert device.start_session(CLICKS).source == "fresh"
    now[0] += 3600 + 29  # of a skew of 30
    assert device.start_session(CLICKS).source == "last good"
    now[0] += 2
    assert device.start_session(CLICKS).source == "shipped"
    answer = device.rank(CLICKS, [1, 2])
    assert (answer.source, answer.why) == ("shipped", "no_connection: nobody there")
    assert device.session.layers is device.shipped
    sources = {"fresh": 1, "last good": 1, "shipped": 1}
    assert device.counts == {"sessions": 3, **sources, "no_connection": 4, "retried": 2}


@pytest.mark.parametrize("error", [TimedOut("slow"), CutOff("cut"), Declined(503)])
def test_a_failure_is_tried_once_more(error: Exception, forger: Forger) -> None:
    device = at_home(fails(error, None, otherwise=forger))
    session = device.start_session(CLICKS)
    assert (session.source, session.why) == ("fresh", "")
    assert device.counts["retried"] == 1
    assert device.counts[error.counter] == 1  # type: ignore[attr-defined]


def test_a_clear_no_is_not_asked_again(forger: Forger) -> None:
    device = at_home(fails(Declined(401), otherwise=forger))
    assert device.start_session(CLICKS).why == "status_401: the cloud answered with status 401"
    assert device.counts["retried"] == 0


def test_the_wait_before_the_second_try_is_drawn(
    forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    device = at_home(fails(*[CutOff("cut")] * 100, otherwise=forger))
    device.wait = 0.2
    for _ in range(50):
        device.start_session(CLICKS)
    assert len(set(waits)) == len(waits) == 50
    assert 0 <= min(waits) < 0.05 < 0.15 < max(waits) <= 0.2


def test_a_new_user_is_served_without_asking(forger: Forger) -> None:
    device = at_home(fails(otherwise=forger))
    assert device.start_session([]).why == "no_clicks: no clicks yet"
    assert device.rank([], [3, 1, 2]).source == "shipped"
    assert device.counts == {"sessions": 1, "no_clicks": 1, "shipped": 1}


def test_an_answer_before_any_session(device: Device) -> None:
    answer = device.rank(CLICKS, [1, 2])
    assert (answer.source, answer.why) == ("shipped", "no session has begun")


@pytest.mark.parametrize("ids", [[0], [141], [-1], [[1, 2]], [1.9, 2.0], ["1"]])
def test_what_is_no_item_is_said_and_the_session_before_goes_on(device: Device, ids: list) -> None:
    session = device.start_session(CLICKS)
    with pytest.raises(ValueError, match="whole numbers from 1 to 140"):
        device.rank(CLICKS, ids)
    with pytest.raises(ValueError, match="whole numbers from 1 to 140"):
        device.start_session(ids)
    assert device.session is session and device.counts["sessions"] == device.counts["fresh"] == 1


@pytest.mark.parametrize("name", ["encoder.onnx", "static.onnx", "shipped.safetensors"])
def test_a_changed_model_is_found_when_the_device_starts(tmp_path: Path, name: str) -> None:
    copied = tmp_path / "device"
    shutil.copytree(small_cloud.folder() / "device", copied)
    with (copied / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ValueError, match="not those that were shipped"):
        Device(copied, lambda request, limit: b"")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_https_is_spoken_where_the_address_says_so(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """With one kind for both, a token would go to an https address in the clear."""
    opened = []

    class Stub:
        def __init__(self, host: str, port: int, timeout: float):
            opened.append((type(self).__name__, host, port, timeout))

        def connect(self) -> None:
            raise ConnectionRefusedError

    for name in ("HTTPConnection", "HTTPSConnection"):
        monkeypatch.setattr(transport, name, type(name, (Stub,), {}))
    with pytest.raises(NoConnection):
        transport.Http(f"{scheme}://cloud.example:9", "token", 2.0)(b"", 10)
    kind = "HTTPSConnection" if scheme == "https" else "HTTPConnection"
    assert opened == [(kind, "cloud.example", 9, 2.0)]


@pytest.mark.parametrize(
    ("url", "token", "said"),
    [
        ("ftp://cloud.example", "token", "give http:// or https://"),
        ("htps://cloud.example", "token", "give http:// or https://"),
        ("http://cloud.example/api", "token", "a host and a port"),  # where nobody listens
        ("http://cloud example", "token", "a host and a port"),
        ("http://", "token", "a host and a port"),
        ("http://cloud.example", "", "the token is empty"),
        ("http://cloud.example", "secret\n", "a line's end"),
        ("http://cloud.example", 5, "no text"),
        ("http://cloud.example:99999", "token", "a host and a port"),
        ("http://cloud.example?a", "token", "a host and a port"),
        ("http://[::1", "token", "a host and a port"),
        ("http://me:secret@cloud.example", "token", "names a user"),
        (None, "token", "url is no text"),
    ],
)
def test_an_address_or_a_token_that_could_never_be_used_is_refused_at_once(
    url: str, token: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        transport.Http(url, token)
    assert "secret" not in str(refused.value)


def test_a_name_that_can_be_none_is_a_cloud_that_is_not_there() -> None:
    with pytest.raises(NoConnection):
        transport.Http("http://a..b:80", "token")(b"", 10)


def test_what_may_be_uploaded_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="'click': it must be one of 'embedding', 'clicks'"):
        Device(small_cloud.folder() / "device", lambda request, limit: b"", upload="click")  # type: ignore[arg-type]


def test_an_answer_without_a_length_that_we_cut_off_is_late_and_not_whole() -> None:
    def drip(server: socket.socket) -> None:
        sock, _ = server.accept()
        with sock, contextlib.suppress(OSError):
            sock.sendall(b"HTTP/1.1 200 -\r\n\r\n")
            while True:
                sock.sendall(b"D")
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(TimedOut, match="within 0.2 s"):
            transport.Http(url, "token", timeout=0.2)(b"{}", 10**6)


# ---- whatever the transport raises, whatever the clock shows, and whoever else is there


@pytest.mark.parametrize(
    "fault", [KeyError("x"), RuntimeError("token: secret"), MemoryError(), RecursionError()]
)
def test_a_transport_may_raise_what_it_likes(fault: Exception, forger: Forger) -> None:
    device = at_home(fails(fault, fault, fault, None, otherwise=forger))
    session = device.start_session(CLICKS)
    assert (session.source, session.why) == ("shipped", f"transport_failed: {type(fault).__name__}")
    assert device.start_session(CLICKS).source == "fresh"
    assert (device.counts["transport_failed"], device.counts["sessions"]) == (3, 2)
    assert len(device.rank(CLICKS, [1, 2]).ids) == 2


@pytest.mark.parametrize("answer", [None, "DUET", bytearray(9), 5, Declined(503)])
def test_a_transport_may_give_what_is_no_answer(answer: Any) -> None:
    device = at_home(lambda request, limit: answer)
    assert device.start_session(CLICKS).why.startswith("transport_failed: an answer of type")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_who_wants_to_stop_is_not_held_up(stop: type[BaseException], device: Device) -> None:
    def ask(request: bytes, limit: int) -> bytes:
        raise stop

    session, device.ask = device.start_session(CLICKS), ask
    with pytest.raises(stop):
        device.start_session(CLICKS)
    assert device.session is session and device.counts == {"sessions": 1, "fresh": 1}


def no_time() -> float:
    raise OSError("no clock")


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        (no_time, "OSError: no clock"),
        (lambda: math.nan, "clock is nan"),
        (lambda: math.inf, "clock is inf"),
        (lambda: None, "clock is None"),
        (lambda: "1800000000", "clock is '1800000000'"),
        (None, "TypeError"),
    ],
)
def test_a_clock_that_shows_no_time_is_refused_at_start_and_later_costs_only_fresh_weights(
    clock: Any, said: str, device: Device
) -> None:
    with pytest.raises(ValueError, match=f"the clock shows no time: .*{said}"):
        at_home(lambda request, limit: b"", clock=clock)
    assert device.start_session(CLICKS).source == "fresh"
    device.clock = clock
    session = device.start_session(CLICKS)
    assert (session.source, session.why[:8]) == ("shipped", "no_time:")
    assert device.counts["no_time"] == 2
    device.clock = time.time
    assert device.start_session(CLICKS).source == "fresh"


def test_a_clock_set_back_does_not_keep_old_weights_alive(forger: Forger) -> None:
    device = at_home(fails(None, *[CutOff("cut")] * 2, otherwise=forger))
    device.start_session(CLICKS)
    device.clock = lambda: time.time() - 10**6
    assert device.start_session(CLICKS).source == "shipped"


def test_an_answer_names_the_weights_that_ranked_it_though_a_session_begins_meanwhile(
    device: Device,
) -> None:
    shipped, static = device.rank(CLICKS, [1, 2, 3]), device.static

    class Slow:
        """A model that takes as long as another thread takes to start a session."""

        def run(self, *given: Any) -> Any:
            other = threading.Thread(target=device.start_session, args=(CLICKS,))
            other.start()
            other.join()
            return static.run(*given)

    device.static = Slow()
    answer = device.rank(CLICKS, [1, 2, 3])
    assert device.session.source == "fresh"
    assert (answer.source, answer.why) == ("shipped", "no session has begun")
    np.testing.assert_array_equal(answer.scores, shipped.scores)


def test_sessions_started_by_several_threads_are_each_their_own_and_all_counted(
    forger: Forger,
) -> None:
    lost = threading.local()

    def ask(request: bytes, limit: int) -> bytes:
        if getattr(lost, "here", False):
            raise Declined(401)
        return forger.message(request)

    class Slow(Counter):  # type: ignore[type-arg]
        """Leaves time between reading a count and writing it."""

        def __getitem__(self, name: str) -> int:
            count = super().__getitem__(name)
            time.sleep(1e-4)
            return count

        def get(self, name: str, default: Any = None) -> Any:
            return self[name] if name in self else default

    device = at_home(ask)
    device.counts = Slow()
    seen: list[tuple[bool, str]] = []

    def use(without: bool) -> None:
        lost.here = without
        for _ in range(25):
            seen.append((without, device.start_session(CLICKS).source))

    threads = [threading.Thread(target=use, args=(n % 2 == 0,)) for n in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert {source for without, source in seen if not without} == {"fresh"}
    assert {source for without, source in seen if without} <= {"last good", "shipped"}
    counts = dict(device.counts)
    assert (counts["sessions"], counts["fresh"], counts["status_401"]) == (100, 50, 50)
    assert counts["last good"] + counts.get("shipped", 0) == 50


# ---- what was shipped, and the device's settings


def changed(tmp_path: Path, **fields: Any) -> Path:
    """A copy of the device's folder whose list says something else; ... takes a field out."""
    copied = tmp_path / "device"
    shutil.copytree(small_cloud.folder() / "device", copied)
    about = {**json.loads((copied / "device.json").read_text()), **fields}
    kept = {name: value for name, value in about.items() if value is not ...}
    (copied / "device.json").write_text(json.dumps(kept))
    return copied


FIELDS = ("model", "static", "shapes", "largest", "length", "n_items", "key")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        *(({name: ...}, f"device.json has no '{name}'") for name in FIELDS),
        *(({name: None}, "device.json is damaged") for name in FIELDS),
        ({"largest": math.nan}, "NaN is no number"),
        ({"largest": math.inf}, "Infinity is no number"),
        ({"largest": 0}, "largest is 0"),
        ({"largest": "9"}, "largest is '9'"),
        ({"length": 10.0}, "length is 10.0"),
        ({"length": -1}, "length is -1"),
        ({"length": 9}, "does not fit its models"),
        ({"length": 10**12}, "does not fit its models"),
        ({"n_items": True}, "n_items is True"),
        ({"n_items": 10**6}, "does not fit its models"),
        ({"n_items": 10**30}, "does not fit its models"),
        ({"shapes": []}, "shapes is"),
        ({"shapes": [[32, 32], [32]]}, "shapes is"),
        ({"shapes": [[32, 32], [32, 10**9]]}, "does not fit its models"),
        ({"shapes": 5}, "damaged"),
        ({"key": "ab"}, "damaged"),
        ({"static": "0" * 64}, "not those that were shipped"),
    ],
)
def test_a_list_that_is_damaged_is_refused_at_start(
    tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Device(changed(tmp_path, **fields), lambda request, limit: b"")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"a": 1, "a": 1}', "\xff", "[" * 10**5])
def test_a_list_that_is_no_json_is_refused_at_start(tmp_path: Path, text: str) -> None:
    copied = changed(tmp_path)
    (copied / "device.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="device.json is damaged"):
        Device(copied, lambda request, limit: b"")


@pytest.mark.parametrize("name", module.SHIPPED)
def test_a_file_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    copied = changed(tmp_path)
    (copied / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=f"has no {name}: `python -m duetlib.serving.export`"
    ):
        Device(copied, lambda request, limit: b"")


@pytest.mark.parametrize(
    "wrong", [{"wait": math.nan}, {"wait": -1}, {"wait": 61}, {"skew": math.inf}, {"ask": None}]
)
def test_a_setting_that_is_none_is_refused_at_start(wrong: dict[str, Any]) -> None:
    (name, value), given = next(iter(wrong.items())), {"ask": len, **wrong}
    with pytest.raises(ValueError, match=f"{name} is {value}: it must be"):
        Device(small_cloud.folder() / "device", **given)


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, None, "1"])
def test_a_timeout_that_is_none_is_refused_at_once(timeout: Any) -> None:
    with pytest.raises(ValueError, match=f"timeout is {timeout!r}: it must be"):
        transport.Http("http://cloud.example", "token", timeout)


def test_a_token_is_never_shown() -> None:
    ask = transport.Http("http://127.0.0.1:9", "the-token")
    device = at_home(ask)
    shown = [repr(ask), str(ask), f"{ask}", repr(device), repr(device.start_session(CLICKS))]
    assert not any("the-token" in text for text in shown)
    assert replace(ask, timeout=2.0).token == "the-token"
    for url in ("the-token", "http://cloud.example?key=the-token"):
        with pytest.raises(ValueError, match="url is") as refused:
            transport.Http(url, "other")
        assert "the-token" not in str(refused.value)


# ---- answers that are framed to do harm


def endless(head: bytes, piece: bytes = b"x" * 65536) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n" + head
    while True:
        yield piece


CHUNKED, ENDS = b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n\r\n"
FRAMES: dict[str, tuple[Iterable[bytes], str]] = {
    "a chunk of size -1": (endless(CHUNKED + b"\r\n-1\r\n"), "too_large"),
    "a chunk of size -5": (endless(CHUNKED + b"\r\n-5\r\n"), "not_http"),
    "a chunk too large": (endless(CHUNKED + b"\r\nfffffffffffffff\r\n"), "too_large"),
    "a chunk without size": (endless(CHUNKED + b"\r\n"), "too_large"),
    "an endless chunk extension": (endless(CHUNKED + b"\r\n5;"), "too_large"),
    "long chunk extensions": (
        endless(CHUNKED + b"\r\n", b"1;%b\r\nx\r\n" % (b"e" * 60_000)),
        "too_large",
    ),
    "trailers without end": (endless(CHUNKED + b"\r\n0\r\n", b"X: y\r\n" * 9999), "too_large"),
    "chunked twice": (endless(CHUNKED * 2 + b"\r\n-1\r\n"), "too_large"),
    "no length": (endless(b"\r\n"), "too_large"),
    "a length of -1": (endless(b"Content-Length: -1\r\n\r\n"), "too_large"),
    "an absurd length": (endless(b"Content-Length: %b\r\n\r\n" % (b"9" * 60)), "too_large"),
    "two lengths": (
        [b"HTTP/1.1 200 -\r\nContent-Length: 9\r\nContent-Length: 3\r\n" + ENDS + b"DUET"],
        "cut_off",
    ),
    "packed": (endless(b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n"), "malformed"),
    "a status line without end": (itertools.repeat(b"HTTP/1.1 " + b"9" * 9000), "too_large"),
    "headers without end": (endless(b"", b"X: %b\r\n" % (b"y" * 4000)), "too_large"),
    "many headers": (endless(b"", b"X: y\r\n"), "not_http"),
    "interim answers": (itertools.repeat(b"HTTP/1.1 100 -\r\nX: yyyyyyyyyy\r\n\r\n"), "too_large"),
    "another protocol": ([b"HTTP/1.1 101 -\r\nUpgrade: h2c\r\n\r\n"], "status_101"),
    "elsewhere": ([b"HTTP/1.1 302 -\r\nLocation: http://10.0.0.1/\r\n\r\n"], "status_302"),
    "HTTP/0.9": ([b"DUET\1\0\0\0"], "not_http"),
    "no HTTP at all": (itertools.repeat(bytes(65536)), "too_large"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_no_framing_of_an_answer_gets_past_limit_and_deadline(name: str, device: Device) -> None:
    pieces, counter = FRAMES[name]

    def serve(server: socket.socket) -> None:
        sock, _ = server.accept()
        with sock, contextlib.suppress(OSError):
            sock.recv(65536)
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):  # what is left unread would cut the answer off
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        ask = transport.Http(f"http://127.0.0.1:{server.getsockname()[1]}", "token", timeout=0.5)
        device.ask = fails_after(ask)
        tracemalloc.start()
        started = time.monotonic()
        device.start_session(CLICKS)
        took, (_, most) = time.monotonic() - started, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert device.counts[counter] == 1, device.counts
    assert most < 1_000_000 and took < 5


def test_an_honest_answer_in_chunks_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            sock, _ = server.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 200 -\r\n" + CHUNKED + b"\r\n")
                sock.sendall(b"2\r\nDU\r\n2;a=b\r\nET\r\n0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert transport.Http(url, "token", 5.0)(b"{}", 10) == b"DUET"


def test_neither_device_nor_wire_format_needs_torch() -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys(("torch", "pandas")))  # now `import torch` raises ImportError
from pathlib import Path
from duetlib.serving import device, payload, transport
dead = transport.Http("http://127.0.0.1:9", "token", 1.0)
one = device.Device(Path({str(small_cloud.folder() / "device")!r}), dead, wait=0.0)
one.start_session([1, 2])
answer = one.rank([1, 2], [3, 4, 5])
assert (answer.source, len(answer.ids)) == ("shipped", 3)
assert "no_connection" in answer.why
print(sorted(name for name in sys.modules if name.split(".")[0] == "torch"))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "['torch']\n"), ran.stderr
