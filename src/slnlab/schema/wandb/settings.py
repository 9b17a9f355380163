"""W&B's settings: keys, environment variables, and W&B's own refusals. No torch is imported."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

PROJECT = "slnlab"
"""The project if neither `logger.project` nor W&B's environment names one."""

SECONDS = 60.0
"""Default seconds for W&B at the start and at the end of a run."""

OURS = ("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_NAME", "WANDB_RUN_GROUP")
"""Variables without effect, because slnlab sets id, name and group of each run and resumes it."""

_RESERVED = "/\\#?%:"
"""Characters that W&B reserves for its addresses."""


def refused(**settings: Any) -> str | None:
    """W&B's reason to refuse settings (names as in `wandb.Settings`); None if it accepts them."""
    import wandb

    return _complaint(lambda: wandb.Settings(**settings))


def entity_refused(entity: str) -> str | None:
    """The reason why W&B allows no such name of a user or team; None if it does."""
    if found := sorted({char for char in entity if char in _RESERVED or char.isspace()}):
        return f"a user or team name cannot contain {' '.join(map(repr, found))}"
    return None


def environment_problems() -> Iterator[str]:
    """The environment variables that W&B refuses or that are impossible in a run of slnlab, each with the reason."""
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
    except ValidationError as error:  # its own text would repeat the value, even that of an API key
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
    """The settings of a W&B run: typed keys first, then W&B's environment and settings files, then our defaults.

    Args:
        mode, project, entity, tags, timeout: as in `conf/logger/wandb.yaml`; None if not typed.
        about: tags before the others.
        directory: folder of W&B's recordings, unless WANDB_DIR names another.
    """
    import wandb

    known = wandb.setup().settings
    inherited = {name: getattr(known, name) for name in known.model_fields_set}
    if mode is None and "mode" not in inherited and _true(os.environ.get("WANDB_DISABLED", "")):
        mode = "disabled"  # no variable of W&B, but of Transformers and of many shell profiles
    mode = mode or known.mode
    tags = (inherited.get("run_tags") or ()) if tags is None else tags
    chosen: dict[str, Any] = {
        "mode": {"dryrun": "offline", "run": "online"}.get(mode, mode),
        "project": project or inherited.get("project") or PROJECT,
        "run_tags": tuple(dict.fromkeys([*(shortened(tag, 64) for tag in about if tag), *tags])),
        "root_dir": inherited.get("root_dir") or directory,
        "silent": inherited.get("silent", True),
        "init_timeout": timeout or inherited.get("init_timeout") or SECONDS,
        "finish_timeout": timeout or inherited.get("finish_timeout") or SECONDS,
        "finish_timeout_raises": True,
    }
    return chosen | ({"entity": entity} if entity else {})


def _true(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on")


def shortened(text: str, limit: int) -> str:
    """Both ends of a text, at most `limit` characters together, because names often differ at their end.

    >>> shortened("flowers_collected_from_the_web_summer_2026_v3", 30)
    'flowers_col...summer_2026_v3'
    """
    if len(text) <= limit:
        return text
    end = min(24, limit // 2)
    return f"{text[: limit - 3 - end]}...{text[-end:]}"
