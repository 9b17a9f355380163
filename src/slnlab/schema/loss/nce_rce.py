from slnlab.schema.kinds import NonNegative
from slnlab.schema.loss.reverse_ce import Schema as ReverseCE


class Schema(ReverseCE):
    alpha: NonNegative
    beta: NonNegative
