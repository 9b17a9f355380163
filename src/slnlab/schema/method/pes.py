from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slnlab.schema.kinds import Count, CountOrZero, Positive
from slnlab.schema.method.ce import Schema as CE


class Schema(CE):
    early_epochs: CountOrZero
    stage_epochs: Count
    classifier_epochs: Count
    refining_lr: Positive
    replaced_parts: Literal["frozen", "trained"]
    last_stage: Annotated[list[str], Field(min_length=1)] | None
    classifier: Annotated[list[str], Field(min_length=1)] | None
