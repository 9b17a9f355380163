from slnlab.schemas.base import NonNegative
from slnlab.schemas.config import Loss


class Schema(Loss):
    alpha: NonNegative
    beta: NonNegative
