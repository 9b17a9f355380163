"""The place of the configuration, and its loading through Hydra."""

from __future__ import annotations

import re
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
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"
"""The configuration: the copy inside an installed package, or a checkout's `conf/`."""

extra_config_dirs: list[str] = []
"""Further folders with configuration: --config-dir and the like, of this command or of the one that started it."""

_NO_NAME = re.compile(r"\s*(null|~|true|false|[+-]?[\d.]+(e[+-]?\d+)?)\s*", re.IGNORECASE)
"""Values that Hydra does not read as the name of an option."""

FIRST_PARTS = {*GROUPS, *Root.model_fields, "hydra"}
"""First parts of all keys."""


def search_in(folders: Sequence[str]) -> None:
    """Take the options of these folders, too, in place of earlier `extra_config_dirs`.

    Raises:
        ConfigError: an option has the name of another one of slnlab's, which Hydra would take instead.
    """
    for folder in folders:
        for path in Path(folder).glob("*/*.yaml"):
            ours = CONF_DIR / path.parent.name / path.name
            if ours.is_file() and ours.read_bytes() != path.read_bytes():
                group, name = path.parent.name, path.stem
                raise ConfigError(f"{path}: slnlab has an option {group}={name}, too; give yours another name")
    extra_config_dirs[:] = folders


_loaders: dict[tuple[str, ...], Loader] = {}
"""Folders searched beside `CONF_DIR` → their loader."""

_composing = threading.Lock()
"""Hydra has global state, so one thread composes at a time."""


def refuse_incomplete(overrides: Sequence[str], multirun: bool = False) -> None:
    """Refuse overrides such as `=0.5`, `cluster=null`, `noise=0.4`, `noise.name=asym` and `noise=[sym,asym]`.

    Hydra would not name the first ones. The last ones would give an option another's name, or mix two options.

    Raises:
        ConfigError: an override has no key, or a group has no option or several ones, or a typed name.
    """
    for text in filter(has_no_key, overrides):
        raise ConfigError(advice_on(overrides, FIRST_PARTS, multirun) or f"{text}: is not KEY=VALUE")
    for text in overrides:
        key, _, option = (part.strip() for part in text.partition("="))
        group = key.lstrip("+").removesuffix(".name")
        if not (CONF_DIR / group).is_dir():
            continue
        if key.endswith(".name"):
            raise ConfigError(f"{text}: the name follows from the option; type {group}={option}")
        if re.match(r"\{(.*,)?\s*name\s*:", option):
            raise ConfigError(f"{text}: the name follows from the option; leave it out")
        if option.startswith("["):
            raise ConfigError(
                f"{text}: a run has one option of {group}; for a sweep type -m {group}={option.strip('[]')}"
            )
        if any(map(_NO_NAME.fullmatch, option.split(","))):
            raise ConfigError(
                f"{text}: names no option of {group}; without it the default is taken. A value belongs to a key: "
                f"{group}.KEY=VALUE"
            )


def load(overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration with Hydra's own node.

    Raises:
        ConfigError: an override has no key, or a group no option.
        HydraException, OmegaConfBaseException: an override is wrong.
    """
    refuse_incomplete(overrides)
    # Our own loader: `hydra.compose` uses the process's only Hydra, perhaps that of another application.
    with _composing:
        base = VersionBase.instance()
        theirs, base.version_base = base.version_base, Version("1.3")
        try:
            folders = tuple(extra_config_dirs)
            if folders not in _loaders:
                path = create_config_search_path(str(CONF_DIR))
                for folder in folders:
                    path.prepend("command-line", folder, anchor="schema")  # Hydra wants "schema" last
                _loaders[folders] = Loader(path)
            return _loaders[folders].load_configuration("train", list(overrides), RunMode.RUN, from_shell=False)
        finally:
            base.version_base = theirs


register_resolvers()
