"""Where the configuration lies, and Hydra's loader for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig
from packaging.version import Version

from slnlab.config.loader import Loader
from slnlab.config.resolvers import register_resolvers
from slnlab.errors import ConfigError
from slnlab.schema.sections import GROUPS, Root
from slnlab.text.quoting import advice_on, has_no_key

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parents[1]
CONF_DIR = _CHECKOUT / "conf" if (_CHECKOUT / "pyproject.toml").exists() else _PACKAGE / "conf"
"""The configuration: a checkout's `conf/`, or the copy inside an installed package."""

extra_config_dirs: list[str] = []
"""Of the command that this process is, or that has started it: its --config-dir, and others that it searches."""

FIRST_PARTS = {*GROUPS, *Root.model_fields, "hydra"}
"""Of keys."""

_loaders: dict[tuple[str, ...], Loader] = {}
"""By the folders that are searched beside `CONF_DIR`."""

_composing = threading.Lock()
"""Hydra keeps what it has found of itself in the process, and finds it once."""


def refuse_without_key(overrides: Sequence[str], multirun: bool = False) -> None:
    """What Hydra would take for an option of no group.

    Raises:
        ConfigError: an override has no key.
    """
    for text in filter(has_no_key, overrides):
        raise ConfigError(advice_on(overrides, FIRST_PARTS, multirun) or f"{text}: is not KEY=VALUE")


def load(overrides: Sequence[str]) -> DictConfig:
    refuse_without_key(overrides)
    # By a loader of our own: `hydra.compose` asks the process's only Hydra, which may be another application's.
    with _composing:
        base = VersionBase.instance()
        theirs, base.version_base = base.version_base, Version("1.3")
        try:
            folders = tuple(extra_config_dirs)
            if folders not in _loaders:
                path = create_config_search_path(str(CONF_DIR))
                for folder in folders:
                    path.prepend("command-line", folder, anchor="schema")  # which Hydra wants last
                _loaders[folders] = Loader(path)
            return _loaders[folders].load_configuration("train", list(overrides), RunMode.RUN, from_shell=False)
        finally:
            base.version_base = theirs


register_resolvers()
