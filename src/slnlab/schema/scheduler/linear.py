from typing import Annotated

from pydantic import Field

from slnlab.schema.kinds import Count, CountOrZero
from slnlab.schema.sections import Scheduler


class Schema(Scheduler):
    constant_epochs: CountOrZero
    total_epochs: Count
    beta1: Annotated[float, Field(ge=0, lt=1)] | None
