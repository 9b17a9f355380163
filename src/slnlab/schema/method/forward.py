from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from slnlab.schema.method.ce import Schema as CE


def _source(transition: str) -> str:
    if transition not in ("estimated", "known") and not Path(transition).is_file():
        raise ValueError("neither `estimated` nor `known`, nor a file")
    return transition


def _left_alone(path: Any) -> None:
    if path is not None:
        raise ValueError("slnlab.train fills it in; a matrix of your own goes into method.transition")


class Schema(CE):
    corrects: Literal["forward", "backward"]
    clip: Annotated[float, Field(gt=0, lt=0.5, allow_inf_nan=False)] | None
    transition: Annotated[str, AfterValidator(_source)]
    drop_above: Annotated[float, Field(gt=0, lt=1)] | None
    criterion: Literal["loss", "accuracy"]
    estimate_from: Annotated[Any, AfterValidator(_left_alone)]
