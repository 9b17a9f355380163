from typing import Annotated

from pydantic import Field

from slnlab.schema.sections import Loss


class Schema(Loss):
    log_zero: Annotated[float, Field(lt=0, allow_inf_nan=False)]
