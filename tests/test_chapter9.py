"""Chapter 9: its exercises' checks, and the sums behind its figures."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import pytest
from duetbook.checks import chapter9 as check

from duetlib import latency


def test_the_answer_to_exercise_3_keeps_the_wait() -> None:
    def rate(service: float, wait: float) -> float:
        return 1000 * (2 * wait / (service + 2 * wait)) / service

    assert check.most_requests(rate).passed
    assert latency.queue_ms(rate(0.8, 2.0) * 0.8 / 1000, 0.8) == pytest.approx(2.0)
