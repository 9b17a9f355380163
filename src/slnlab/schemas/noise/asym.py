from typing import Any

from slnlab.schemas.config import Noise


class Schema(Noise):
    class_map: Any  # what it may be depends on the data set: `slnlab.schemas.config.class_map_errors`
