from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, model_validator

from slnlab.schema.kinds import Positive
from slnlab.schema.sections import Logger
from slnlab.schema.wandb_settings import entity_refused, environment_problems, refused


def _unless(refusal: Callable[[Any], str | None]) -> AfterValidator:
    """Refuse an empty text, and what W&B refuses."""

    def check(value: Any) -> Any:
        if value == "":
            raise ValueError("it is empty; null leaves it to W&B's environment")
        if value is not None and (complaint := refusal(value)):
            raise ValueError(f"refused by W&B: {complaint}")
        return value

    return AfterValidator(check)


class Schema(Logger):
    mode: Literal["online", "offline", "disabled"] | None
    project: Annotated[str | None, _unless(lambda project: refused(project=project))]
    entity: Annotated[str | None, _unless(entity_refused)]
    tags: Annotated[list[str] | None, _unless(lambda tags: refused(run_tags=tags))]
    timeout: Positive | None

    @model_validator(mode="after")
    def _environment(self) -> "Schema":
        if problems := list(environment_problems()):
            raise ValueError("; ".join(problems))
        return self
