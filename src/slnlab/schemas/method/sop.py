from slnlab.schemas.base import NonNegative
from slnlab.schemas.method.ce import Schema as CE


class Schema(CE):
    lr_u: NonNegative
    lr_v: NonNegative
