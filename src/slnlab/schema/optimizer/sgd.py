from typing import Annotated

from pydantic import Field

from slnlab.schema.kinds import NonNegative
from slnlab.schema.sections import Optimizer


class Schema(Optimizer):
    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
    weight_decay: NonNegative
