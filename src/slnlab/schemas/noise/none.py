from typing import Literal

from slnlab.schemas.config import Noise


class Schema(Noise):
    rate: Literal[0.0]
