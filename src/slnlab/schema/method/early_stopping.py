from typing import Literal

from slnlab.schema.method.ce import Schema as CE


class Schema(CE):
    criterion: Literal["accuracy", "loss"]
