"""Long tests of cloud and device, run by `make stress` alone: fuzz, and ten minutes of load."""

from __future__ import annotations

import base64
import os
from collections import Counter
from pathlib import Path
from typing import Any

import bench_cloud
import pytest
import schemathesis
import small_cloud
import torch
from duetbook.faults import Forger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import negative_data_rejection, positive_data_acceptance
from schemathesis.generation import GenerationMode
from test_faults import fuzz

from duetlib.dynamic import Layer
from duetlib.serving.cloud import create_app
from duetlib.serving.device import Device

pytestmark = pytest.mark.stress
SOAK_SECONDS = float(os.environ.get("DUET_SOAK_SECONDS", "600"))


def test_of_100000_fuzzed_messages_none_is_used_that_should_not_be() -> None:
    counts = fuzz(100_000, Forger(small_cloud.folder()), seed=1)
    assert counts["sessions"] >= 50_000


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_the_service_answers_whatever_its_own_description_suggests(mode: GenerationMode) -> None:
    """Requests made from the OpenAPI, for it and against it; never 500, never a surprise.

    A random model and hash are not ours (409), so some requests are given the right ones, and
    clicks or an embedding of about the right kind.
    """
    app = create_app(small_cloud.folder())
    cloud, statuses = app.state.cloud, Counter[int]()
    api = schemathesis.openapi.from_asgi("/openapi.json", app)
    bearer = {"Authorization": f"Bearer {cloud.token.decode()}"}
    ours = {"version": 1, "model": cloud.contract.model, "static": cloud.contract.static}
    (operation,) = (found.ok() for found in api.get_all_operations() if found.ok().method == "post")

    some = st.lists(st.integers(0, 150), min_size=1, max_size=12)
    code = st.binary(min_size=120, max_size=132).map(lambda b: base64.b64encode(b).decode())
    near = st.none() | some.map(lambda v: {"clicks": v}) | code.map(lambda v: {"embedding": v})

    @settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), near=near)
    def check(case: Any, near: dict[str, Any] | None) -> None:
        if near and mode is GenerationMode.POSITIVE:
            case.body.update({**ours, "clicks": None, "embedding": None, **near})
        answer = case.call(headers=bearer)
        statuses[answer.status_code] += 1
        # The tool does not know that 413 refuses, nor that a stranger's hash is refused by 409.
        refused = [negative_data_rejection] if answer.status_code == 413 else []
        excluded = [positive_data_acceptance, *refused]
        case.validate_response(answer, excluded_checks=excluded)

    check()
    print(f"{mode.value}: {dict(statuses)}")
    assert sum(statuses.values()) > 500
    assert 422 in statuses
    assert mode is GenerationMode.NEGATIVE or {200, 409} <= set(statuses)


@pytest.mark.parametrize("backbone", ["gru4rec", "din_concat"])
def test_scores_agree_with_torch_for_the_other_backbones(backbone: str) -> None:
    folder, model = small_cloud.folder(backbone), small_cloud.model(backbone)
    maker = Forger(folder)
    device = Device(folder / "device", lambda request, limit: maker.message(request))
    generator = torch.Generator().manual_seed(0)
    for n_clicks in range(1, 11):
        clicks = torch.randint(1, 141, (n_clicks,), generator=generator).tolist()
        session = device.start_session(clicks)
        assert session.source == "fresh", session.why
        layers = session.layers
        answer = device.rank(clicks, range(1, 101))
        named = {name: torch.tensor(array) for name, array in layers.items()}
        pairs = range(len(named) // 2)
        own = [Layer(named[f"{n}.weight"], named[f"{n}.bias"]) for n in pairs]
        with torch.no_grad():
            scores = model.rank(torch.tensor([clicks]), torch.tensor(answer.ids)[None], own)[0]
        assert float((torch.tensor(answer.scores) - scores).abs().max()) < 1e-5


def test_ten_minutes_at_half_the_peak_leave_memory_flat_and_no_error(tmp_path: Path) -> None:
    bench_cloud.untrained(tmp_path)
    rows = list(bench_cloud.soak(tmp_path, SOAK_SECONDS))
    for row in rows:
        print(row)
        assert row["errors"] == 0
        assert row["rate"] > 0.35 * row["peak"]
    first, *later = [row["memory_mb"] for row in rows]  # the first slice warms up
    assert max(later) - first < 5
