"""The objects of a run, built from its checked configuration."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.utils import get_class, get_method
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.profilers import PyTorchProfiler

from slnlab.callbacks.best_epoch import BestEpoch
from slnlab.callbacks.correction import LabelCorrection
from slnlab.callbacks.dynamics import TrainingDynamics
from slnlab.callbacks.epoch_timer import EpochTimer
from slnlab.callbacks.evaluation_schedule import EvaluationSchedule
from slnlab.callbacks.memorisation import MemorisationMonitor
from slnlab.callbacks.momentum import MomentumModel
from slnlab.callbacks.progress import EpochProgress
from slnlab.callbacks.run_record import RunRecord, Watch
from slnlab.callbacks.signals import OwnSignals
from slnlab.callbacks.softmax_average import SoftmaxAverage
from slnlab.callbacks.within_epoch import WithinEpoch
from slnlab.config.contents import unverified
from slnlab.config.identity import digest
from slnlab.config.run_spec import RunSpec
from slnlab.data import IndexedDataModule
from slnlab.data.source import made_source
from slnlab.errors import ConfigError
from slnlab.methods import Method
from slnlab.models import stacked
from slnlab.processes.distributed import rank, world_size
from slnlab.record.checkpoints import Checkpoints
from slnlab.record.environment import environment
from slnlab.record.metrics import summarise_timing
from slnlab.record.result import Result
from slnlab.record.run_directory import RunDirectory
from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.law import law
from slnlab.streams import derive, seeded
from slnlab.training.devices import accelerator, on_gpus, one_gpu_each, strategy


def _options(node: DictConfig, *without: str) -> dict[str, Any]:
    """The arguments in a node: its keys without `_target_`, `name` and `without`, as plain containers."""
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items() if k not in ("_target_", "name", *without)}


def datamodule(config: DictConfig) -> IndexedDataModule:
    """The data module, with its label noise."""
    options = _options(config.data, "source", "unreadable", "labels")  # the last two are arguments of the source
    noise = OmegaConf.to_container(config.noise, resolve=True)
    kind: type[Any] = _class("data", config.data._target_, IndexedDataModule)
    module: IndexedDataModule = kind(
        source=made_source(config),
        noise=noise,
        seed=config.seed,
        name=config.data.name,
        **options,
    )
    return module


def method(config: DictConfig) -> Method:
    """The method with newly initialised networks. Each initialisation has a random stream of its own."""
    kind: type[Any] = _class("method", config.method._target_, Method)
    built: Method = kind(
        *(_network(config, number) for number in range(len(kind.network_names))),
        **_composed(config),
        optimizer=_optimizer(config),
        scheduler=partial(get_class(config.scheduler._target_), **_options(config.scheduler)),
        clip_norm=config.clip_norm,
        seed=config.seed,
        reset_optimizer_each_epoch=config.optimizer.get("reset_each_epoch", False),
        **_options(config.method, "title", "rows", "refuses", "needs", "fixed"),
    )
    return built


def _class(section: str, target: str, kind: type[Any]) -> type[Any]:
    """The class of this name, checked before it is called.

    Raises:
        ConfigError: the class cannot be imported, or is no subclass of `kind`.
    """
    try:
        found = get_class(target)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{section}._target_: {target} cannot be imported ({error}); is it on PYTHONPATH?") from error
    if not issubclass(found, kind):
        raise ConfigError(f"{section}._target_: {target} is no {kind.__module__.removesuffix('.base')}.{kind.__name__}")
    return found


def _composed(config: DictConfig) -> dict[str, Any]:
    """The loss and the additions to a method's objective (σ, mixup, SAM and so on) that its class takes."""
    offered: dict[str, Any] = {"class_losses": _loss(config)}
    for each in COMPOSABLE:
        if each.section in config:  # finished runs may not know it
            offered |= {parameter: config[each.section][key] for parameter, key in each.parameters.items()}
    takes = law(config.method).takes
    return {name: value for name, value in offered.items() if takes is None or name in takes}


def _loss(config: DictConfig) -> Callable[[torch.Tensor], torch.Tensor]:
    target = config.loss._target_
    losses = partial(get_method(target), **_options(config.loss))
    return losses if target.startswith("slnlab.") else partial(_of_every_class, losses, target)


