"""Milliseconds on paper: Table 3, and the terms it leaves out, each counted in another way too."""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque

import numpy as np
import pytest
import torch
from torch import nn

from duetlib import latency
from duetlib.evidence import paper
from duetlib.latency import Link, payload_bytes
from duetlib.methods import build
from duetlib.metrics import count_parameters

# --- Table 3 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["din", "sasrec", "gru4rec"])
def test_recommenders_layers_are_as_large_as_the_models_say(backbone: str) -> None:
    layers = build(backbone, "duet", 20).layers(torch.tensor([[3, 5, 0, 0]]))
    n_bytes = sum(tensor.nbytes for layer in layers for tensor in layer)
    assert n_bytes == latency.readings("ml-1m", "layers")[0].n_bytes == 8_448
    assert tuple(build(backbone, "duet", 20).source.shapes) == latency.RECOMMENDER


@pytest.mark.parametrize("name", latency.MOBILENET)
def test_mobilenet_s_layers_are_as_large_as_modules(name: str) -> None:
    (c_in, c_out), *dense = latency.MOBILENET[name]
    layers = [nn.Conv2d(c_in, c_out, 1, bias=False)]
    layers += [nn.Linear(*shape, bias=False) for shape in dense]
    count = sum(count_parameters(layer) for layer in layers)
    assert latency.payload_bytes(latency.MOBILENET[name], bias=False) == 4 * count
    assert count == {"mobilenet_v3_large": 1_392_640, "mobilenet_v3_small": 802_816}[name]


def test_units_as_table_3_counts_them() -> None:
    assert latency.as_counted(2048, "KB") == 2 and latency.as_counted(3 * 2**20, "MB") == 3
    assert latency.as_counted(10 * 1024, "ms", 5) == 2  # 10 KB at 5 MB/s
    assert latency.as_counted(10 * 2**20, "s", 5) == 2
    with pytest.raises(ValueError, match="unit 'GB' is not one of"):
        latency.as_counted(1, "GB")


@pytest.mark.parametrize(
    ("printed", "values", "verdict"),
    [
        ("5.13ms", [5.1268], "agrees"),
        ("0.003ms", [0.0025], "agrees"),  # right between two: either may be printed
        ("0.16ms", [0.165], "agrees"),
        ("0.10s", [0.10625], "rounding"),  # 0.11, had it been rounded
        ("0.10s", [0.0941], "cannot be right"),  # 0.09 rounded or cut off
        ("8.06KB", [8.25, 8.0566], "cannot be right"),
    ],
)
def test_verdicts(printed: str, values: list[float], verdict: str) -> None:
    assert latency.judge(printed, values, ["first", "second"][: len(values)]).verdict == verdict


def test_a_verdict_names_the_reading_that_fits() -> None:
    assert latency.judge("2.00KB", [1, 3, 2.004], "abc").why == "c"
    assert latency.judge("2.00KB", [1, 3], "ab").why == "no reading of ours gives it"


def test_table_3_by_hand() -> None:
    ours = {(c.row, c.part, c.column): (c.printed, c.ours, c.verdict) for c in latency.table_3()}
    assert len(ours) == 60
    assert Counter(v for _, _, v in ours.values()) == {
        "agrees": 42,
        "cannot be right": 17,
        "rounding": 1,
    }
    expected = {
        ("mobilenet_v3_large", "layers", "5 MB/s"): ("1.06s", 5.3125 / 5, "agrees"),
        ("mobilenet_v3_large", "layers", "50 MB/s"): ("0.10s", 5.3125 / 50, "rounding"),
        ("mobilenet_v3_small", "samples", "15 MB/s"): ("0.01s", 147 / 1024 / 15, "agrees"),
        ("ml-1m", "samples", "size"): ("25.63KB", 120 / 1024, "cannot be right"),
        ("ml-1m", "embedding", "size"): ("8.06KB", 0.25, "cannot be right"),
        ("ml-1m", "embedding", "5 MB/s"): ("0.05ms", 0.05, "agrees"),
        ("ml-100k", "layers", "15 MB/s"): ("0.53ms", 8.25 / 15, "cannot be right"),
    }
    for key, (printed, value, verdict) in expected.items():
        assert ours[key] == (printed, pytest.approx(value), verdict), key


def test_every_cell_is_explained() -> None:
    assert all(cell.why != "no reading of ours gives it" for cell in latency.table_3())


def test_one_hot_uploads_follow_from_the_rows_of_table_1() -> None:
    for dataset, in_kb in (("ml-1m", 25.63), ("ml-100k", 7.32)):
        words = 30 * paper.ROWS[dataset] / 32
        assert words / 1024 == pytest.approx(in_kb, abs=0.005)
        assert latency.readings(dataset, "samples")[1].n_bytes == words


def test_no_size_explains_the_recommenders_download_and_its_times() -> None:
    size, *times = (paper.amount(cell) for cell in paper.TABLE_3["ml-1m", "layers"])
    least = max((t.value - t.digit / 2) * b for t, b in zip(times, paper.BANDWIDTHS, strict=True))
    most = min((t.value + t.digit / 2) * b for t, b in zip(times, paper.BANDWIDTHS, strict=True))
    assert least < 8.0 < most < size.value - size.digit / 2


def test_delays_of_tables_1_and_2_are_the_last_column_of_table_3() -> None:
    for row, printed in (("ml-1m", 0.34), ("ml-100k", 0.15)):
        assert latency.delay_from_table_3(row) == pytest.approx(printed)
    for row in ("ml-1m", "ml-100k", *latency.MOBILENET):
        printed = paper.amount(paper.TIME_DELAY[row, "duet"]).value
        assert latency.delay_from_table_3(row) == pytest.approx(printed)


