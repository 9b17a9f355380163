from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slnlab.schema.kinds import NonNegative, Positive, Steps
from slnlab.schema.sections import Method

_Decay = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class Schema(Method):
    reset_optimizer_each_epoch: bool
    strength: NonNegative
    decay: _Decay
    alpha: Positive
    average_decay: _Decay
    ramp_steps: Steps
    ramp_regulariser: bool
    weight_labels_by_target: bool
