from typing import Annotated, Literal

from pydantic import Field

from slnlab.schema.method.ce import Schema as CE


class Schema(CE):
    prediction: Literal["soft", "hard"]
    label_weight: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
