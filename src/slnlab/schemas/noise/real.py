from typing import Annotated

from slnlab.schemas.base import NothingDrawn, unused
from slnlab.schemas.config import Noise


class Schema(Noise):
    rate: Annotated[float, unused("nobody knows how many of these labels are wrong; leave it at 0")]
    seed: NothingDrawn
