"""Checks before a run or a sweep begins. Each run of a sweep has a directory of its own."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from slnlab.config.composition import explain
from slnlab.config.launching import check_options
from slnlab.config.loader import Loader
from slnlab.config.loading import search_in
from slnlab.config.run_spec import RunSpec
from slnlab.errors import ConfigError, DataError, SlnlabError
from slnlab.record.run_directory import RunDirectory
from slnlab.record.sweep_plan import write_plan
from slnlab.text.messages import quoted
from slnlab.training import dry_run
from slnlab.training.settling import settle

log = logging.getLogger(__name__)

settled_runs: dict[tuple[str, ...], tuple[RunSpec, Path]] = {}
"""Runs that this process starts: overrides → (run, directory). Training and launchers reuse them, as settling takes a
tenth of a second a run."""


def directory_in_sweep(config: DictConfig, number: int) -> Path:
    """The directory of a run in a sweep, the same for every launcher.

    Args:
        config: of the run, with Hydra's own node; its job number is set.
        number: of the run in the sweep, from 0. `hydra.sweep.subdir` may contain it.
    """
    with open_dict(config):
        config.hydra.job.num = number
        config.hydra.job.id = f"job_id_for_{number}"
    return Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir)


def shared_directories(runs: Sequence[tuple[str, Path, RunSpec]]) -> Iterator[str]:
    """A line for each run of a sweep that equals an earlier one and is done once.

    Args:
        runs: (name, directory, run) of all runs.

    Raises:
        ConfigError: two different runs would have one directory, or another finished run has it.
        DataError: the identity of a finished run cannot be read.
    """
    first: dict[Path, tuple[str, RunSpec]] = {}
    for name, directory, spec in runs:
        other, other_spec = first.setdefault(directory, (name, spec))
        if other_spec is spec:
            if RunDirectory(directory).finished and not spec.config.force:
                RunDirectory(directory).refuse_another_run(spec)
            continue
        if other_spec.identity != spec.identity:
            raise ConfigError(
                f"the runs {other!r} and {name!r} would share the directory {directory}; "
                "leave hydra.sweep.subdir as it is, or name a key in it that differs"
            )
        yield f"{name!r} is the same run as {other!r} and is done once: the difference does not change the result"


def searched_dirs(config: DictConfig) -> tuple[str, ...]:
    """Directories that the command line searches for options beside slnlab's own."""
    sources = config.hydra.runtime.config_sources
    return tuple(s.path for s in sources if s.provider == "command-line" or s.provider.startswith("hydra.searchpath"))


def _typed(config: DictConfig, part: Literal["task", "hydra"]) -> list[str]:
    """The overrides as typed: `noise.seed=${seed}` stays so, and is resolved in each run."""
    overrides = OmegaConf.to_container(config.hydra.overrides[part])
    assert isinstance(overrides, list)
    return list(map(str, overrides))


def _refuse_sweep_as_run(config: DictConfig) -> None:
    """Refuse an experiment's sweep without -m, which would be one run with the default values.

    Raises:
        ConfigError: a key of the sweep has no typed value.
    """
    experiment = config.hydra.runtime.choices.get("experiment")
    params = OmegaConf.select(config.hydra.sweeper, "params") if experiment else None
    typed = {text.lstrip("+").partition("=")[0] for text in _typed(config, "task")}
    if left := [str(key) for key in params or {} if key not in typed]:
        raise ConfigError(f"experiment={experiment}: is a sweep over {', '.join(left)}; add -m, or give each one value")


@contextmanager
def _ending_the_command() -> Iterator[None]:
    """Make an error end the command. Hydra would turn it into a warning, and begin the runs."""
    try:
        yield
    except (SlnlabError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {error if isinstance(error, SlnlabError) else explain(error)}")
    except OSError as error:
        sys.exit(f"error: {error}")
    except Exception:
        traceback.print_exc()
        sys.exit(1)


class CheckBeforeRunning(Callback):
    """Hydra callback that refuses a wrong configuration before a directory is made or a sweep begins.

    Errors leave through SystemExit, see `_ending_the_command`.

    Args:
        dry_run: print the plan and exit.
    """

    def __init__(self, dry_run: bool = False) -> None:
        self.dry_run = dry_run

    @_ending_the_command()
    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the run, and make its directory."""
        search_in(searched_dirs(config))
        _refuse_sweep_as_run(config)
        spec = settle(config)
        written: str = config.hydra.run.dir  # by default it follows from the settled run, anew at each look
        if not written:
            raise ConfigError("hydra.run.dir: is empty; name a folder, or leave it out")
        with open_dict(config):
            config.hydra.run.dir = written
        directory = Path(written)
        if self.dry_run:
            dry_run.show([("", directory, spec)])
            sys.exit()
        settled_runs[tuple(_typed(config, "task"))] = spec, directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"the run's directory {directory} cannot be made: {error.strerror or error}") from error

    @_ending_the_command()
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check every run of the sweep, so that the last does not fail after hours of the others."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        search_in(searched_dirs(config))
        check_options(config.hydra.launcher)
        if any(text.lstrip("+").startswith("hydra.run.dir=") for text in _typed(config, "hydra")):
            raise ConfigError("hydra.run.dir: is the folder of one run; for a sweep runs_dir=FOLDER holds all runs")
        if config.hydra.sweeper._target_ != f"{BasicSweeper.__module__}.BasicSweeper":
            if self.dry_run:
                raise ConfigError("--dry-run: this sweeper chooses its runs as it goes; use Hydra's own")
            return  # such a sweeper chooses its runs as it goes; each is checked when it starts
        overrides = [
            *(f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()),
            *_typed(config, "task"),
        ]
        runs = list(_runs_of_sweep(config, overrides))
        for line in shared_directories(runs):
            log.warning("%s", line)
        tops = {str(spec.container["runs_dir"]) for _, _, spec in runs}
        if len(tops) > 1:
            raise ConfigError(f"runs_dir: one folder holds all runs of a sweep, not {quoted(sorted(tops))}")
        if self.dry_run:
            dry_run.show(runs)
            sys.exit()
        write_plan(Path(config.hydra.sweep.dir), dict.fromkeys(path for _, path, _ in runs), overrides)


def _runs_of_sweep(config: DictConfig, overrides: Sequence[str]) -> Iterator[tuple[str, Path, RunSpec]]:
    """(name, directory, run) for each run of Hydra's own sweeper; `settled_runs` keeps them.

    Raises:
        ConfigError: a run cannot work; the message names it.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    hydras = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create(hydras).parse_overrides(list(overrides))  # `glob(*)` needs its groups
    loader = Loader(hydras.get_search_path())  # with the user's --config-dir
    every = [run for batch in BasicSweeper.split_arguments(parsed, None) for run in batch]
    for number, run in enumerate(every):
        name = " ".join(run)
        try:
            composed = loader.load_sweep_config(config, list(run))
            spec, directory = settle(composed), directory_in_sweep(composed, number)
        except (SlnlabError, HydraException, OmegaConfBaseException) as error:
            raise ConfigError(f"in the run {name}: {explain(error)}") from error
        settled_runs[tuple(run)] = spec, directory
        yield name, directory, spec
