"""A composed configuration becomes a settled run. Hydra gets the run's directory from it."""

from __future__ import annotations

from omegaconf import DictConfig

from slnlab.config.checks import problems, refuse
from slnlab.config.container import container_of
from slnlab.config.contents import digests
from slnlab.config.identity import identity
from slnlab.config.resolvers import register_resolvers
from slnlab.config.run_spec import RunSpec, SourceRun
from slnlab.errors import ConfigError
from slnlab.training import source_runs


def settle(config: DictConfig) -> RunSpec:
    """The settled run of a configuration, after a check of its keys, its files and the runs that it starts from.

    Args:
        config: as composed by `slnlab.config.compose`.

    Raises:
        ConfigError: names every wrong key, its value, and the allowed values.
        DataError: see `slnlab.config.contents.digests`.
    """
    container = container_of(config)
    refuse(list(problems(container)))
    container["contents"] = container["contents"] or digests(container)
    sources = tuple(map(_source, source_runs.wanted(container)))
    spec = RunSpec(container, identity(container, [source.name for source in sources]), sources)
    refuse(list(source_runs.misfits(spec)))
    return spec


def _source(wanted: source_runs.Wanted) -> SourceRun:
    if isinstance(wanted, SourceRun):
        return wanted
    try:
        return SourceRun.of(settle(wanted))
    except ConfigError as error:
        raise ConfigError(f"init.overrides: the run to start from cannot work: {error}") from None


def _run_dir(*, _root_: DictConfig) -> str:
    return str(settle(_root_).directory)


def _run_subdir(*, _root_: DictConfig) -> str:
    return settle(_root_).subdir


register_resolvers({"run_dir": _run_dir, "run_subdir": _run_subdir})
