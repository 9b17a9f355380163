from typing import Literal

from slnlab.schemas.base import Positive
from slnlab.schemas.config import Logger


class Schema(Logger):
    mode: Literal["online", "offline", "disabled"]
    project: str
    entity: str | None
    tags: list[str]
    timeout: Positive
