from typing import Annotated

from pydantic import Field

from slnlab.schema.kinds import Count
from slnlab.schema.sections import Model


class Schema(Model):
    widths: Annotated[list[Count], Field(min_length=4, max_length=4)]
