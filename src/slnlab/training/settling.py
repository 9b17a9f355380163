"""From a composed configuration to a settled run; with it Hydra learns where the run lies."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from slnlab.config import check
from slnlab.config.checks import refuse
from slnlab.config.container import container_of
from slnlab.config.contents import digests
from slnlab.config.identity import identity
from slnlab.config.resolvers import register_resolvers
from slnlab.config.run_spec import RunSpec, SourceRun
from slnlab.errors import ConfigError
from slnlab.training import source_runs


def settle(config: DictConfig) -> RunSpec:
    """Check a configuration, look at the files that it names, and at the runs that it starts from.

    Args:
        config: as composed by `slnlab.config.compose`.

    Raises:
        ConfigError: it cannot work; names every wrong key, its value, and what is allowed.
        DataError: see `slnlab.config.contents.digests`.
    """
    check(config)
    container = container_of(config)
    container["contents"] = container["contents"] or digests(container)
    settled = OmegaConf.create(container)
    sources = tuple(map(_source, source_runs.wanted(settled)))
    spec = RunSpec(settled, identity(container, [source.name for source in sources]), sources)
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
