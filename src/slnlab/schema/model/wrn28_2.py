from slnlab.schema.kinds import Count
from slnlab.schema.sections import Model


class Schema(Model):
    depth: Count
    widen_factor: Count
