"""Two caches for Hydra's loader: each file is parsed once, and each choice of options is composed once.

A composition takes a fifth of a second, nearly all of it for the files of the options. A sweep or a study composes the
same options hundreds of times with other values, and other options from mostly the same files.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig

Stamp = tuple[int, int, int] | None
"""A file's (time of change in ns, size, inode); None for a missing file."""

Stamps = dict[Path, Stamp]

COMPOSITION_KEYS = ("hydra.searchpath", "hydra.job.env_copy")
"""Keys whose values decide how the options are composed."""


_parsed: dict[tuple[str, str], tuple[Stamp, bytes]] = {}
"""Source and name of a file → its stamp and its contents, pickled. All loaders share it."""


class Files(ConfigRepository):
    """Hydra's repository of files. It parses a file again only after a change; files of a package never change."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() not in ("file", "pkg"):
            return super().load_config(config_path)
        stamp = _stamp(_path_in(source, config_path)) if source.scheme() == "file" else None
        known = (str(source), config_path)
        if known not in _parsed or _parsed[known][0] != stamp:
            _parsed[known] = (stamp, pickle.dumps(super().load_config(config_path)))
        loaded: ConfigResult = pickle.loads(_parsed[known][1])
        return loaded


class Loader(ConfigLoaderImpl):
    """Hydra's loader with a cache: choice of options → configuration.

    An entry holds until one of its files changes or a missing one appears. Values are set on a copy. It is not safe
    for several threads.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.repository = Files(config_search_path)
        self._cache: dict[tuple[str, ...], tuple[Stamps, bytes]] = {}

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        parsed = OverridesParser.create().parse_overrides(overrides)
        arguments = (config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        if run_mode is not RunMode.RUN or any(map(_decides_on_options, parsed)):
            return super()._load_configuration_impl(*arguments)
        values = [override for override in parsed if not self._chooses(override)]
        options = [str(override.input_line) for override in parsed if override not in values]
        key = (str(config_name), *options)
        stamps, pickled = self._cache.get(key, ({}, b""))
        if not stamps or stamps != _stamps(stamps):
            composed = super()._load_configuration_impl(config_name, options, run_mode, from_shell)
            pickled = pickle.dumps(composed)
            self._cache[key] = (_stamps(_files_of(self._repository)), pickled)
        config: DictConfig = pickle.loads(pickled)
        self._apply_overrides_to_config(values, config)
        self._note(parsed, config)
        return config

    def _chooses(self, override: Override) -> bool:
        """True if an override chooses an option, by the rule of Hydra's `Overrides`."""
        return self.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)

    def _parse_overrides_and_create_caching_repo(self, *args: Any, **options: Any) -> Any:
        parsed, self._repository = super()._parse_overrides_and_create_caching_repo(*args, **options)
        return parsed, self._repository

    @staticmethod
    def _note(parsed: list[Override], config: DictConfig) -> None:
        """Set the values of Hydra's node that depend on all overrides or on the working directory."""
        runtime, job = config.hydra.runtime, config.hydra.job
        own = [override for override in parsed if not override.is_hydra_override()]
        config.hydra.overrides.hydra = [o.input_line for o in parsed if o.is_hydra_override()]
        config.hydra.overrides.task = [o.input_line for o in own]
        how = job.config.override_dirname
        job.override_dirname = get_overrides_dirname(own, how.exclude_keys, how.item_sep, how.kv_sep)
        runtime.cwd = os.getcwd()


def _decides_on_options(override: Override) -> bool:
    return override.is_sweep_override() or override.key_or_group.startswith(COMPOSITION_KEYS)


def _files_of(repository: CachingConfigRepository) -> list[Path]:
    """All files that a composition read or looked for in vain."""
    sources = [source for source in repository.get_sources() if source.scheme() == "file"]
    return [_path_in(source, key.partition("=")[2]) for source in sources for key in repository.cache]


def _path_in(source: ConfigSource, name: str) -> Path:
    return Path(source.path, source._normalize_file_name(name))


def _stamps(paths: Iterable[Path]) -> Stamps:
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
