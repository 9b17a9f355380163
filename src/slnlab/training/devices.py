"""What a run trains on: GPUs or CPU, one process or several, so many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from hydra.utils import get_class
from omegaconf import DictConfig
from pytorch_lightning.strategies import DDPStrategy

from slnlab.errors import ConfigError
from slnlab.processes.cores import cores, processes_here
from slnlab.processes.distributed import world_size
from slnlab.processes.starting import started_by


def on_gpus(config: DictConfig) -> bool:
    """Whether the run uses GPUs.

    Raises:
        ConfigError: it asks for a GPU, or so many, that PyTorch does not see, or for what only GPUs can do.
    """
    devices, accelerator = config.trainer.devices, config.trainer.accelerator
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "gpu" and not (cuda or torch.backends.mps.is_available()):
        raise ConfigError("trainer.accelerator: gpu, but PyTorch sees none on this machine; auto or cpu")
    wanted = accelerator != "cpu" and (cuda > 0 or accelerator == "gpu")
    if wanted and devices > max(cuda, 1) and not (cuda == 1 and started_by()):
        raise ConfigError(f"trainer.devices: {devices}, but PyTorch sees {max(cuda, 1)} GPU(s) on this machine")
    if config.trainer.sync_batchnorm and devices > 1 and not wanted:
        raise ConfigError("trainer.sync_batchnorm: PyTorch has it on GPUs only")
    return wanted


def accelerator(config: DictConfig) -> str:
    """What Lightning is to use; several processes that `on_gpus` found no GPUs for must not find a Mac's only one."""
    return "cpu" if world_size() > 1 and not on_gpus(config) else str(config.trainer.accelerator)


def strategy(config: DictConfig) -> DDPStrategy:
    in_turn = getattr(get_class(config.method._target_), "trains_in_turn", False)
    # Lightning takes the one of the process's place on the machine, and a process that sees one GPU has only the first.
    gpus = [torch.device("cuda", 0)] * config.trainer.devices if one_gpu_each(config) else None
    return DDPStrategy(broadcast_buffers=False, find_unused_parameters=in_turn, parallel_devices=gpus)


def one_gpu_each(config: DictConfig) -> bool:
    """Whether each of several processes sees its own GPU only, as `srun --gpus-per-task=1` has it."""
    return world_size() > 1 and on_gpus(config) and torch.cuda.device_count() == 1


@contextmanager
def threads(config: DictConfig) -> Iterator[None]:
    """trainer.threads of the CPU inside the block. By default they are the cores granted to this process, at most as
    many as PyTorch would use (OMP_NUM_THREADS), shared by the processes that are started within the block."""
    before = torch.get_num_threads()
    available = min(before, cores())
    torch.set_num_threads(config.trainer.threads or max(1, available // processes_here(config.trainer.devices)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
