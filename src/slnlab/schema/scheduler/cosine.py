from slnlab.schema.kinds import Count, NonNegative
from slnlab.schema.sections import Scheduler


class Schema(Scheduler):
    T_max: Count
    eta_min: NonNegative
