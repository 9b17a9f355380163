from typing import Any, Literal

from slnlab.schemas.config import Noise


class Schema(Noise):
    rate: Literal[0.0]
    path: str
    donor: dict[str, Any] | None
