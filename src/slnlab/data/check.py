"""The check of a published data set: the expected files, what is there, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from omegaconf import DictConfig

from slnlab.config.container import container_of
from slnlab.data.published import PublishedFiles
from slnlab.data.source import made_source


def published(config: DictConfig) -> Iterator[tuple[Literal["ok", "wrong", "note"], str]]:
    """The findings on the files of a published data set, and its origin; nothing for other data sets."""
    data, source = container_of(config)["data"], made_source(config)
    if not isinstance(source, PublishedFiles):
        return
    used = {"val_clean": data["clean_val"], "test": data["test"]}
    yield "ok", f"{data['name']}: {source.about.title}, looked for in {source.root}"
    splits = [split for split in source.splits if used.get(split, True)]
    for is_well, text in source.survey(splits, data["num_train"], data["num_classes"]):
        yield "ok" if is_well else "wrong", text
    yield "note", source.about.origin
