from typing import Literal

from slnlab.schemas.config import Scheduler


class Schema(Scheduler):
    factor: Literal[1.0]
    total_iters: Literal[0]
