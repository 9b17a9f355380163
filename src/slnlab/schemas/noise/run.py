from typing import Any

from slnlab.schemas.base import Zero
from slnlab.schemas.config import Noise


class Schema(Noise):
    rate: Zero
    path: str
    donor: dict[str, Any] | None
