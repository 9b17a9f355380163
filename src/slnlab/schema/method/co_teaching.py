from __future__ import annotations

from slnlab.schema.kinds import CountOrZero, NoiseRate
from slnlab.schema.sections import Method


class Schema(Method):
    reset_optimizer_each_epoch: bool
    forget_rate: NoiseRate
    ramp_epochs: CountOrZero
