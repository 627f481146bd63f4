"""Chapter 9: its exercises' checks, and the sums behind its figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from duetbook.checks import chapter9 as check
from duetbook.plots import chapter9 as figures
from exercises import checks

from duetlib import latency
from duetlib.latency import Link, slow_start_ms, transfer_ms

CHAPTER = "09_device_and_cloud_on_paper"
CHECKS = checks(CHAPTER)


def log_bursts(n_bytes: int) -> int:
    return max(1, math.ceil(math.log2(math.ceil(n_bytes / 1460) / 10)) + 1)


def from_one(n_bytes: int) -> int:
    left, burst, count = math.ceil(n_bytes / 1460), 1, 0
    while left > 0:
        left, burst, count = left - burst, 2 * burst, count + 1
    return count


def waits(n: int, bandwidth: float, trip: float, slow: bool = True) -> float:
    standing = slow_start_ms(n, Link(bandwidth, trip)) if slow else 0
    return trip + transfer_ms(n, bandwidth) + standing


WRONG: list[tuple[str, str, Callable[..., Any]]] = [
    ("table_ms", "thousand", lambda n, b: n / 1e3 / b),
    ("table_ms", "consistent", lambda n, b: n / 2**20 / b * 1e3),
    ("table_ms", "seconds", lambda n, b: n / 1024 / b / 1e3),
    ("table_ms", "bits", lambda n, b: 8 * n / 1024 / b),
    ("bursts", "never_doubles", lambda n: math.ceil(n / 14_600)),
    ("bursts", "last_alone", log_bursts),
    ("bursts", "waits", lambda n: latency.slow_start_rounds(n) - 1),
    ("bursts", "from_one", from_one),
    ("most_requests", "random", lambda s, w: 1e3 * w / (s + w) / s),
    ("most_requests", "load", lambda s, w: w / (s / 2 + w)),
    ("most_requests", "per_ms", lambda s, w: w / (s / 2 + w) / s),
    ("most_requests", "full", lambda s, w: 1e3 / s),
    ("saved_by_half", "bytes_alone", lambda n, b, t: 0.5),
    (
        "saved_by_half",
        "no_slow_start",
        lambda n, b, t: 1 - waits(n // 2, b, t, False) / waits(n, b, t, False),
    ),
    ("saved_by_half", "of_the_half", lambda n, b, t: waits(n, b, t) / waits(n // 2, b, t) - 1),
    ("saved_by_half", "what_is_left", lambda n, b, t: waits(n // 2, b, t) / waits(n, b, t)),
    ("saved_by_half", "milliseconds", lambda n, b, t: waits(n, b, t) - waits(n // 2, b, t)),
]


@pytest.mark.parametrize(("name", "mistake", "answer"), WRONG)
def test_usual_mistakes_are_named(name: str, mistake: str, answer: Callable[..., Any]) -> None:
    assert CHECKS[name](answer).name == mistake


def test_the_answer_to_exercise_3_keeps_the_wait() -> None:
    def rate(service: float, wait: float) -> float:
        return 1000 * (2 * wait / (service + 2 * wait)) / service

    assert check.most_requests(rate).passed
    assert latency.queue_ms(rate(0.8, 2.0) * 0.8 / 1000, 0.8) == pytest.approx(2.0)


# --- figures -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_figures_left() -> Any:
    yield
    plt.close("all")


def words() -> str:
    return " ".join(text.get_text() for text in plt.gca().texts)


def test_the_picture_of_the_exchange_names_every_step() -> None:
    figures.where_we_are()
    for step in ("cloud", "device", "TCP and TLS", "queue", "generate", "pack", "unpack", "rank"):
        assert step in words(), step


def test_table_3_shows_every_printed_cell_and_ours_where_it_differs() -> None:
    cells = latency.table_3()
    figures.table_3(cells)
    shown = [text.get_text() for text in plt.gca().texts]
    for mark, verdict in (("✓", "agrees"), ("≈", "rounding"), ("✗", "cannot be right")):
        printed = sorted(cell.printed for cell in cells if cell.verdict == verdict)
        assert sorted(text[2:] for text in shown if text.startswith(mark)) == printed
    assert sum(text.startswith("ours") for text in shown) == 18
    assert "ours 1.65ms" in shown and "ours 23µs" in shown and "ours 0.106s" in shown


def test_slow_start_is_a_staircase_that_ends_when_the_formula_says() -> None:
    n_bytes, link = 3_211_264, Link(15, 30)
    figures.slow_start(n_bytes, link)
    tcp, straight = plt.gca().lines
    end = transfer_ms(n_bytes, 15) + slow_start_ms(n_bytes, link)
    assert tcp.get_xdata()[-1] == pytest.approx(end)
    assert straight.get_xdata()[-1] == pytest.approx(transfer_ms(n_bytes, 15))
    for line in (tcp, straight):
        assert line.get_ydata()[-1] == pytest.approx(n_bytes / 1e6)


def test_queue_draws_means_and_tails_of_what_it_is_given() -> None:
    given = [np.array([0.0, 1.0, 2.0]), np.array([1.0, 5.0, 9.0])]
    figures.queue((0.3, 0.8), given)
    random, fixed, means, tail = plt.gca().lines
    assert list(means.get_ydata()) == [1.0, 5.0]
    assert list(tail.get_ydata()) == pytest.approx([1.98, 8.92])
    assert np.allclose(random.get_ydata(), 2 * np.asarray(fixed.get_ydata()))


def test_terms_are_bars_in_order_and_coloured_by_what_the_table_counts() -> None:
    parts = latency.delay(120, 8448, Link(5, 50), cloud={"generate": 2.0})
    figures.terms({"one": parts, "two": {**parts, "generate": math.nan}})
    assert "not measured" in words()
    ax = plt.gcf().axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(parts)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(
        [max(value, 1e-4) for value in parts.values()]
    )
    colors = dict(zip(parts, (bar.get_edgecolor() for bar in ax.patches), strict=True))
    counted = {colors[name] for name in latency.IN_TABLE_3}
    assert len(counted) == 1
    assert all(colors[n] not in counted for n in parts if n not in latency.IN_TABLE_3)


def test_delay_map_has_lines_where_the_wait_is_as_labelled() -> None:
    figures.delay_map({"small": (120, 8448)})
    (ax,) = plt.gcf().axes
    labels = {text.get_text(): text.get_position() for text in ax.texts}
    assert {"10 ms", "100 ms"} <= set(labels)
    for label, (bandwidth, trip) in labels.items():
        terms = latency.delay(120, 8448, Link(bandwidth, trip), connected=True)
        assert latency.total_ms(terms) == pytest.approx(float(label.split()[0]), rel=0.03)


def test_wait_by_size_is_flat_and_then_steps() -> None:
    figures.wait_by_size({"fast": Link(100, 50)}, {"here": 8448})
    line = plt.gca().lines[0]
    sizes, ms = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert np.ptp(ms[sizes <= 14_600]) < 1 and ms[sizes > 14_600][0] > 99
    assert "here" in words()
