"""Types with ranges, for constructors and for the sections of the configuration. No torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Negative = Annotated[float, Field(lt=0, allow_inf_nan=False)]
AboveOne = Annotated[float, Field(gt=1, allow_inf_nan=False)]
OneOrMore = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Classes = Annotated[int, Field(ge=2)]

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""[0, 1]."""

Rate = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
"""A noise rate, a decay: [0, 1)."""

PositiveShare = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
"""(0, 1]."""

Quantile = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
"""A quantile, a threshold of a probability: (0, 1)."""

BelowHalf = Annotated[float, Field(gt=0, lt=0.5, allow_inf_nan=False)]
"""The distance of a probability from 0 and from 1: (0, 0.5)."""

Betas = Annotated[Sequence[Rate], Field(min_length=2, max_length=2)]

NoiseRate = Rate | Literal["estimated", "anchor_points"]
"""The noise rate that a method needs: a number, or estimated from the losses or by anchor points."""

Degrees = Annotated[float, Field(ge=0, le=180, allow_inf_nan=False)]
"""The largest angle of a rotation."""

Augmentation = Literal["crop_flip", "random_resized", "trivial", "randaugment", "none"] | list[dict[str, Any]]
"""The training augmentation by name, or as a list of transforms with a `_target_` each."""

EvenPixels = Annotated[int, Field(ge=0, multiple_of=2)]
"""The even side of a square, in pixels."""

Magnitude = Annotated[int, Field(ge=2, le=10)]
"""The strength of an augmentation."""


def _power_of_two(number: int) -> int:
    if number & (number - 1):
        raise ValueError("must be a power of two")
    return number


PowerOfTwo = Annotated[int, Field(ge=1), AfterValidator(_power_of_two)]

Names = Annotated[Sequence[str], Field(min_length=1)]
"""Names of modules of a network, at least one."""


def _known(steps: Any) -> Any:
    if steps is None:
        raise ValueError("must be given, or data.per_class, from which it follows")
    return steps


Steps = Annotated[int, BeforeValidator(_known), Field(ge=1)]
"""Steps of a run or an epoch, as the resolvers count them: ≥ 1."""


def _ascending(epochs: Sequence[int]) -> Sequence[int]:
    if epochs[0] >= epochs[1]:
        raise ValueError("the second epoch must come after the first")
    return epochs


class Timing(Enum):
    """Marks a kind whose value says when a part of a method begins. A run that ends before is refused."""

    FIRST_PHASE = auto()
    BEGINNING = auto()
    RAMP = auto()


FirstEpochs = Annotated[int, Field(ge=0), Timing.FIRST_PHASE]
"""The number of epochs of a first phase."""

SomeFirstEpochs = Annotated[int, Field(ge=1), Timing.FIRST_PHASE]
"""The same of a first phase that a method cannot do without."""

FirstEpoch = Annotated[int, Field(ge=1), Timing.BEGINNING]
"""The epoch, counted from 1, in which a part of a method begins; None beside it leaves the part out."""

Ramp = Annotated[Sequence[CountOrZero], Field(min_length=2, max_length=2), AfterValidator(_ascending), Timing.RAMP]
"""The first and the last epoch of a ramp. It is at 0 up to the first."""


def timing(kind: Any) -> Timing | None:
    """The mark of a kind, also inside a union; None if it has none."""
    for part in get_args(kind):
        if isinstance(part, Timing):
            return part
        if (inner := timing(part)) is not None:
            return inner
    return None


def _black_and_white(pixel_range: Sequence[float]) -> Sequence[float]:
    if not (len(pixel_range) == 2 and all(map(isfinite, pixel_range)) and pixel_range[0] < pixel_range[1]):
        raise ValueError("must be [BLACK, WHITE], two numbers, the smaller one first")
    return pixel_range


def _one_of_several(fold: Sequence[int]) -> Sequence[int]:
    if not (len(fold) == 2 and fold[1] >= 2 and 0 <= fold[0] < fold[1]):
        raise ValueError("must be [NUMBER, FOLDS], the number from 0 of at least 2 folds")
    return fold


Fold = Annotated[Sequence[int], AfterValidator(_one_of_several)]
"""A fold: its number from 0, and the number of folds."""

ClassNumbers = Annotated[Sequence[CountOrZero], Field(min_length=2)]
"""Numbers of classes, at least two."""

PixelRange = Annotated[Sequence[float], AfterValidator(_black_and_white)]

Counts = Annotated[Sequence[Count], Field(min_length=1)]
FourCounts = Annotated[Sequence[Count], Field(min_length=4, max_length=4)]


_WORDS = {
    bool: ("true or false", "true or false"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    dict: ("a mapping", "mappings"),
    NoneType: ("null", "null"),
}


def allowed_by(kind: Any, plural: bool = False) -> str:
    """The allowed values of a schema's type, in words.

    >>> allowed_by(NoiseRate)
    "a number in [0, 1), or 'estimated' or 'anchor_points'"
    >>> allowed_by(str | list[str] | None)
    'a string, a list of strings, or null'
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        *others, last = [allowed_by(part, plural) for part in parts]
        return f"{', '.join(others)}, or {last}"
    if origin is Literal:
        return " or ".join(repr(part) for part in parts)
    if origin in (list, Sequence):
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
    """A validator for a key that this option does not use: 0 passes, other values are refused with the reason."""

    def check(value: float) -> float:
        if value != 0:
            raise ValueError(reason)
        return value

    return AfterValidator(check)


NothingDrawn = Annotated[int, unused("this noise draws nothing, so it has no seed; leave it at 0")]


def _exists(path: str) -> str:
    if not Path(path).exists():
        raise ValueError("there is no such file or directory")
    return path


def _labels(path: str) -> str:
    if Path(path).is_dir() and not Path(path, "noise.npz").is_file():
        raise ValueError("this folder has no noise.npz, which a run's directory has; name it, or a file of labels")
    return path


ExistingPath = Annotated[str, AfterValidator(_exists)]
LabelsPath = Annotated[ExistingPath, AfterValidator(_labels)]
"""A file of labels, or the directory of a run with its noise record."""


def _transition(transition: str) -> str:
    if transition not in ("estimated", "known") and not Path(transition).is_file():
        raise ValueError("neither `estimated` nor `known`, nor a file")
    return transition


Transition = Annotated[str, AfterValidator(_transition)]
"""The source of a transition matrix: `estimated`, `known`, or the path of a file."""


def _unset(path: Any) -> None:
    if path is not None:
        raise ValueError("slnlab.train fills it in; a matrix of your own goes into method.transition")


FilledIn = Annotated[str | None, AfterValidator(_unset)]
"""The path of a file that `slnlab.train` makes; the user leaves it null."""

SECTION = "section"
"""Error type (`PydanticCustomError`) of faults that belong to the whole section, not to one key."""


class Section(BaseModel):
    """A node of the configuration with exactly these keys and types."""

    model_config = ConfigDict(extra="forbid", strict=True)


def type_at(section: Any, key: str) -> Any:
    """The type of a section's key; None if it has no such key, or is no section."""
    fields = section.model_fields if isinstance(section, type) and issubclass(section, Section) else {}
    return next((field.annotation for name, field in fields.items() if key in (name, field.alias)), None)


class Component(Section):
    """A node that builds an object: `_target_` is a dotted path, `name` the option's file name."""

    target: str = Field(alias="_target_")
    name: str