# --- what the table leaves out -------------------------------------------------------------------


def test_bytes_over_bandwidth() -> None:
    assert latency.transfer_ms(5_000_000, 5) == 1000
    assert latency.transfer_ms(payload_bytes(latency.RECOMMENDER), 5) == pytest.approx(1.6896)


def test_bursts_by_counting_down() -> None:
    for n_bytes in [0, 1, 14_600, 14_601, 43_800, 43_801, 5_570_560, *range(1, 200_000, 777)]:
        left, burst, count = n_bytes, 10 * 1460, 0
        while left > 0:
            left, burst, count = left - burst, 2 * burst, count + 1
        assert latency.slow_start_rounds(n_bytes) == count, n_bytes


def last_byte_leaves(segments: int, link: Link) -> float:
    """TCP segment by segment: every answer lets one more segment be under way at once."""
    one, clock, window = 1460 / (1000 * link.bandwidth), 0.0, 10
    answers: deque[float] = deque()
    for _ in range(segments):
        while answers and answers[0] <= clock + 1e-9:
            answers.popleft()
            window += 1
        if len(answers) >= window:
            clock = answers.popleft()
            window += 1
        clock += one
        answers.append(clock + link.round_trip)
    return clock


@pytest.mark.parametrize(
    ("bandwidth", "trip"), [(5, 10), (5, 50), (15, 100), (100, 1), (100, 50), (0.5, 20)]
)
def test_slow_start_as_a_simulation_of_every_segment_has_it(bandwidth: float, trip: float) -> None:
    link = Link(bandwidth, trip)
    for segments in (1, 10, 11, 30, 31, 100, 2200, 3816):
        n_bytes = 1460 * segments
        formula = latency.transfer_ms(n_bytes, bandwidth) + latency.slow_start_ms(n_bytes, link)
        assert formula == pytest.approx(last_byte_leaves(segments, link)), segments


def test_a_faster_link_stands_still_longer() -> None:
    waits = [latency.slow_start_ms(3_000_000, Link(b, 50)) for b in (1, 5, 15, 50, 100)]
    assert all(a < b for a, b in itertools.pairwise(waits))


def test_terms_of_the_delay() -> None:
    link = Link(bandwidth=5, round_trip=50)
    terms = latency.delay(120, 8448, link, cloud={"generate": 2.0}, device={"rank": 3.0})
    assert list(terms) == [
        "TCP set-up",
        "TLS 1.3 set-up",
        "round trip",
        "upload: bytes",
        "upload: slow start",
        "generate",
        "download: bytes",
        "download: slow start",
        "rank",
    ]
    assert latency.total_ms(terms) == pytest.approx(150 + 0.024 + 1.6896 + 5)
    unknown = latency.delay(120, 8448, link, cloud={"generate": math.nan})
    assert math.isnan(unknown["generate"])  # not measured, and still a term
    later = latency.delay(120, 8448, link, connected=True)
    assert latency.total_ms(later) == pytest.approx(50 + 0.024 + 1.6896)
    assert set(latency.IN_TABLE_3) < set(later)


@pytest.mark.parametrize(("bandwidth", "trip"), [(5, 10), (100, 50), (1, 3)])
def test_the_size_that_matters_by_trying_all(bandwidth: float, trip: float) -> None:
    link = Link(bandwidth, trip)

    def wait(download: int) -> float:
        bytes_ms = (120 + download) / (1000 * bandwidth)
        return trip + bytes_ms + latency.slow_start_ms(download, link)

    first = next(n for n in range(20_000) if wait(n) > 1.1 * wait(0))
    assert latency.size_that_matters(link) == first


# --- the queue -----------------------------------------------------------------------------------


def test_queue_formulas_by_hand() -> None:
    assert latency.queue_ms(0.5, 4.0) == 2.0 and latency.queue_ms(0.5, 4.0, "random") == 4.0
    assert latency.queue_ms(0, 4.0) == 0


@pytest.mark.parametrize("load", [1.0, 1.5, -0.1])
def test_an_endless_queue_is_refused(load: float) -> None:
    with pytest.raises(ValueError, match="from 0 to below 1"):
        latency.queue_ms(load, 1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        latency.simulate_queue(load, 1.0, 10)


def test_a_service_that_is_misspelt_is_refused() -> None:
    with pytest.raises(ValueError, match="service is 'Fixed': it must be one of 'fixed', 'random'"):
        latency.queue_ms(0.5, 1.0, "Fixed")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="service is 'Random'"):
        latency.simulate_queue(0.5, 1.0, 10, service="Random")  # type: ignore[arg-type]


@pytest.mark.parametrize("service", ["fixed", "random"])
def test_the_simulation_is_lindley_s_recursion(service: latency.Service) -> None:
    waits = latency.simulate_queue(0.8, 2.0, 500, seed=3, service=service)
    rng = np.random.default_rng(3)
    between = rng.exponential(2.0 / 0.8, 499)
    served = np.full(499, 2.0) if service == "fixed" else rng.exponential(2.0, 499)
    wait, expected = 0.0, [0.0]
    for s, gap in zip(served, between, strict=True):
        wait = max(0.0, wait + s - gap)
        expected.append(wait)
    assert waits == pytest.approx(np.array(expected))


@pytest.mark.parametrize("service", ["fixed", "random"])
@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_simulated_queues_wait_as_long_as_the_formulas(
    load: float, service: latency.Service
) -> None:
    waits = latency.simulate_queue(load, 1.5, 400_000, seed=1, service=service)
    assert waits.mean() == pytest.approx(latency.queue_ms(load, 1.5, service), rel=0.05)
