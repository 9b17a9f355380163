"""Computations in float32, where PyTorch or Lightning would choose less."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

_lock, _inside, _before = threading.Lock(), 0, True


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Compute in the types of the tensors. Lightning's lower precision is around the whole of its training step."""
    inside = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if inside else nullcontext()


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """Compute convolutions of float32 in float32 inside the block, in all threads.

    PyTorch by itself lets cuDNN round their inputs to TF32 on newer GPUs. A caller who has set PyTorch's newer
    `fp32_precision` keeps that choice.
    """
    global _inside, _before
    with _lock:  # the setting is the process's, so the first block sets it and the last one restores it
        try:
            found = torch.backends.cudnn.allow_tf32
        except RuntimeError:  # the newer setting is in use, which this one must not be mixed with
            mixed = True
        else:
            mixed = False
            if not _inside:
                _before = found
            _inside += 1
            torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        if not mixed:
            with _lock:
                _inside -= 1
                if not _inside:
                    torch.backends.cudnn.allow_tf32 = _before
