from typing import Annotated

from slnlab.schemas.base import NothingDrawn, unused
from slnlab.schemas.config import Noise


class Schema(Noise):
    rate: Annotated[float, unused("noise=none leaves the labels as they are; leave it at 0")]
    seed: NothingDrawn
