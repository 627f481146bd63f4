"""The device's runtime: the same scores as PyTorch, and an answer whatever the cloud does."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_cloud
import torch

from duetlib import device as module
from duetlib import transport
from duetlib.device import Device
from duetlib.dynamic import Layer
from duetlib.faults import Forger
from duetlib.generator import encode
from duetlib.payload import Layers
from duetlib.transport import CutOff, Declined, NoConnection, TimedOut

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
    with pytest.raises(ValueError, match="'click' is not 'embedding' or 'clicks'"):
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


def test_neither_device_nor_wire_format_needs_torch() -> None:
    code = f"""
import sys
sys.modules["torch"] = None  # from now on `import torch` raises ImportError
from pathlib import Path
from duetlib import device, payload, transport
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
