from typing import Annotated, Literal

from pydantic import Field

from slnlab.schema.kinds import Count
from slnlab.schema.method.ce import Schema as CE


class Schema(CE):
    truncation: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
    first_pruning: Count | None
    pruning_every: Count
    views: Literal["augmented", "clean"]
