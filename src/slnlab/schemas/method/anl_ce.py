from slnlab.schemas.base import NonNegative, Positive
from slnlab.schemas.method.ce import Schema as CE


class Schema(CE):
    l1: NonNegative
    clip_norm: Positive
