from typing import Annotated

from pydantic import Field

from slnlab.schema.sections import Loss


class Schema(Loss):
    tau: Annotated[float, Field(ge=1, allow_inf_nan=False)]
