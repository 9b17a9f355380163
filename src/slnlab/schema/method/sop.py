from slnlab.schema.kinds import NonNegative
from slnlab.schema.method.ce import Schema as CE


class Schema(CE):
    lr_u: NonNegative
    lr_v: NonNegative
