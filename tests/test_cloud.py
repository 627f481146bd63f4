"""The generator as a service: right weights, in batches, for those who may have them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import os
import shutil
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import small_cloud
import small_data
import torch
from fastapi import FastAPI

from duetlib.methods import build
from duetlib.serving import cloud as module
from duetlib.serving import export as exporting
from duetlib.serving.batching import Batcher
from duetlib.serving.cloud import Settings, create_app, running
from duetlib.serving.device import SHIPPED, Device
from duetlib.serving.folded import Generator, encode
from duetlib.serving.payload import split_layers
from duetlib.serving.transport import Declined, Http

HISTORY = [5, 9, 2, 70]


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(small_cloud.folder())


def device(url: str, app: FastAPI, **settings: Any) -> Device:
    ask = Http(url, app.state.cloud.token.decode(), timeout=10.0)
    return Device(small_cloud.folder() / "device", ask, wait=0.0, **settings)


def layers_by_torch(clicks: list[int]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        pairs = small_cloud.model().layers(torch.tensor([clicks]))
    named = {f"{n}.weight": pair.weight[0] for n, pair in enumerate(pairs)}
    named |= {f"{n}.bias": pair.bias[0] for n, pair in enumerate(pairs)}
    return {name: tensor.numpy() for name, tensor in named.items()}


def assert_same_layers(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=1e-5)


# ---- the generator


@pytest.mark.parametrize(
    ("backbone", "method", "ppg"),
    [
        ("gru4rec", "duet", {}),
        ("sasrec", "duet", {"form": "dense", "n_generators": 3, "tau": 0.1}),
        ("din", "duet_no_swa", {"neck": "mean"}),
        ("din", "duet_as_released", {"neck": "state"}),
        ("sasrec", "duet", {"neck": "state", "rank": 4}),
    ],
)
def test_one_affine_map_is_all_that_follows_the_neck(
    backbone: str, method: str, ppg: dict[str, Any]
) -> None:
    torch.manual_seed(1)
    model = build(backbone, method, 140, **ppg).eval()
    history = torch.randint(1, 141, (6, 10))
    history[0, 3:] = 0
    with torch.no_grad():
        expected = model.layers(history)
        raw = Generator(model, length=10)(list(history))
        mixed = Generator(model, length=10)([*history[:2], *encode(model, history[2:])])
    for numbers in (raw, mixed):
        named = [split_layers(row, model.backbone.shapes) for row in numbers]
        for n, layer in enumerate(expected):
            for which in ("weight", "bias"):
                ours = np.stack([row[f"{n}.{which}"] for row in named])
                np.testing.assert_allclose(ours, getattr(layer, which).numpy(), atol=1e-5)


def test_a_model_that_generates_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="only a model with a PPG"):
        Generator(build("sasrec", "base", 140), length=10)


# ---- what is asked


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e30])
def test_an_embedding_of_wild_numbers_is_refused(app: FastAPI, number: float) -> None:
    text = base64.b64encode(np.full(32, number, "<f4").tobytes()).decode()
    with pytest.raises(module.HTTPException) as refused:
        app.state.cloud._embedding(text)
    assert refused.value.status_code == 422


# ---- batches


def test_requests_that_come_together_are_worked_on_together_and_each_gets_its_own() -> None:
    sizes: list[int] = []

    def work(rows: Any) -> np.ndarray:
        sizes.append(len(rows))
        return np.array([10 * int(row) for row in rows])

    async def many() -> list[int]:
        batcher = Batcher(work, most=4, seconds=0.02)
        first = await asyncio.gather(*(batcher(torch.tensor(n)) for n in range(10)))
        return [*first, await batcher(torch.tensor(10))]

    assert asyncio.run(many()) == [10 * n for n in range(11)]
    assert sizes == [4, 4, 2, 1]  # full, full, the rest when its time is up, and one alone


def test_nobody_waits_longer_than_the_deadline() -> None:
    """Others keep coming, each before its time is up: that does not begin the wait anew."""

    async def come_meanwhile(seconds: float) -> int:
        batcher = Batcher(lambda rows: np.zeros(len(rows)), most=64, seconds=seconds)
        first, *others = [asyncio.create_task(batcher(torch.tensor(0)))]
        while not first.done() and len(others) < 20:
            await asyncio.sleep(0.4 * seconds)
            others.append(asyncio.create_task(batcher(torch.tensor(1))))
        await asyncio.gather(first, *others)
        return len(others)

    assert asyncio.run(come_meanwhile(0.2)) < 20


def test_an_error_in_a_batch_is_told_to_all_in_it_and_the_next_batch_is_well() -> None:
    def work(rows: Any) -> np.ndarray:
        if len(rows) > 1:
            raise ArithmeticError("too many")
        return np.zeros(1)

    async def three() -> list[Any]:
        batcher = Batcher(work, most=2, seconds=0.01)
        both = (batcher(torch.tensor(n)) for n in range(2))
        failed = await asyncio.gather(*both, return_exceptions=True)
        return [*map(type, failed), await batcher(torch.tensor(2))]

    assert asyncio.run(three()) == [ArithmeticError, ArithmeticError, 0.0]


# ---- the service


def test_clicks_and_embedding_give_the_layers_that_torch_gives(app: FastAPI) -> None:
    with running(app) as url:
        for upload in ("clicks", "embedding"):
            session = device(url, app, upload=upload).start_session(HISTORY)
            assert session.source == "fresh", session.why
            assert_same_layers(session.layers, layers_by_torch(HISTORY))


def test_many_devices_at_once_each_get_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(small_cloud.folder(), Settings(batch_seconds=0.05))
    sizes: list[int] = []
    generator = app.state.cloud.generator

    def counted(rows: Any) -> np.ndarray:
        sizes.append(len(rows))
        return generator(rows)

    monkeypatch.setattr(app.state.cloud.batcher, "work", counted)
    with running(app) as url, ThreadPoolExecutor(12) as pool:
        devices = [device(url, app, upload=("clicks", "embedding")[n % 2]) for n in range(12)]
        list(pool.map(lambda pair: pair[1].start_session([pair[0] + 1]), enumerate(devices)))
    for n, one in enumerate(devices):
        assert one.session.source == "fresh", one.session.why
        assert_same_layers(one.session.layers, layers_by_torch([n + 1]))
    assert sum(sizes) == 12
    assert max(sizes) > 1, "nothing was generated together"


def test_a_shutdown_finishes_what_was_accepted() -> None:
    app = create_app(small_cloud.folder(), Settings(batch_seconds=0.5))
    with ThreadPoolExecutor(3) as pool:
        with running(app) as url:
            devices = [device(url, app) for _ in range(3)]
            sessions = [pool.submit(one.start_session, HISTORY) for one in devices]
            while len(app.state.cloud.batcher.waiting) < 3:
                time.sleep(0.005)
        assert [session.result().source for session in sessions] == ["fresh"] * 3
    assert all(one.counts["retried"] == 0 for one in devices)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_more_connections_than_allowed_are_told_to_come_back() -> None:
    app = create_app(small_cloud.folder(), Settings(max_connections=2, batch_seconds=0.5))
    with running(app) as url, ThreadPoolExecutor(6) as pool:
        first, *others = [device(url, app) for _ in range(6)]
        accepted = pool.submit(first.start_session, HISTORY)
        while not app.state.cloud.batcher.waiting:
            time.sleep(0.005)
        declined = list(pool.map(lambda one: one.start_session(HISTORY), others))
        assert accepted.result().source == "fresh", accepted.result().why
    assert [session.source for session in declined] == ["shipped"] * 5
    assert all(one.counts["status_503"] > 0 for one in others)


def test_the_token_is_compared_in_constant_time(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def spy(given: bytes, right: bytes) -> bool:
        compared.append((given, right))
        return given == right

    monkeypatch.setattr(module.hmac, "compare_digest", spy)
    right = app.state.cloud.token
    tokens = [None, "Bearer guessed", "Bearer near\xe9", f"Basic {right.decode()}"]
    with running(app) as url:
        for token in tokens:
            headers = {"Authorization": token.encode("latin-1")} if token else {}
            answer = httpx.post(f"{url}/weights", headers=headers, content=b"{}")  # type: ignore[arg-type]
            assert answer.status_code == 401
            assert answer.json() == {"detail": "unauthorised"}
    assert [pair[1] for pair in compared] == [right] * 4
    assert not any(pair[0] == right for pair in compared)


def test_logs_and_refusals_hold_nobodys_clicks(
    app: FastAPI, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = [123, 45, 123, 67]
    texts = []
    with running(app) as url:
        for upload in ("clicks", "embedding"):
            one = device(url, app, upload=upload)
            asked = json.loads(one.request(secret))
            one.start_session(secret)
            for wrong in (
                {"static": "f" * 64},
                {"clicks": [*secret, "x"]},
                {"clicks": secret * 99},
            ):
                body = json.dumps({**asked, **wrong}).encode()
                with pytest.raises(Declined):
                    one.ask(body, 10_000)
                token = {"Authorization": f"Bearer {app.state.cloud.token.decode()}"}
                texts.append(httpx.post(f"{url}/weights", headers=token, content=body).text)
            texts.append(asked.get("embedding", "123, 45")[:40])
    hidden = texts.pop(), texts.pop(len(texts) // 2)
    written = caplog.text + "".join(capfd.readouterr()) + "".join(texts)
    assert "declined: 409 other_model" in caplog.text
    for text in (*hidden, "123, 45", "123,45", app.state.cloud.token.decode()):
        assert text not in written


def test_what_a_failure_says_holds_no_clicks_either(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    app = create_app(small_cloud.folder())

    def broken(rows: Any) -> np.ndarray:
        raise ArithmeticError("out of order")

    monkeypatch.setattr(app.state.cloud.batcher, "work", broken)
    with running(app) as url:
        one = device(url, app, upload="clicks")
        assert one.start_session([123, 45, 123, 67]).why.startswith("status_500")
    written = "".join(capfd.readouterr())
    assert "out of order" in written
    assert "123" not in written.replace("line 123", "")


def test_health_says_who_serves_and_what_has_happened(app: FastAPI) -> None:
    with running(app) as url:
        before = httpx.get(f"{url}/health").json()
        device(url, app).start_session(HISTORY)
        after = httpx.get(f"{url}/health").json()
    assert (after["model"], after["version"]) == ("sasrec-duet", 1)
    assert after["counts"]["answered"] == before["counts"].get("answered", 0) + 1


def test_a_taken_port_is_said(app: FastAPI) -> None:
    with running(app) as url, pytest.raises(OSError, match="is port"):
        with running(app, port=int(url.rsplit(":")[-1])):
            pass
    assert threading.active_count() < 50


def test_it_serves_this_machine_alone_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stub:
        def run(self) -> None:
            pass

    served: list[tuple[str, int]] = []
    monkeypatch.setattr(module, "server", lambda app, *at: served.append(at) or Stub())
    folder = ["--folder", str(small_cloud.folder())]
    module.main(folder)
    module.main([*folder, "--host", "0.0.0.0", "--port", "80"])
    assert served == [("127.0.0.1", 8765), ("0.0.0.0", 80)]


def test_a_folder_without_a_model_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="python -m duetlib.serving.export"):
        create_app(tmp_path)


def test_a_model_with_a_bit_turned_is_not_served(tmp_path: Path) -> None:
    folder = tmp_path / "turned"
    shutil.copytree(small_cloud.folder(), folder)
    file = folder / "cloud" / "model.safetensors"
    held = bytearray(file.read_bytes())
    held[-3] ^= 4  # in the last number
    file.write_bytes(held)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged.*serving\.export` anew"):
        create_app(folder)


def test_an_export_that_was_cut_short_leaves_no_cloud_that_devices_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the old and half of the new would be signed with a key that no device has."""
    folder = tmp_path / "cut"
    shutil.copytree(small_cloud.folder(), folder)

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(exporting, "_write_secret", full)
    model = small_cloud.model("sasrec")
    with pytest.raises(OSError, match="no space left"):
        exporting.export(
            model, folder, small_cloud.SPLIT.train.history, backbone="sasrec", method="duet"
        )
    with pytest.raises(FileNotFoundError, match="python -m duetlib.serving.export"):
        create_app(folder)


