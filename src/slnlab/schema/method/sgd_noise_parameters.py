from slnlab.schema.kinds import NonNegative
from slnlab.schema.method.ce import Schema as CE


class Schema(CE):
    gradient_sigma: NonNegative
    per_sample: bool
