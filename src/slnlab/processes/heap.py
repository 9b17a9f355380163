"""The memory that the C library keeps for this process."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
LARGEST = 2**31 - 1
LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""The largest that glibc allows on 64-bit systems, in bytes."""


def keep_freed_memory() -> None:
    """Let the process keep the memory that it frees, so that the next training step finds it.

    By default glibc returns it to the system, which clears every page before it hands the page out again. This took up
    to a quarter of the CPU time of a step. Blocks of 32 MiB and more, such as images of a data set, still return. The
    bits of a run stay the same. Settings in the environment have priority; other C libraries stay as they are.
    """
    set_by_user = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if sys.platform != "linux" or set_by_user:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, LARGEST)
