"""The precision of the objectives."""

from __future__ import annotations

import torch
from torch import Tensor


def in_full(outputs: Tensor) -> Tensor:
    """Outputs in float16 or bfloat16 as float32, since these have no number between 0.999 and 1; others unchanged."""
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
