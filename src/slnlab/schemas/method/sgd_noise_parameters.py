from slnlab.schemas.base import NonNegative
from slnlab.schemas.method.ce import Schema as CE


class Schema(CE):
    gradient_sigma: NonNegative
    per_sample: bool
