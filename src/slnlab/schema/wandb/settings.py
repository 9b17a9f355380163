"""What W&B's environment variables say, and what W&B refuses, in W&B's own words. Nothing here imports torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

PROJECT = "slnlab"
"""The project, where neither `logger.project` nor W&B's environment names one."""

SECONDS = 60.0
"""The time that W&B gets at the start and at the end, where nothing else is said."""

OURS = ("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_NAME", "WANDB_RUN_GROUP")
"""Variables without effect: slnlab gives each run its own id, name and group, and resumes it."""

_OF_NO_NAME = "/\\#?%:"
"""Characters that W&B keeps for its addresses."""


def refused(**settings: Any) -> str | None:
    """Why W&B refuses these settings (names as in `wandb.Settings`); None if it does not."""
    import wandb

    return _complaint(lambda: wandb.Settings(**settings))


def entity_refused(entity: str) -> str | None:
    """Why no user or team of W&B has this name; None if one may."""
    if found := sorted({char for char in entity if char in _OF_NO_NAME or char.isspace()}):
        return f"a user or team name cannot contain {' '.join(map(repr, found))}"
    return None


def environment_problems() -> Iterator[str]:
    """What W&B refuses of its environment variables, or cannot do in a run of slnlab; each names its variable."""
    import wandb

    for name in sorted(name for name in os.environ if name.startswith("WANDB_")):
        ours = {} if name in OURS else {"run_id": "slnlab", "resume": "allow"}

        def take(name: str = name, ours: dict[str, Any] = ours) -> None:
            wandb.Settings(**ours).update_from_env_vars({name: os.environ[name]})

        if complaint := _complaint(take):
            yield f"{name} in the environment is refused by W&B: {complaint}"
    if complaint := entity_refused(os.environ.get("WANDB_ENTITY", "")):
        yield f"WANDB_ENTITY in the environment is refused by W&B: {complaint}"


def _complaint(action: Callable[[], Any]) -> str | None:
    from wandb.errors import UsageError

    try:
        action()
    except ValidationError as error:  # whose own text would repeat the value, of a key as well
        return "; ".join(str(each["msg"]).removeprefix("Value error, ") for each in error.errors())
    except UsageError as error:
        return str(error)
    return None


def settings(
    *,
    mode: str | None = None,
    project: str | None = None,
    entity: str | None = None,
    tags: Sequence[str] | None = None,
    timeout: float | None = None,
    about: Sequence[str] = (),
    directory: str,
) -> dict[str, Any]:
    """The settings of a W&B run: a key that is typed, else what W&B's environment or settings files say, else ours.

    Args:
        mode, project, entity, tags, timeout: as in `conf/logger/wandb.yaml`; None: not typed.
        about: tags before the others.
        directory: where W&B records, unless WANDB_DIR says otherwise.
    """
    import wandb

    known = wandb.setup().settings
    said = {name: getattr(known, name) for name in known.model_fields_set}
    if mode is None and "mode" not in said and _true(os.environ.get("WANDB_DISABLED", "")):
        mode = "disabled"  # not W&B's own variable, but Transformers' and many a profile's
    mode = mode or known.mode
    tags = (said.get("run_tags") or ()) if tags is None else tags
    chosen: dict[str, Any] = {
        "mode": {"dryrun": "offline", "run": "online"}.get(mode, mode),
        "project": project or said.get("project") or PROJECT,
        "run_tags": tuple(dict.fromkeys([*(shortened(tag, 64) for tag in about if tag), *tags])),
        "root_dir": said.get("root_dir") or directory,
        "silent": said.get("silent", True),
        "init_timeout": timeout or said.get("init_timeout") or SECONDS,
        "finish_timeout": timeout or said.get("finish_timeout") or SECONDS,
        "finish_timeout_raises": True,
    }
    return chosen | ({"entity": entity} if entity else {})


def _true(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on")


def shortened(text: str, limit: int) -> str:
    """The text with at most `limit` characters: both ends of it, as names often differ at their end.

    >>> shortened("flowers_collected_from_the_web_summer_2026_v3", 30)
    'flowers_col...summer_2026_v3'
    """
    if len(text) <= limit:
        return text
    end = min(24, limit // 2)
    return f"{text[: limit - 3 - end]}...{text[-end:]}"
