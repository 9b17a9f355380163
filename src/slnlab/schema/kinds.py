"""What every schema is built from."""

from __future__ import annotations

from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Rate = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
"""A noise rate: [0, 1)."""

NoiseRate = Rate | Literal["estimated"]
"""Of a method that needs the noise rate: a number, or estimated from the losses."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


def _known(steps: Any) -> Any:
    if steps is None:
        raise ValueError("must be given, or data.per_class, from which it follows")
    return steps


Steps = Annotated[int, BeforeValidator(_known), Field(ge=1)]
"""Of a run or an epoch; see the resolvers that count them."""


_WORDS = {
    bool: ("true or false", "true or false"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    dict: ("a mapping", "mappings"),
    NoneType: ("null", "null"),
}


def allowed_by(kind: Any, plural: bool = False) -> str:
    """What a type of a schema allows, in words; of many, in the plural.

    >>> allowed_by(NoiseRate)
    "a number in [0, 1), or 'estimated'"
    >>> allowed_by(str | list[str] | None)
    'a string, a list of strings, or null'
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        *others, last = [allowed_by(part, plural) for part in parts]
        return f"{', '.join(others)}, or {last}"
    if origin is Literal:
        return " or ".join(repr(part) for part in parts)
    if origin is list:
        return f"{'lists' if plural else 'a list'} of {allowed_by(parts[0], plural=True)}"
    if origin is Annotated:
        return allowed_by(parts[0], plural) + _interval(*parts[1:])
    words = _WORDS.get(origin or kind)
    return words[plural] if words else str(kind)


def _interval(*annotations: Any) -> str:
    """The bounds of a number, as in ` in [0, 1)`."""
    bounds: dict[str, Any] = {}
    for annotation in annotations:
        for bound in getattr(annotation, "metadata", ()):
            bounds |= {name: getattr(bound, name) for name in ("ge", "gt", "le", "lt") if hasattr(bound, name)}
    if not bounds:
        return ""
    low = f"[{bounds['ge']}" if "ge" in bounds else f"({bounds.get('gt', '-inf')}"
    high = f"{bounds['le']}]" if "le" in bounds else f"{bounds.get('lt', 'inf')})"
    return f" in {low}, {high}"


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
