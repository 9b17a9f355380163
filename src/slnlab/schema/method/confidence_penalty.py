from slnlab.schema.kinds import NonNegative
from slnlab.schema.method.ce import Schema as CE


class Schema(CE):
    strength: NonNegative