def _of_every_class(losses: Callable[[torch.Tensor], Any], target: str, logits: torch.Tensor) -> torch.Tensor:
    """The losses of a function that is not slnlab's.

    Raises:
        ConfigError: it gives no loss for each class.
    """
    found = losses(logits)
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if shape != tuple(logits.shape):
        raise ConfigError(
            f"loss._target_: {target} gives {shape} for logits of shape {tuple(logits.shape)}; it must give the same "
            "shape, the loss of every class as the label, which the targets weigh"
        )
    return cast(torch.Tensor, found)


def _new_network(config: DictConfig) -> torch.nn.Module:
    network: torch.nn.Module = _class("model", config.model._target_, torch.nn.Module)(**_options(config.model))
    return network


def _network(config: DictConfig, number: int) -> torch.nn.Module:
    with seeded(derive(config.seed, "initialisation", number)):
        network = _new_network(config)
    if config.trainer.compile:
        from torch._dynamo import config as dynamo

        # In place, which keeps the names in a checkpoint and the copies of a momentum model. Every batch shape
        # (whole, last, evaluation) is compiled separately, as CUDA graphs have fixed shapes. SLN's noise and the
        # learning rate lie outside the network, so changing them compiles nothing again. Methods that select samples
        # have a last batch of another size in each epoch, and PyTorch compiles no more than 8 by itself.
        limit = "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit"  # PyTorch 2.6
        setattr(dynamo, limit, max(64, getattr(dynamo, limit)))
        network.compile(mode="reduce-overhead" if on_gpus(config) else "default", dynamic=False)
    # Faster convolutions on CPUs, and on GPUs in half precision; in float32 on a GPU it has not been measured.
    return network.to(memory_format=torch.channels_last)


def try_network(config: DictConfig, data: IndexedDataModule) -> None:
    """Pass two empty images through a network that is not slnlab's, so that a wrong shape is found before training.

    Raises:
        ConfigError: the network does not take them, or gives no logit for each class.
    """
    target = config.model._target_
    if target.startswith("slnlab."):
        return
    shape = (2, config.data.channels, *(data.preprocessing.crop or ()))
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        network = _new_network(config).eval()
        try:
            outputs = network(torch.zeros(shape))
        except Exception as error:  # whatever a network of the user's raises
            raise ConfigError(f"model._target_: {target} does not take a batch of shape {shape}: {error}") from error
    found = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if found != (2, config.data.num_classes):
        wanted = f"it must give (2, {config.data.num_classes}), a logit for each class"
        raise ConfigError(f"model._target_: {target} gives {found} for a batch of shape {shape}; {wanted}")


def prepare_networks(config: DictConfig) -> None:
    """Fetch the pretrained weights of the networks, if their class has any; see `slnlab.models`.

    Raises:
        DataError: the weights are neither stored nor available.
    """
    kind = get_class(config.model._target_)
    if hasattr(kind, "prepare"):
        with torch.device("meta"):  # needs no memory for a network that is thrown away
            kind(**_options(config.model)).prepare()


def why_not_stacked(config: DictConfig) -> str | None:
    """See `slnlab.models.stacked.why_not_stacked`; the network is made without memory."""
    with torch.device("meta"):
        reason = stacked.why_not_stacked(_new_network(config))
    return None if reason is None else f"model={config.model.name}: {reason}"


def start_networks(method: Method) -> None:
    """Load the pretrained weights into the networks, if their class has any.

    Raises:
        DataError: the weights are missing.
    """
    for network in method.networks.values():
        start: Any = getattr(network, "start", None)
        if start is not None:
            start()


def _optimizer(config: DictConfig) -> partial[torch.optim.Optimizer]:
    kind, options = get_class(config.optimizer._target_), _options(config.optimizer, "reset_each_epoch")
    other = options.get("foreach") or options.get("differentiable")  # PyTorch refuses fused beside them
    if on_gpus(config) and torch.cuda.is_available() and not other and "fused" in inspect.signature(kind).parameters:
        options.setdefault("fused", True)  # one kernel for all parameters
    return partial(kind, **options)


def loggers(spec: RunSpec, run: RunDirectory) -> list[Logger]:
    """The loggers of `logger=`, beside metrics.csv. Only the first of several processes has any."""
    config = spec.config
    if config.logger.get("_target_") is None or rank() > 0:
        return []
    logger = get_method(config.logger._target_)(
        run,
        group=f"{config.data.name} {config.noise.name} {config.method.name} {spec.group}",
        title=spec.title,
        about=[config.data.name, spec.noise, config.method.name],
        config=spec.identity,
        **_options(config.logger),
    )
    return [logger] if logger is not None else []


