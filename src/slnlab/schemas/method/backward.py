from typing import Annotated

from pydantic import Field

from slnlab.schemas.method.forward import Schema as Forward


class Schema(Forward):
    clip: Annotated[float, Field(gt=0, lt=0.5, allow_inf_nan=False)] | None