def test_a_folder_that_cannot_be_written_is_named_with_what_moves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "load_movielens", lambda name: small_data.interactions())
    monkeypatch.setattr(exporting, "trained", lambda *_: (small_cloud.model("sasrec"), None))
    (tmp_path / "served").write_bytes(b"")  # a file in the folder's place
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUET_SERVED", "served")
    with pytest.raises(SystemExit):
        exporting.main([])
    told = capsys.readouterr().err
    assert f"{tmp_path}/served cannot be written to (" in told and "DUET_SERVED names" in told


def test_what_cannot_be_exported_is_refused_before_it_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "trained", lambda *_, **__: pytest.fail("it trains"))
    with pytest.raises(SystemExit):
        exporting.main(["--method", "base"])
    assert "invalid choice: 'base'" in capsys.readouterr().err


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_file_modes_do_not_depend_on_the_umask(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_onnx", lambda *given: given[2].touch())  # slow, and no matter
    before = os.umask(umask)
    try:
        names = {"backbone": "sasrec", "method": "duet"}
        exporting.export(small_cloud.model(), tmp_path, small_cloud.SPLIT.train.history, **names)
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.rglob("*.*")}
    assert {modes[name] for name in SHIPPED} == {0o644}
    assert modes["secret.json"] == 0o600


