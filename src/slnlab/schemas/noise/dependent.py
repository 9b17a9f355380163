from slnlab.schemas.base import ExistingPath
from slnlab.schemas.config import Noise


class Schema(Noise):
    probabilities: ExistingPath | None
    clean_run: list[str]
