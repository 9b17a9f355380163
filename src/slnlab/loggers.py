"""Loggers besides `metrics.csv`. None of them can end a training run."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from slnlab.errors import SlnlabError
from slnlab.files import replacing
from slnlab.run_directory import RunDirectory

log = logging.getLogger(__name__)


def tensorboard_logger(run: RunDirectory, **_: Any) -> Logger:
    """Event files in `tensorboard/` below the run directory.

    Raises:
        SlnlabError: the extra `tensorboard` is not installed.
    """
    try:
        import tensorboard  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError:
        raise SlnlabError("logger=tensorboard needs the extra: pip install 'slnlab[tensorboard]'") from None
    return TensorBoardLogger(run.path, name="tensorboard", version="")


def wandb_logger(
    run: RunDirectory,
    *,
    mode: str,
    project: str,
    entity: str | None,
    tags: Sequence[str],
    timeout: float,
    group: str,
    title: str,
    about: Sequence[str],
    config: Mapping[str, Any],
) -> Logger | None:
    """A Weights & Biases run of its own, or None when the server does not answer.

    Its id is kept in the run directory, so that a resumed run goes on in the same W&B run.

    Args:
        run: the run's directory.
        mode: "online", "offline" or "disabled".
        project, entity, tags: as in W&B.
        timeout: seconds to wait for the server, at the start and at the end.
        group: runs that W&B averages: the configuration without its seed.
        title: the run's name.
        about: data set, noise and method, which become tags before `tags`.
        config: what W&B shows as the run's configuration.
    """
    import wandb

    try:
        if not run.wandb_id.exists():
            with replacing(run.wandb_id) as file:
                file.write(uuid.uuid4().hex[:8].encode())
        # `mode` here and not WANDB_MODE or WandbLogger(offline=True): those outlive the run in the environment.
        experiment = wandb.init(
            project=project,
            entity=entity,
            group=group,
            name=title,
            tags=list(dict.fromkeys([*about, *tags])),
            id=run.wandb_id.read_text(encoding="utf-8").strip(),
            resume="allow",
            dir=str(run.path),
            mode=mode,  # type: ignore[arg-type]
            config=dict(config),
            reinit="create_new",
            settings=wandb.Settings(init_timeout=timeout, silent=True),
        )
    except Exception as error:  # whatever a server or a network may do, training goes on
        log.warning("W&B does not answer (%s); the run goes on, recorded in %s", error, run.path)
        return None
    return ResilientWandbLogger(experiment, timeout)


class ResilientWandbLogger(WandbLogger):
    """A WandbLogger around one run that never raises and ends with the run's own exit code."""

    def __init__(self, experiment: Any, timeout: float) -> None:
        super().__init__(experiment=experiment)
        self._run, self._timeout = experiment, timeout
        self._complained = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._try(lambda: self._run.log(dict(metrics), step=step))

    def finish(self, exit_code: int) -> None:
        """End the W&B run: finished for 0, crashed otherwise. Waits at most `timeout` seconds."""
        thread = threading.Thread(target=self._try, args=(lambda: self._run.finish(exit_code=exit_code),), daemon=True)
        thread.start()
        thread.join(self._timeout)
        if thread.is_alive():
            log.warning(
                "W&B has not finished within %g s; what it did not send can be sent by `wandb sync`",
                self._timeout,
            )

    def finalize(self, status: str) -> None:
        """Nothing: Lightning calls this at the end of every fit; `finish` ends the run."""

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # see wandb_logger
            if not self._complained:
                log.warning("W&B fails (%s); the run goes on without it", error)
            self._complained = True
