"""Keep freed memory: large tensors that come and go in every training step.

A generator of ten million numbers has a gradient as large, which is made and freed in every step.
By default the C library hands such blocks back to the system at once, and the system clears every
page of the next one before it is written: on a CPU that took longer than the arithmetic.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees, for its next tensors; True if that was done.

    It never shrinks below its peak. Where the C library is not glibc, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
