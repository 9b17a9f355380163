"""Convolutions on GPUs in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """Compute convolutions of float32 in float32 inside the block.

    PyTorch by itself lets cuDNN round their inputs to TF32 on newer GPUs. A caller who has set PyTorch's newer
    `fp32_precision` keeps that choice.
    """
    try:
        before = torch.backends.cudnn.allow_tf32
    except RuntimeError:  # the newer setting is in use, which this one must not be mixed with
        yield
        return
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
