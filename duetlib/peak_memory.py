"""Memory of this process: freed blocks are kept for the next tensors; and the most it has held.

A generator of ten million numbers has a gradient as large, which is made and freed in every step.
By default the C library hands such blocks back to the system at once, and the system clears every
page of the next one before it is written: on a CPU that took longer than the arithmetic.
"""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


def peak_mb() -> float:
    """The most memory that this process itself has held so far, in MB.

    Linux says it as VmHWM. Its `getrusage` also counts what the parent held when this was started.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+)", status.read_text())):
        return int(found[1]) / 1024
    import resource  # not there on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees, for its next tensors; True if that was done.

    It never shrinks below its peak. Where the C library is not glibc, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
