"""Hydra's loader, which composes a choice of options once.

Composing takes a tenth of a second, nearly all of it for the options: which files there are, in which order, and what
stands in them. A sweep or a study composes the same options hundreds of times with other values.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig

Stamps = dict[Path, tuple[int, int, int] | None]
"""Files, and what tells that one has changed; None: there is no such file."""

OF_COMPOSING = ("hydra.searchpath", "hydra.job.env_copy")
"""Values that decide how the options are composed."""


class Loader(ConfigLoaderImpl):
    """Keeps the configuration of each choice of options until a file that it was made from changes, or one that was
    looked for appears. Values are set on a copy of it. Not for several threads at once."""

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self._kept: dict[tuple[str, ...], tuple[Stamps, bytes]] = {}

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        parsed = OverridesParser.create().parse_overrides(overrides)
        of_hydra = (config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        if run_mode is not RunMode.RUN or any(map(_decides_on_options, parsed)):
            return super()._load_configuration_impl(*of_hydra)
        values = [override for override in parsed if not self._chooses(override)]
        options = [str(override.input_line) for override in parsed if override not in values]
        key = (str(config_name), *options)
        stamps, kept = self._kept.get(key, ({}, b""))
        if not stamps or stamps != _stamps(stamps):
            composed = super()._load_configuration_impl(config_name, options, run_mode, from_shell)
            kept = pickle.dumps(composed)
            self._kept[key] = (_stamps(_looked_for(self._repository)), kept)
        config: DictConfig = pickle.loads(kept)
        self._apply_overrides_to_config(values, config)
        self._note(parsed, config)
        return config

    def _chooses(self, override: Override) -> bool:
        """Whether it names an option, as Hydra's `Overrides` has it."""
        return self.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)

    def _parse_overrides_and_create_caching_repo(self, *args: Any, **options: Any) -> Any:
        parsed, self._repository = super()._parse_overrides_and_create_caching_repo(*args, **options)
        return parsed, self._repository

    @staticmethod
    def _note(parsed: list[Override], config: DictConfig) -> None:
        """Put into Hydra's node what follows from all overrides, and from when it was composed."""
        runtime, job = config.hydra.runtime, config.hydra.job
        own = [override for override in parsed if not override.is_hydra_override()]
        config.hydra.overrides.hydra = [o.input_line for o in parsed if o.is_hydra_override()]
        config.hydra.overrides.task = [o.input_line for o in own]
        how = job.config.override_dirname
        job.override_dirname = get_overrides_dirname(own, how.exclude_keys, how.item_sep, how.kv_sep)
        runtime.cwd = os.getcwd()


def _decides_on_options(override: Override) -> bool:
    return override.is_sweep_override() or override.key_or_group.startswith(OF_COMPOSING)


def _looked_for(repository: CachingConfigRepository) -> list[Path]:
    """All files that a composition has read, or would have read, had they been there."""
    sources = [source.path for source in repository.get_sources() if source.scheme() == "file"]
    names = [ConfigSource._normalize_file_name(key.partition("=")[2]) for key in repository.cache]
    return [Path(source, name) for source in sources for name in names]


def _stamps(paths: Any) -> Stamps:
    found: Stamps = {}
    for path in paths:
        try:
            stat = path.stat()
            found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            found[path] = None
    return found
