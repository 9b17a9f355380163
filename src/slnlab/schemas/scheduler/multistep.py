from slnlab.schemas.base import Count, Positive
from slnlab.schemas.config import Scheduler


class Schema(Scheduler):
    milestones: list[Count]
    gamma: Positive
