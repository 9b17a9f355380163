from slnlab.schemas.base import Zero
from slnlab.schemas.config import Noise


class Schema(Noise):
    rate: Zero
    path: str
