"""Types for the keys of `logger=wandb`, with W&B's own messages. No torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from slnlab.schema.kinds import SECTION
from slnlab.schema.wandb.settings import entity_refused, environment_problems, refused


def _unless(refusal: Callable[[Any], str | None]) -> AfterValidator:
    """A validator that refuses an empty text and every value that W&B refuses."""

    def check(value: Any) -> Any:
        if value == "":
            raise ValueError("it is empty; null leaves it to W&B's environment")
        if value is not None and (complaint := refusal(value)):
            raise ValueError(f"refused by W&B: {complaint}")
        return value

    return AfterValidator(check)


def _environment(mode: str | None) -> str | None:
    if problems := list(environment_problems()):
        raise PydanticCustomError(SECTION, "{problems}", {"problems": "; ".join(problems)})
    return mode


Mode = Annotated[Literal["online", "offline", "disabled"] | None, AfterValidator(_environment)]
"""The mode. Its validator checks W&B's environment too, because that decides on null values."""

Project = Annotated[str | None, _unless(lambda project: refused(project=project))]
Entity = Annotated[str | None, _unless(entity_refused)]
Tags = Annotated[Sequence[str] | None, _unless(lambda tags: refused(run_tags=tags))]