def close(loggers: Sequence[Logger], exit_code: int) -> None:
    """End the loggers.

    Args:
        loggers: of the run.
        exit_code: 0 marks the run as successful, any other as crashed.
    """
    for logger in loggers:
        if hasattr(logger, "finish"):
            logger.finish(exit_code)
        else:
            logger.finalize("success" if exit_code == 0 else "failed")


def checkpoints(spec: RunSpec, run: RunDirectory) -> Checkpoints:
    """The run's checkpoints, bound to its identity."""
    return Checkpoints(run.checkpoint, digest(spec.identity))


def trainer(
    spec: RunSpec,
    run: RunDirectory,
    loggers: Sequence[Logger],
    watch: Watch | None = None,
    more: Sequence[pl.Callback] = (),
) -> tuple[pl.Trainer, RunRecord]:
    """Lightning's Trainer with the run's callbacks, and its record, which holds the findings.

    Args:
        spec: of the run.
        run: its directory.
        loggers: see `loggers`.
        watch: receives each row of metrics.csv.
        more: further callbacks.
    """
    config = spec.config
    record = RunRecord(run, spec.rows, watch)
    timer, files = EpochTimer(), checkpoints(spec, run)
    callbacks: list[pl.Callback] = [timer, OwnSignals(), EvaluationSchedule(config.trainer.evaluate_every)]
    if config.momentum.enabled:
        callbacks.append(MomentumModel(config.momentum.decay))
    if config.correction.enabled:
        callbacks.append(LabelCorrection(**_options(config.correction, "enabled")))
    if config.softmax_average.enabled:
        callbacks.append(SoftmaxAverage(run.probabilities))
    callbacks += [*more, MemorisationMonitor(), TrainingDynamics()]
    if config.best_epoch.enabled:
        callbacks.append(BestEpoch(**_options(config.best_epoch, "enabled")))
    if config.trainer.progress and rank() == 0:
        callbacks.append(EpochProgress(spec.title, spec.rows))
    callbacks += [record, WithinEpoch(files, timer, config.trainer.checkpoint_every_steps)]
    _quieten()
    made = pl.Trainer(
        **{
            key: config.trainer[key]
            for key in ("max_epochs", "num_nodes", "precision", "sync_batchnorm", "deterministic")
        },
        devices="auto" if one_gpu_each(config) else config.trainer.devices,
        accelerator=accelerator(config),
        profiler=_profiler(run) if config.trainer.profile and rank() == 0 else None,
        # The processes average the buffers when they are needed, those of momentum models too; DDP would every call.
        strategy=strategy(config) if world_size() > 1 else "auto",
        callbacks=callbacks,
        logger=list(loggers) or False,
        plugins=[files, LightningEnvironment()],
        default_root_dir=run.path,
        # Lightning's progress, summary and checkpoints count its calls, but one call holds many steps.
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    return made, record


def _profiler(run: RunDirectory) -> PyTorchProfiler:
    """A profiler of a few calls, from the second on: a table, and a trace for Chrome or Perfetto."""
    run.profile.mkdir(exist_ok=True)
    return PyTorchProfiler(dirpath=run.profile, filename="profile", row_limit=-1)


def result(spec: RunSpec, data: IndexedDataModule, record: RunRecord) -> Result:
    """The result of the finished run."""
    config, rows = spec.config, record.epochs
    assert record.findings is not None
    is_unverified = unverified(spec.container)
    return Result(
        data=f"{config.data.name} (unverified files)" if is_unverified else config.data.name,
        unverified_pixels=data.pixels_hash() if is_unverified else None,
        noise=config.noise.name,
        noise_rate=config.noise.rate,
        method=config.method.name,
        seed=config.seed,
        group=spec.group,
        identity=spec.identity,
        epochs=len(rows),
        label_noise=data.noise_summary(),
        timing=summarise_timing(rows),
        environment=record.run.stored_environment() or environment(),
        **record.findings._asdict(),
    )


def _quieten() -> None:
    """Silence Lightning's remarks that do not apply: no data loader has workers, and one call holds many steps."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*available but not used.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*Total length of `dict` across ranks is zero.*")
    # All processes log the same values.
    warnings.filterwarnings("ignore", message=".*recommended to use `self.log.*sync_dist=True.*")
    warnings.filterwarnings("ignore", message=".*broadcast_buffers.*")  # older PyTorch lacks its successor
    # SLURM jobs start their own processes.
    warnings.filterwarnings("ignore", message=".*srun. command is available on your system.*")
    # A run stopped after an epoch's last step continues with the schedule.
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.* before .*optimizer.step.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated.*")
