from typing import Literal

from slnlab.schemas.base import Count, CountOrZero
from slnlab.schemas.config import Data


class Schema(Data):
    image_size: Count
    sampling: Literal["standard", "balanced"]
    per_class: Count | None
    clean_val: bool
    workers: CountOrZero | None
    unreadable: Literal["refuse", "skip"] = "refuse"
