from typing import Annotated

from pydantic import Field

from slnlab.schema.method.ce import Schema as CE


class Schema(CE):
    alpha: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
