"""The trained networks of a finished run, read from its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from slnlab.callbacks.best_epoch import BestEpoch
from slnlab.callbacks.momentum import MomentumModel
from slnlab.config.identity import digest
from slnlab.errors import DataError
from slnlab.methods import Method
from slnlab.record.checkpoints import read_checkpoint
from slnlab.record.result import Result
from slnlab.record.run_directory import RunDirectory
from slnlab.training import assemble


def finished(path: Path) -> tuple[RunDirectory, DictConfig, Result]:
    """The directory, the configuration and the result of a finished run.

    Raises:
        DataError: `path` is no directory, or its run is missing, unfinished or unreadable.
    """
    run = RunDirectory(path)
    if not path.is_dir():
        raise DataError(f"{path}: is no directory of a run")
    if not run.config.exists():
        below = ", ".join(map(str, islice(_runs_below(path), 3)))
        raise DataError(f"{path}: holds no run; " + (f"there are runs in {below}" if below else "no config.yaml"))
    if not run.finished:
        raise DataError(f"{path}: is not finished; the command that began it continues it")
    result = Result.load(run.result)
    try:
        config = OmegaConf.load(run.config)
    except Exception as error:  # from the file, YAML or OmegaConf
        raise DataError(f"{run.config}: cannot be read ({error})") from error
    if not isinstance(config, DictConfig):
        raise DataError(f"{run.config}: is no configuration")
    return run, config, result


def _runs_below(path: Path) -> Iterator[Path]:
    return (found.parent for found in path.rglob("result.json"))


def trained_networks(run: RunDirectory, config: DictConfig, result: Result) -> dict[str, nn.Module]:
    """All evaluated networks of a finished run, by the rows of its result, in eval mode on the CPU.

    The method rebuilds its networks itself; the callbacks add averages and the best epoch. No code in the checkpoint
    is executed.

    Raises:
        DataError: the checkpoint is missing, damaged, of an earlier epoch, or holds other weights.
        ConfigError: the network or the method cannot be imported.
    """
    if not run.checkpoint.exists():
        raise DataError(f"{run.path}: has lost its weights: {run.checkpoint.relative_to(run.path)} is missing")
    checkpoint = read_checkpoint(run.checkpoint, digest(result.identity))
    if len(checkpoint["metrics"]) != result.epochs:  # a full disk kept the last checkpoint from being written
        raise DataError(
            f"{run.checkpoint}: holds epoch {len(checkpoint['metrics'])}, but the result is of epoch {result.epochs}; "
            "force=true trains again"
        )
    on_cpu = config.copy()
    on_cpu.trainer.accelerator, on_cpu.trainer.compile = "cpu", False
    method = assemble.method(on_cpu)
    try:
        method.on_load_checkpoint(checkpoint)
        method.load_state_dict(checkpoint["state_dict"])
        if config.momentum.enabled:
            _restore(MomentumModel(config.momentum.decay), checkpoint, method)
        if "best_epoch" in config and config.best_epoch.enabled:  # older runs do not know it
            _restore(BestEpoch(config.best_epoch.weights), checkpoint, method)
    except (KeyError, RuntimeError) as error:
        raise DataError(f"{run.checkpoint}: does not hold the weights of {run.config.name}: {error}") from error
    return {name: network.requires_grad_().eval() for name, network in method.judged.items()}


def _restore(callback: MomentumModel | BestEpoch, checkpoint: dict[str, Any], method: Method) -> None:
    """Add the networks of a callback to those that the method judges."""
    callback.load_state_dict(checkpoint["callbacks"][callback.state_key])
    callback.restore(method)
