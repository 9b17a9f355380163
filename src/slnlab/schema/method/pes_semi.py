from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slnlab.schema.kinds import Count, CountOrZero, NonNegative, Positive, Steps
from slnlab.schema.method.ce import Schema as CE


class Schema(CE):
    early_epochs: CountOrZero
    classifier_epochs: Count
    refining_lr: Positive
    replaced_parts: Literal["frozen", "trained"]
    classifier: Annotated[list[str], Field(min_length=1)] | None
    steps: Steps
    temperature: Positive
    alpha: Positive
    alpha_late: Positive
    lambda_u: NonNegative
    lambda_u_ramp: CountOrZero
    weight_cap: Positive
