"""Hydra's plugin for `slnlab.launchers`. Hydra finds launchers in the namespace package `hydra_plugins` only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class SlnlabLauncher(Launcher):
    """The launcher of Hydra's sweeps: it plans the runs, does the missing ones and logs their outcomes.

    Args:
        engine: "local", "batched", "slurm" or "ray", the module of `slnlab.launchers` whose `launch` does the runs.
        options: keyword arguments of that `launch`.
    """

    def __init__(self, engine: str, **options: Any) -> None:
        self.engine = engine
        self.options = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in options.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from importlib import import_module

        from slnlab.errors import SlnlabError
        from slnlab.launchers.planned import Planned, missing, summary
        from slnlab.training.before_running import directory_in_sweep, searched_dirs, settled_runs, shared_directories
        from slnlab.training.settling import settle

        dirs = searched_dirs(self.config)
        plan = []
        shared = set(job_overrides[0]).intersection(*job_overrides)
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            name = " ".join(o for o in overrides if o not in shared)
            found = settled_runs.get(tuple(overrides))
            if found is None:  # the sweeper chose this run during the sweep
                composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
                found = settle(composed), directory_in_sweep(composed, number)
            spec, directory = found
            plan.append(Planned(spec, directory, tuple(overrides), name or str(directory), dirs))
        list(shared_directories([(str(planned), planned.directory, planned.spec) for planned in plan]))
        once = {planned.directory: planned for planned in reversed(plan)}  # the first of duplicates
        left = missing(list(reversed(once.values())))
        launch = import_module(f"slnlab.launchers.{self.engine}").launch
        folder = Path(self.config.hydra.sweep.dir)
        outcomes = launch(left, folder, **self.options) if left else []
        failed = summary(zip(left, outcomes, strict=True))
        returned = [JobReturn(status=JobStatus.COMPLETED, _return_value=None) for _ in plan]
        if failed:
            error = SlnlabError(f"{len(failed)} of {len(plan)} runs failed; the same command runs only what is missing")
            returned[-1] = JobReturn(status=JobStatus.FAILED, _return_value=error)
        return returned
