from typing import Annotated

from slnlab.schema.kinds import NothingDrawn, unused
from slnlab.schema.sections import Noise


class Schema(Noise):
    rate: Annotated[float, unused("noise=none leaves the labels as they are; leave it at 0")]
    seed: NothingDrawn
