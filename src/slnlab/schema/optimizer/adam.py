from typing import Annotated

from pydantic import Field

from slnlab.schema.kinds import NonNegative, Rate
from slnlab.schema.sections import Optimizer


class Schema(Optimizer):
    betas: Annotated[list[Rate], Field(min_length=2, max_length=2)]
    weight_decay: NonNegative
