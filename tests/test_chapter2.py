"""Chapter 2: the checks of its exercises, and the sums behind its figures."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")

from duetbook.checks import chapter2 as check
from duetbook.plots import chapter2 as figures


def pays(cost: Callable[[int, int, int, int], int], latents: bool) -> Callable[..., int]:
    def answer(R: int, N: int, Z: int, d: int) -> int:
        each = Z if latents else 0
        enough = (n for n in range(1, 10_000) if n * each + cost(R, N, Z, d) < n * R * N)
        return next(enough, 0)

    return answer


def test_counting_up_finds_the_same_number_of_blocks() -> None:
    counted = pays(lambda R, N, Z, d: R * d * (Z + 1) + N * (d + 1), latents=True)
    assert check.pays_from(counted).passed


def test_pays_from_is_the_first_cheaper_count() -> None:
    assert figures.pays_from(lambda n: 10 * n, lambda n: 20 + n, most=100) == 3
    assert figures.pays_from(lambda n: 10 * n, lambda n: 18 + n, most=100) == 3  # 20 = 20 at 2
    assert figures.pays_from(lambda n: n, lambda n: n + 1, most=100) is None
