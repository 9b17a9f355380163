from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slnlab.schema.kinds import CountOrZero, NoiseRate, NonNegative
from slnlab.schema.sections import Method


class Schema(Method):
    reset_optimizer_each_epoch: bool
    forget_rate: NoiseRate
    ramp_epochs: CountOrZero
    gamma: NonNegative
    bad_fraction: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
