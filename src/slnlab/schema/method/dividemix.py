from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slnlab.schema.kinds import Count, CountOrZero, NonNegative, Positive
from slnlab.schema.sections import Method


class Schema(Method):
    reset_optimizer_each_epoch: bool
    warm_up_epochs: CountOrZero
    warm_up_penalty: NonNegative
    threshold: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
    average_losses: Count
    temperature: Positive
    alpha: Positive
    lambda_u: NonNegative | None
    lambda_u_ramp: CountOrZero
