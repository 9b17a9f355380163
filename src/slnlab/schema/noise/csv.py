from slnlab.schema.kinds import ExistingPath, NothingDrawn, RateOfFile
from slnlab.schema.sections import Noise, NoiseKind


class Schema(Noise):
    rate: RateOfFile
    seed: NothingDrawn
    path: ExistingPath
    like: NoiseKind | None
