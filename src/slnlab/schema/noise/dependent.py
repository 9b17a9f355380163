from slnlab.schema.kinds import ExistingPath, NothingDrawn
from slnlab.schema.sections import Noise


class Schema(Noise):
    seed: NothingDrawn
    probabilities: ExistingPath | None
    clean_run: list[str]
