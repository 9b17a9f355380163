from slnlab.schema.kinds import NonNegative
from slnlab.schema.sections import Loss


class Schema(Loss):
    alpha: NonNegative
    beta: NonNegative
