"""What every schema is built from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
"""A noise rate: [0, 1)."""

NoiseRate = Rate | Literal["estimated"]
"""Of a method that needs the noise rate: a number, or estimated from the losses."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


def unused(reason: str) -> AfterValidator:
    """For a key that every option of a group has and this one has no use for: 0, or refused with the reason."""

    def check(value: float) -> float:
        if value != 0:
            raise ValueError(reason)
        return value

    return AfterValidator(check)


NothingDrawn = Annotated[int, unused("this noise draws nothing, so it has no seed; leave it at 0")]
RateOfFile = Annotated[float, unused("the file decides which labels are wrong; leave it at 0")]


def _exists(path: str) -> str:
    if not Path(path).exists():
        raise ValueError("there is no such file or directory")
    return path


ExistingPath = Annotated[str, AfterValidator(_exists)]


class Section(BaseModel):
    """A node of the configuration: exactly these keys, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class Component(Section):
    """A node that names what it builds: `_target_` is a dotted path, `name` the option's file name."""

    target: str = Field(alias="_target_")
    name: str
