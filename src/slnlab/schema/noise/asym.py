from typing import Any

from slnlab.schema.sections import Noise


class Schema(Noise):
    class_map: Any  # what it may be depends on the data set: `slnlab.schema.sections.class_map_errors`
