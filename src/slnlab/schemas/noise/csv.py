from slnlab.schemas.base import ExistingPath, NothingDrawn, RateOfFile
from slnlab.schemas.config import Noise, NoiseKind


class Schema(Noise):
    rate: RateOfFile
    seed: NothingDrawn
    path: ExistingPath
    like: NoiseKind | None
