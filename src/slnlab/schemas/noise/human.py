from typing import Literal

from slnlab.schemas.base import ExistingPath, NothingDrawn, RateOfFile
from slnlab.schemas.config import Noise


class Schema(Noise):
    rate: RateOfFile
    seed: NothingDrawn
    path: ExistingPath
    annotation: Literal["aggre", "worse", "random1", "random2", "random3", "noisy"]
