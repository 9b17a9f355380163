from typing import Annotated

from pydantic import Field

from slnlab.schema.sections import Loss


class Schema(Loss):
    q: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
