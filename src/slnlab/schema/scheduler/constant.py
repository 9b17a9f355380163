from typing import Annotated, Literal

from pydantic import Field

from slnlab.schema.sections import Scheduler


class Schema(Scheduler):
    factor: Annotated[float, Field(ge=1, le=1)]
    total_iters: Literal[0]
