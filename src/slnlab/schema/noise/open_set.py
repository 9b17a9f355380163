from typing import Annotated, Any

from pydantic import AfterValidator

from slnlab.schema.sections import Noise


def _needed(donor: dict[str, Any] | None) -> dict[str, Any]:
    if not donor:
        raise ValueError("open-set noise takes its images from another data set, and this one's preset names none")
    return donor


class Schema(Noise):
    donor: Annotated[dict[str, Any] | None, AfterValidator(_needed)]
