from slnlab.schema.kinds import NonNegative, Rate
from slnlab.schema.method.ce import Schema as CE


class Schema(CE):
    strength: NonNegative
    decay: Rate
