from slnlab.schemas.base import ExistingPath, NothingDrawn
from slnlab.schemas.config import Noise


class Schema(Noise):
    seed: NothingDrawn
    probabilities: ExistingPath | None
    clean_run: list[str]
