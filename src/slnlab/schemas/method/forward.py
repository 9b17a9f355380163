from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from slnlab.schemas.base import ExistingPath
from slnlab.schemas.method.ce import Schema as CE


def _source(transition: str) -> str:
    if transition not in ("estimated", "known") and not Path(transition).is_file():
        raise ValueError("neither `estimated` nor `known`, nor a file")
    return transition


class Schema(CE):
    corrects: Literal["forward", "backward"]
    transition: Annotated[str, AfterValidator(_source)]
    drop_above: Annotated[float, Field(gt=0, lt=1)] | None
    estimate_from: ExistingPath | None
