from typing import Annotated

from slnlab.schema.kinds import NothingDrawn, unused
from slnlab.schema.sections import Noise


class Schema(Noise):
    rate: Annotated[float, unused("nobody knows how many of these labels are wrong; leave it at 0")]
    seed: NothingDrawn
