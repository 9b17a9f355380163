from typing import Any

from slnlab.schemas.base import ExistingPath, NothingDrawn, RateOfFile
from slnlab.schemas.config import Noise


class Schema(Noise):
    rate: RateOfFile
    seed: NothingDrawn
    path: ExistingPath
    donor: dict[str, Any] | None
