from math import isfinite
from typing import Annotated, Literal

from pydantic import AfterValidator

from slnlab.image_folder.decoding import Background
from slnlab.schema.kinds import Count, CountOrZero, Positive
from slnlab.schema.sections import Data


def _ascending(pixel_range: list[float]) -> list[float]:
    if not (len(pixel_range) == 2 and all(map(isfinite, pixel_range)) and pixel_range[0] < pixel_range[1]):
        raise ValueError("must be [BLACK, WHITE], two numbers, the smaller one first")
    return pixel_range


class Schema(Data):
    image_size: Count
    sampling: Literal["standard", "balanced"]
    per_class: Count | None
    clean_val: bool
    workers: CountOrZero | None
    unreadable: Literal["refuse", "skip"] = "refuse"
    pixel_range: Annotated[list[float], AfterValidator(_ascending)] | None
    mixed_depths: bool = True
    background: Background
    read_timeout: Positive | None
