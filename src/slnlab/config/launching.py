"""The options of launchers, checked before a sweep."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError

from slnlab.config.checks import refuse
from slnlab.schema.constructors import constructor
from slnlab.schema.kinds import allowed_by


def check_options(launcher: DictConfig) -> None:
    """Refuse impossible options of one of slnlab's launchers; those of others are not known.

    SLURM's own resources, such as `partition`, are checked at the submission, by submitit.

    Args:
        launcher: the node `hydra.launcher`: `engine`, and the options of that engine's `launch`.

    Raises:
        ConfigError: the launcher has no such option, or not with this value.
    """
    if "hydra_plugins.slnlab_launchers" not in str(launcher.get("_target_")):
        return
    options = OmegaConf.to_container(launcher, resolve=True)
    assert isinstance(options, dict)
    del options["_target_"]
    engine = options.pop("engine")
    taken = constructor(f"slnlab.launchers.{engine}.launch")
    assert taken is not None
    found: list[tuple[str, Any]] = []
    for key, value in ((str(key), value) for key, value in options.items()):
        if key in taken.parameters and not taken.parameters[key].positional:
            kind = taken.parameters[key].kind
            try:
                TypeAdapter(kind).validate_python(value, strict=True)
            except ValidationError:
                found.append((f"hydra.launcher.{key}", f"{value!r} is not allowed: {allowed_by(kind)}"))
        elif not taken.more:
            found.append((f"hydra.launcher.{key}", f"launcher={engine} has no such option"))
    refuse(found)
