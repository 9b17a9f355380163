from typing import Literal

from slnlab.schemas.method.ce import Schema as CE


class Schema(CE):
    criterion: Literal["accuracy", "loss"]
