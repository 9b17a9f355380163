from typing import Annotated

from pydantic import AfterValidator, Field

from slnlab.schema.kinds import Count, CountOrZero, NonNegative
from slnlab.schema.method.ce import Schema as CE


def _ascending(ramp: list[int]) -> list[int]:
    if ramp[0] >= ramp[1]:
        raise ValueError("the second epoch must come after the first")
    return ramp


class Schema(CE):
    strength: NonNegative
    ramp: Annotated[list[CountOrZero], Field(min_length=2, max_length=2), AfterValidator(_ascending)]
    sieve_from: Count | None
