from typing import Annotated, Literal

from pydantic import Field

from slnlab.schema.kinds import NonNegative
from slnlab.schema.method.sop import Schema as SOP


class Schema(SOP):
    consistency: NonNegative
    balance: NonNegative
    cutout: Annotated[int, Field(ge=0, multiple_of=2)]
    view2_norm: Literal["own", "cifar10"]
