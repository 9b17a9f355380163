from typing import Literal

from slnlab.schema.kinds import ExistingPath, NothingDrawn, RateOfFile
from slnlab.schema.sections import Noise


class Schema(Noise):
    rate: RateOfFile
    seed: NothingDrawn
    path: ExistingPath
    annotation: Literal["aggre", "worse", "random1", "random2", "random3", "noisy"]
