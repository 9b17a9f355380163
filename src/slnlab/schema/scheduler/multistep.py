from slnlab.schema.kinds import Count, Positive
from slnlab.schema.sections import Scheduler


class Schema(Scheduler):
    milestones: list[Count]
    gamma: Positive
