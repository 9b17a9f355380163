"""TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from slnlab.errors import SlnlabError
from slnlab.record.run_directory import RunDirectory


def tensorboard_logger(run: RunDirectory, **_: Any) -> Logger:
    """A logger that writes event files to `tensorboard/` in the run directory.

    Raises:
        SlnlabError: the extra `tensorboard` is not installed.
    """
    try:
        import tensorboard  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError:
        raise SlnlabError("logger=tensorboard needs the extra: pip install 'slnlab[tensorboard]'") from None
    return ResumedTensorBoardLogger(run.path, name="tensorboard", version="")


class ResumedTensorBoardLogger(TensorBoardLogger):
    """A TensorBoardLogger for resumed runs: readers find each epoch once."""

    _purged = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if not self._purged:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]

            # On this event TensorBoard drops what earlier starts of the run wrote for this step and later ones.
            restart = Event(step=step, session_log=SessionLog(status=SessionLog.START))
            self.experiment.file_writer.add_event(restart)
            self._purged = True
        super().log_metrics(metrics, step)
