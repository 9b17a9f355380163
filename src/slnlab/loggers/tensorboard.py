"""TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from slnlab.errors import SlnlabError
from slnlab.record.run_directory import RunDirectory


def tensorboard_logger(run: RunDirectory, **_: Any) -> Logger:
    """Event files in `tensorboard/` below the run directory.

    Raises:
        SlnlabError: the extra `tensorboard` is not installed.
    """
    try:
        import tensorboard  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError:
        raise SlnlabError("logger=tensorboard needs the extra: pip install 'slnlab[tensorboard]'") from None
    return ResumedTensorBoardLogger(run.path, name="tensorboard", version="")


class ResumedTensorBoardLogger(TensorBoardLogger):
    """A TensorBoardLogger of a run that may have been stopped: readers find each epoch once."""

    _purged = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if not self._purged:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]

            # TensorBoard drops events of this step and later ones that an earlier start of the run has written.
            restart = Event(step=step, session_log=SessionLog(status=SessionLog.START))
            self.experiment.file_writer.add_event(restart)
            self._purged = True
        super().log_metrics(metrics, step)
