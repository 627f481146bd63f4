"""Chapter 1: what its checks call wrong, and how sizes are written."""

from __future__ import annotations

from duetbook.plots import chapter1 as plots


def test_sizes_are_written_for_a_reader():
    assert [plots.size(n) for n in (120, 8448, 3 * 2**20)] == ["120 bytes", "8.25 KiB", "3.00 MiB"]
