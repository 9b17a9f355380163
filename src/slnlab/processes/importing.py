"""Imports of large libraries without Python's search for garbage. This module imports no torch."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_search(library: str) -> Iterator[None]:
    """Import a library inside the block without a search for garbage, and leave its objects out of later searches.

    Imported modules are never garbage. Python searches all objects whenever their number has grown by a quarter, and
    PyTorch and Lightning create half a million: the searches took a third of a small run. Nothing changes for a
    library that is imported already.
    """
    if library in sys.modules:
        yield
        return
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
