"""The devices of a run: GPUs or CPU, one process or several, and its threads."""

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
from slnlab.processes.float32 import float32_convolutions
from slnlab.processes.starting import started_by


def on_gpus(config: DictConfig) -> bool:
    """True if the run uses GPUs.

    Raises:
        ConfigError: the run asks for more GPUs than PyTorch sees, or for a feature of GPUs without using them.
    """
    devices, accelerator = config.trainer.devices, config.trainer.accelerator
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "gpu" and not (cuda or torch.backends.mps.is_available()):
        raise ConfigError("trainer.accelerator: gpu, but PyTorch sees none on this machine; auto or cpu works")
    wanted = accelerator != "cpu" and (cuda > 0 or accelerator == "gpu")
    if wanted and devices > max(cuda, 1) and not (cuda == 1 and started_by()):
        raise ConfigError(f"trainer.devices: {devices}, but PyTorch sees {max(cuda, 1)} GPU(s) on this machine")
    if config.trainer.sync_batchnorm and devices > 1 and not wanted:
        raise ConfigError("trainer.sync_batchnorm: PyTorch has it on GPUs only")
    return wanted


def accelerator(config: DictConfig) -> str:
    """Lightning's accelerator. Several processes without GPUs get "cpu", as they cannot share a Mac's only GPU."""
    return "cpu" if world_size() > 1 and not on_gpus(config) else str(config.trainer.accelerator)


def strategy(config: DictConfig) -> DDPStrategy:
    """Lightning's strategy for several processes."""
    in_turn = getattr(get_class(config.method._target_), "trains_in_turn", False)
    # Lightning takes the GPU with the process's number on the machine. A process that sees one GPU has only the first.
    gpus = [torch.device("cuda", 0)] * config.trainer.devices if one_gpu_each(config) else None
    return DDPStrategy(broadcast_buffers=False, find_unused_parameters=in_turn, parallel_devices=gpus)


def one_gpu_each(config: DictConfig) -> bool:
    """True if each of several processes sees only its own GPU, as with `srun --gpus-per-task=1`."""
    return world_size() > 1 and on_gpus(config) and torch.cuda.device_count() == 1


@contextmanager
def threads(config: DictConfig) -> Iterator[None]:
    """Set `trainer.threads` CPU threads inside the block, and float32 in its convolutions.

    The default number of threads is the number of cores granted to this process, at most PyTorch's own number
    (OMP_NUM_THREADS), divided among the processes started within the block.
    """
    before = torch.get_num_threads()
    available = min(before, cores())
    torch.set_num_threads(config.trainer.threads or max(1, available // processes_here(config.trainer.devices)))
    try:
        with float32_convolutions():
            yield
    finally:
        torch.set_num_threads(before)
