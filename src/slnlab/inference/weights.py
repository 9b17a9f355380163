"""The trained networks of a finished run, from its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from slnlab.callbacks.momentum import MomentumModel
from slnlab.config.identity import digest
from slnlab.errors import DataError
from slnlab.record.checkpoints import Checkpoints
from slnlab.record.result import Result
from slnlab.record.run_directory import RunDirectory
from slnlab.training import assemble


def finished(path: Path) -> tuple[RunDirectory, DictConfig, Result]:
    """A run's directory, its configuration and its result.

    Raises:
        DataError: it is no directory, holds no run, or one that is not finished or cannot be read.
    """
    run = RunDirectory(path)
    if not path.is_dir():
        raise DataError(f"{path}: is no directory of a run")
    if not run.config.exists():
        below = ", ".join(map(str, islice(_runs_below(path), 3)))
        raise DataError(f"{path}: holds no run; " + (f"there are runs in {below}" if below else "no config.yaml"))
    if not run.finished:
        raise DataError(f"{path}: is not finished; the command that began it goes on where it stopped")
    result = Result.load(run.result)
    try:
        config = OmegaConf.load(run.config)
    except Exception as error:  # of the file, of YAML, of OmegaConf
        raise DataError(f"{run.config}: cannot be read ({error})") from error
    if not isinstance(config, DictConfig):
        raise DataError(f"{run.config}: is no configuration")
    return run, config, result


def _runs_below(path: Path) -> Iterator[Path]:
    return (found.parent for found in path.rglob("result.json"))


def trained_networks(run: RunDirectory, config: DictConfig, result: Result) -> dict[str, nn.Module]:
    """Everybody who was evaluated when the run ended, by the names of the record, on the CPU.

    The method rebuilds all that it judges, so that one with two networks, or with weights that it keeps beside
    (early stopping), needs no thought here. Nothing in the checkpoint is executed.

    Raises:
        DataError: the checkpoint is gone, damaged, of an earlier epoch, or holds other weights.
        ConfigError: the network or the method cannot be imported.
    """
    if not run.checkpoint.exists():
        raise DataError(f"{run.path}: has no weights any more: {run.checkpoint.relative_to(run.path)} is missing")
    checkpoint = Checkpoints(run.checkpoint, digest(result.identity)).load_checkpoint(run.checkpoint)
    if len(checkpoint["metrics"]) != result.epochs:  # a full disk has kept the last one from being written
        raise DataError(
            f"{run.checkpoint}: holds epoch {len(checkpoint['metrics'])}, and the result is of epoch {result.epochs}; "
            "force=true trains again"
        )
    here = config.copy()
    here.trainer.accelerator, here.trainer.compile = "cpu", False
    method = assemble.method(here)
    try:
        method.on_load_checkpoint(checkpoint)
        method.load_state_dict(checkpoint["state_dict"])
        if config.momentum.enabled:
            momentum = MomentumModel(config.momentum.decay)
            momentum.load_state_dict(_state_of(momentum, checkpoint))
            momentum.restore(method)
    except (KeyError, RuntimeError) as error:
        raise DataError(f"{run.checkpoint}: does not hold the weights of {run.config.name}: {error}") from error
    return {name: network.requires_grad_().eval() for name, network in method.judged.items()}


def _state_of(callback: MomentumModel, checkpoint: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = checkpoint["callbacks"][callback.state_key]
    return state
