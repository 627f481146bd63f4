"""What every chapter begins with: a seed, a style, a device."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

import torch

from data_prep.arguments import check_seed, whole
from duetbook.plots import use_style


def start(seed: int = 0) -> torch.device:
    """Seed PyTorch, set the style of figures, and choose the device: `cuda` if there is one.

    Prints one line that says what was chosen.
    """
    check_seed(seed)
    torch.manual_seed(seed)
    use_style()
    # pooch would draw its progress bar by a widget that we do not install, and says so on stderr
    warnings.filterwarnings("ignore", message="IProgress not found")
    # The layers of this book are small: a second thread gains little, and where the machine is
    # busy, the threads' waiting for each other costs many times the work.
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"PyTorch {torch.__version__} on {name}, seed {seed}")
    return device


def median_ms(work: Callable[[], object], device: torch.device, repeat: int = 20) -> float:
    """Median wall-clock milliseconds of a piece of work, the device being waited for each time."""

    def once() -> float:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 1e3 * (time.perf_counter() - started)

    whole(1, repeat=repeat)
    once(), once()  # the first calls set things up
    return statistics.median(once() for _ in range(repeat))
