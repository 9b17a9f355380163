from slnlab.schemas.base import NonNegative
from slnlab.schemas.loss.reverse_ce import Schema as ReverseCE


class Schema(ReverseCE):
    alpha: NonNegative
    beta: NonNegative
