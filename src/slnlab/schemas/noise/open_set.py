from typing import Any

from slnlab.schemas.config import Noise


class Schema(Noise):
    donor: dict[str, Any]