def wrong_models() -> dict[str, tuple[dict[str, Any], str]]:
    """What `export` is given in place of the right thing, and what it says."""
    broken, history = small_cloud.model(), small_cloud.SPLIT.train.history
    with torch.no_grad():
        broken.source.adjust[0].bias.fill_(math.nan)  # type: ignore[union-attr, operator, index]
    return {
        "another backbone": ({"backbone": "din"}, "not built as 'din', 'duet'"),
        "another method": ({"method": "duet_no_swa"}, "not built as"),
        "no such backbone": ({"backbone": "bert"}, "bert"),
        "no PPG": ({"method": "base", "model": build("sasrec", "base", 140)}, "no PPG|a PPG"),
        "another PPG": ({"n_generators": 2}, "not built as"),
        "double": ({"model": small_cloud.model().double()}, "float32 on the CPU"),
        "half": ({"model": small_cloud.model().half()}, "torch.float16.*float32 on the CPU"),
        "NaN": ({"model": broken}, "not finite"),
        "no histories": ({"histories": history[:0]}, "histories is"),
        "one history": ({"histories": history[0]}, "histories is"),
        "float": ({"histories": history.float()}, "histories is"),
        "unknown items": ({"histories": history + 100}, "item ids up to 140"),
        "negative items": ({"histories": -history}, "item ids up to 140"),
    }


