"""The overrides of a study: keys with one value, keys with several, and the launcher."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from slnlab.config.composition import compose_with_hydra, explain
from slnlab.errors import ConfigError

OF_THE_STUDY = {
    "data.test": "trials never read the test set, the final runs do",
    "force": "a study continues where it stopped; force=true would repeat the same trials each time",
}
"""Keys that the study itself sets, each with the reason."""

LAUNCHING = ("launcher", "hydra/launcher", "cluster")
"""Keys that choose the launcher, beside hydra.launcher.*."""


def split(overrides: Sequence[str]) -> tuple[list[str], dict[str, Override], list[str]]:
    """Sort the overrides of a study.

    Args:
        overrides: as typed.

    Returns:
        (overrides with one value, overrides with several values by key as typed, such as `+optimizer.nesterov`,
        overrides of the launcher).

    Raises:
        ConfigError: an override cannot be parsed, or has no meaning for a study.
    """
    fixed, space, launcher = [], {}, []
    try:
        parsed = {text: OverridesParser.create().parse_overrides([text])[0] for text in _with_experiment(overrides)}
    except HydraException as error:
        raise ConfigError(explain(error, overrides, multirun=True)) from error
    for text, override in parsed.items():
        key = override.key_or_group
        if key in OF_THE_STUDY:
            raise ConfigError(f"{key}: leave it out: {OF_THE_STUDY[key]}")
        if key in LAUNCHING or key.startswith("hydra.launcher."):
            launcher.append(text)
            continue
        if key.startswith("hydra") and key != "hydra.searchpath":
            raise ConfigError(f"{key}: has no meaning for a study; runs_dir sets the place of its runs")
        if not override.is_sweep_override():
            fixed.append(text)
        elif key == "data.noisy_val":
            raise ConfigError("data.noisy_val: accuracies on different held-out labels do not compare; give one number")
        elif override.is_discrete_sweep() and text.split("=", 1)[1].startswith("glob("):
            raise ConfigError(f"{key}: list the values, as glob() is for sweeps")
        else:
            space["seed" if key == "seed" else text.split("=", 1)[0].strip()] = override
    return fixed, space, launcher


def _with_experiment(overrides: Sequence[str]) -> list[str]:
    """The overrides with the sweep of `experiment=`; typed keys take precedence."""
    named = [text for text in overrides if text.startswith("experiment=")]
    if not named:
        return list(overrides)
    params = compose_with_hydra(named).hydra.sweeper.params or {}
    keys = [text.split("=", 1)[0] for text in overrides]
    return [*(f"{key}={value}" for key, value in params.items() if key not in keys), *overrides]


def seeds(override: Override | None, single: int) -> list[int]:
    """The seeds of `seed=`, each once; `[single]` if it has one value.

    Raises:
        ConfigError: a seed is no whole number.
    """
    if override is None:
        return [single]
    try:
        return list(dict.fromkeys(int(text) for text in override.sweep_string_iterator()))
    except (ValueError, HydraException):
        raise ConfigError(f"{override.input_line}: seeds are whole numbers") from None
