"""Weights & Biases. Nothing that it does can end a training run."""

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

from slnlab.loggers.wandb_recordings import to_be_sent, waiting
from slnlab.record.run_directory import RunDirectory
from slnlab.schema.kinds import Positive
from slnlab.schema.wandb import settings as wandb_settings
from slnlab.schema.wandb.kinds import Entity, Mode, Project, Tags
from slnlab.storage.writing import replacing

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds that W&B has to notice that its own time at the end is over."""


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
    """A Weights & Biases run of its own; recorded offline when the server does not take it. None: W&B does not start.

    Its id is kept in the run directory, so that a resumed run goes on in the same W&B run.

    Args:
        run: the run's directory.
        mode: "online", "offline" or "disabled"; this and the next four: None leaves it to W&B's environment.
        project, entity, tags: as in W&B.
        timeout: seconds that W&B may take, at the start and at the end.
        group: runs that W&B averages: the configuration without its seed.
        title: the run's name.
        about: data set, noise and method, which become tags before `tags`.
        config: what W&B shows as the run's configuration.
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
    except Exception as error:  # whatever W&B may do, training goes on
        log.warning("W&B does not start (%s); the run goes on without it, recorded in %s", error, run.path)
        return None


def _begin(settings: dict[str, Any], config: Mapping[str, Any], run: RunDirectory) -> Any:
    """Start the W&B run: online if that is asked for and possible, else offline."""
    import wandb

    def init(mode: str) -> Any:
        # `mode` here and not WANDB_MODE or WandbLogger(offline=True): those outlive the run in the environment.
        asked = wandb.Settings(**(settings | {"mode": mode}))
        return wandb.init(settings=asked, config=dict(config), reinit="create_new")

    mode, how = settings["mode"], "`python -m slnlab.dashboard sync %s` sends it"
    if mode in ("offline", "disabled"):
        return init(mode)
    if waiting(run.path, settings["run_id"]):  # sent after what follows it, it would be out of order
        log.warning(f"W&B has not got this run's earlier epochs yet, so it goes on offline; {how}", run.path)
        return init("offline")
    try:
        with _nobody_to_ask():
            return init(mode)
    except Exception as error:
        log.warning(f"W&B does not take the run (%s), so it is recorded offline; {how}", error, run.path)
    # W&B's process would refuse the id as in use from now on.
    if wandb.setup().most_recent_active_run is None:
        wandb.teardown(exit_code=1)
    else:  # it belongs to somebody else's run too
        settings["run_id"] = _new_id()
    return init("offline")


def _new_id() -> str:
    return uuid.uuid4().hex[:8]


@contextmanager
def _nobody_to_ask() -> Iterator[None]:
    """Without a terminal to read from: where nobody is logged in, W&B would ask for a key, and wait for ever."""
    terminal = sys.stdin
    with open(os.devnull, encoding="utf-8") as sys.stdin:
        try:
            yield
        finally:
            sys.stdin = terminal


class ResilientWandbLogger(WandbLogger):
    """A WandbLogger around one run that never raises and ends with the run's own exit code.

    Args:
        run: the run's directory.
        experiment: the W&B run.
        memory: its id, and the last epoch that it was told by an earlier start.
        timeout: seconds that W&B may take to finish.
    """

    def __init__(self, run: RunDirectory, experiment: Any, memory: dict[str, Any], timeout: float) -> None:
        super().__init__(experiment=experiment)
        self._directory, self._run, self._timeout = run, experiment, timeout
        self._memory = {**memory, "id": experiment.id}
        self._recording = Path(experiment.dir).parent
        # A server knows what it has got, and an epoch that was on its way when the run was killed is sent again.
        self._told = memory["epoch"] if experiment.offline else experiment.starting_step - 1
        self._complained = False
        self._remember()
        if experiment.offline and not experiment.disabled:
            self._try(lambda: to_be_sent(self._recording, run.path))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is not None and step <= self._told:
            return  # an epoch that a resumed run does again: `wandb sync` would add it as another one
        self._try(lambda: self._run.log(dict(metrics), step=step))
        if step is not None and not self._complained:
            self._memory["epoch"] = step
            self._remember()

    def finish(self, exit_code: int) -> None:
        """End the W&B run: finished for 0, crashed otherwise. Waits little longer than `timeout` seconds."""
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
            path, how = self._directory.path, "`python -m slnlab.dashboard sync %s` sends the rest"
            log.warning(f"W&B has not finished (%s); {how}", trouble[0], path)
            self._try(lambda: to_be_sent(self._recording, path))

    def finalize(self, status: str) -> None:
        """Nothing: Lightning calls this at the end of every fit; `finish` ends the run."""

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
