from slnlab.schemas.base import NonNegative
from slnlab.schemas.method.ce import Schema as CE


class Schema(CE):
    l1: NonNegative
