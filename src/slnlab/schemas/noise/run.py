from typing import Any

from slnlab.schemas.base import ExistingPath, Zero
from slnlab.schemas.config import Noise


class Schema(Noise):
    rate: Zero
    path: ExistingPath
    donor: dict[str, Any] | None
