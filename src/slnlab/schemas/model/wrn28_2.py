from slnlab.schemas.base import Count
from slnlab.schemas.config import Model


class Schema(Model):
    depth: Count
    widen_factor: Count
