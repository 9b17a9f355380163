from slnlab.schemas.config import Noise


class Schema(Noise):
    class_map: dict[str | int, str | int] | str
