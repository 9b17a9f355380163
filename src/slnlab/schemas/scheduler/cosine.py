from slnlab.schemas.base import Count, NonNegative
from slnlab.schemas.config import Scheduler


class Schema(Scheduler):
    T_max: Count
    eta_min: NonNegative
