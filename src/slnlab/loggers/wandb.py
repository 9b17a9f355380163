"""Weights & Biases. None of its errors can end a training run."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from slnlab.loggers.wandb_recordings import has_unsent, link_recording
from slnlab.record.run_directory import RunDirectory
from slnlab.schema.kinds import Positive
from slnlab.schema.wandb import settings as wandb_settings
from slnlab.schema.wandb.kinds import Entity, Mode, Project, Tags
from slnlab.storage.writing import replacing

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds for W&B to notice that its own timeout at the end is over."""


def wandb_logger(
    run: RunDirectory,
    *,
    mode: Mode = None,
    project: Project = None,
    entity: Entity = None,
    tags: Tags = None,
    timeout: Positive | None = None,
    group: str,
    title: str,
    about: Sequence[str],
    config: Mapping[str, Any],
) -> Logger | None:
    """A logger with a W&B run of its own, offline if the server does not take it. None if W&B does not start.

    The run directory stores the W&B id, so a resumed run continues the same W&B run.

    Args:
        run: the run's directory.
        mode: "online", "offline" or "disabled". None leaves this and the next four to W&B's environment.
        project, entity, tags: as in W&B.
        timeout: seconds for W&B at the start and at the end.
        group: name of the group whose runs W&B averages: the digest of the configuration without its seed.
        title: the run's name.
        about: data set, noise and method, as tags before `tags`.
        config: the configuration that W&B shows.
    """
    if unused := [name for name in wandb_settings.OURS if os.environ.get(name)]:
        log.warning("%s: without effect, as slnlab names and resumes each of its W&B runs itself", ", ".join(unused))
    memory = {"id": _new_id(), "epoch": 0}
    try:
        if run.wandb.exists():
            memory = json.loads(run.wandb.read_text(encoding="utf-8"))
        settings = wandb_settings.settings(
            mode=mode,
            project=project,
            entity=entity,
            tags=tags,
            timeout=timeout,
            about=about,
            directory=str(run.path),
        )
        settings |= {
            "run_id": memory["id"],
            "run_name": wandb_settings.shortened(title, 128),
            "run_group": wandb_settings.shortened(group, 128),
            "resume": "allow",
        }
        experiment = _begin(settings, config, run)
        return ResilientWandbLogger(run, experiment, memory, settings["finish_timeout"])
    except Exception as error:  # training goes on after any error of W&B
        log.warning("W&B does not start (%s); the run goes on without it, recorded in %s", error, run.path)
        return None


def _begin(settings: dict[str, Any], config: Mapping[str, Any], run: RunDirectory) -> Any:
    """Start the W&B run: online if wanted and possible, else offline."""
    import wandb

    def init(mode: str) -> Any:
        # The mode is a setting, as WANDB_MODE and WandbLogger(offline=True) would outlive the run in the environment.
        chosen = wandb.Settings(**(settings | {"mode": mode}))
        return wandb.init(settings=chosen, config=dict(config), reinit="create_new")

    mode, sync = settings["mode"], "`python -m slnlab.dashboard sync %s` sends it"
    if mode in ("offline", "disabled"):
        return init(mode)
    if has_unsent(run.path, settings["run_id"]):  # online epochs would arrive before the earlier ones
        log.warning(f"W&B has not got this run's earlier epochs yet, so it goes on offline; {sync}", run.path)
        return init("offline")
    try:
        with _no_prompt():
            return init(mode)
    except Exception as error:
        log.warning(f"W&B does not take the run (%s), so it is recorded offline; {sync}", error, run.path)
    # W&B's background process still holds the id and would refuse it.
    if wandb.setup().most_recent_active_run is None:
        wandb.teardown(exit_code=1)
    else:  # another run uses this background process too
        settings["run_id"] = _new_id()
    return init("offline")


def _new_id() -> str:
    return uuid.uuid4().hex[:8]


@contextmanager
def _no_prompt() -> Iterator[None]:
    """Replace stdin inside the block. Without a login, W&B would ask for a key and wait for ever."""
    terminal = sys.stdin
    with open(os.devnull, encoding="utf-8") as sys.stdin:
        try:
            yield
        finally:
            sys.stdin = terminal


class ResilientWandbLogger(WandbLogger):
    """A WandbLogger that never raises and ends with the run's own exit code.

    Args:
        run: the run's directory.
        experiment: the W&B run.
        memory: its `id`, and the last `epoch` that an earlier start logged.
        timeout: seconds for W&B to finish.
    """

    def __init__(self, run: RunDirectory, experiment: Any, memory: dict[str, Any], timeout: float) -> None:
        super().__init__(experiment=experiment)
        self._directory, self._run, self._timeout = run, experiment, timeout
        self._memory = {**memory, "id": experiment.id}
        self._recording = Path(experiment.dir).parent
        # The server states its last epoch, so an epoch lost on its way when the run was killed is sent again.
        self._last_epoch = memory["epoch"] if experiment.offline else experiment.starting_step - 1
        self._complained = False
        self._remember()
        if experiment.offline and not experiment.disabled:
            self._try(lambda: link_recording(self._recording, run.path))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is not None and step <= self._last_epoch:
            return  # a resumed run repeats this epoch, and `wandb sync` would store it twice
        self._try(lambda: self._run.log(dict(metrics), step=step))
        if step is not None and not self._complained:
            self._memory["epoch"] = step
            self._remember()

    def catch_up(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Log the epochs before a resumed run's checkpoint that W&B lacks: a kill may have lost them on their way."""
        for row in rows:
            self.log_metrics(row, step=int(row["epoch"]))

    def finish(self, exit_code: int) -> None:
        """End the W&B run, as finished for 0, else as crashed. It waits `timeout` + `GRACE` seconds at most."""
        trouble: list[Exception] = [TimeoutError("no answer")]

        def end() -> None:
            try:
                self._run.finish(exit_code=exit_code)
                trouble.clear()
            except Exception as error:  # see wandb_logger
                trouble[:] = [error]

        thread = threading.Thread(target=end, daemon=True)
        thread.start()
        thread.join(self._timeout + GRACE)
        if trouble:
            path, sync = self._directory.path, "`python -m slnlab.dashboard sync %s` sends the rest"
            log.warning(f"W&B has not finished (%s); {sync}", trouble[0], path)
            self._try(lambda: link_recording(self._recording, path))

    def finalize(self, status: str) -> None:
        """Do nothing. Lightning calls this at the end of every fit; `finish` ends the run."""

    def _remember(self) -> None:
        def write() -> None:
            with replacing(self._directory.wandb) as file:
                file.write(json.dumps(self._memory).encode())

        self._try(write)

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # see wandb_logger
            if not self._complained:
                log.warning("W&B fails (%s); the run goes on without it", error)
            self._complained = True
