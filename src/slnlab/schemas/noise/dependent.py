from slnlab.schemas.config import Noise


class Schema(Noise):
    probabilities: str | None
    clean_run: list[str]
