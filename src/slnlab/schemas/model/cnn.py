from typing import Annotated

from pydantic import Field

from slnlab.schemas.base import Count
from slnlab.schemas.config import Model


class Schema(Model):
    widths: Annotated[list[Count], Field(min_length=4, max_length=4)]