@pytest.mark.parametrize("name", wrong_models())
def test_what_export_cannot_ship_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str
) -> None:
    right = {"model": small_cloud.model(), "histories": small_cloud.SPLIT.train.history}
    names = {"backbone": "sasrec", "method": "duet"}
    changed, said = wrong_models()[name]
    with pytest.raises(ValueError, match=said):
        exporting.export(folder=tmp_path / "out", **{**right, **names, **changed})
    assert not list(tmp_path.iterdir())


def test_another_temperature_is_another_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build("sasrec", "duet", small_cloud.SPLIT.n_items, tau=0.05)
    names = {"backbone": "sasrec", "method": "duet"}
    with pytest.raises(ValueError, match="was not built as"):
        exporting.export(model, tmp_path / "out", small_cloud.SPLIT.train.history, **names)
    assert not list(tmp_path.iterdir())


def test_a_check_before_the_export_draws_no_random_number(tmp_path: Path) -> None:
    model = small_cloud.model()
    torch.manual_seed(1)
    exporting._check(model, small_cloud.SPLIT.train.history, "sasrec", "duet", {})
    after = torch.rand(1)
    torch.manual_seed(1)
    assert after == torch.rand(1)


def test_the_devices_half_holds_no_secret_and_the_clouds_is_its_owners_alone() -> None:
    secret_file = small_cloud.folder() / "cloud" / "secret.json"
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    secret = json.loads(secret_file.read_text())
    shipped = b"".join(file.read_bytes() for file in (small_cloud.folder() / "device").iterdir())
    assert len(bytes.fromhex(secret["key"])) == 32
    for value in secret.values():
        assert value.encode() not in shipped
    assert bytes.fromhex(secret["key"]) not in shipped
