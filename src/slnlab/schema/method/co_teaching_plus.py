from __future__ import annotations

from typing import Literal

from slnlab.schema.kinds import CountOrZero, NoiseRate
from slnlab.schema.sections import Method


class Schema(Method):
    reset_optimizer_each_epoch: bool
    forget_rate: NoiseRate
    ramp_epochs: CountOrZero
    init_epochs: CountOrZero
    loss_input: Literal["probabilities", "logits"]
