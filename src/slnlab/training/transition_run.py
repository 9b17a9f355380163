"""A transition matrix is estimated from a network that learned the noisy labels: make that run where it is missing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf, open_dict

from slnlab.config import compose
from slnlab.config.identity import run_subdir
from slnlab.config.plain import plain
from slnlab.record.run_directory import RunDirectory

if TYPE_CHECKING:
    from slnlab.record.result import Result

log = logging.getLogger(__name__)

SHARED = ("data", "noise", "model", "loss", "optimizer", "scheduler", "trainer", "seed", "runs_dir")
"""What the run on noisy labels has from the run that it is made for."""


def with_estimate(config: DictConfig, train: Callable[..., Result]) -> DictConfig:
    """The configuration with `method.estimate_from` filled in; other methods pass as they are.

    The predictions come from an ordinary run whose directory follows from its configuration, so forward and backward
    correction find the same one.

    Args:
        config: of the run that needs the matrix.
        train: `slnlab.train.train`, which does the run on the noisy labels where none is stored.
    """
    if config.method.get("transition") != "estimated" or config.method.estimate_from is not None:
        return config
    noisy = noisy_run(config)
    directory = RunDirectory(Path(config.runs_dir) / run_subdir(noisy))
    if not directory.probabilities.exists():
        from slnlab.processes.distributed import world_size

        # Of several processes (SLURM's, torchrun's) one is here, which would predict its part only: `train` refuses.
        if not directory.finished or not directory.checkpoint.exists() or world_size() > 1:
            log.info(
                "method=%s estimates its transition matrix from a network that learned the noisy labels, and none is "
                "stored in %s. Training it for %d epochs first.",
                config.method.name,
                directory.path,
                noisy.trainer.max_epochs,
            )
            noisy.force = directory.finished  # finished, but its weights were removed
            train(noisy, directory.path, [f"(made for method={config.method.name})"], wait=True)
        _predict(noisy, directory, train)
    filled = OmegaConf.create(plain(config))
    filled.method.estimate_from = str(directory.probabilities)
    return filled


def noisy_run(config: DictConfig) -> DictConfig:
    """The configuration of the run on noisy labels: cross entropy, the best epoch on held-out noisy labels.

    It is trained as `config` is, but never reads the test set. Where `config` holds nothing out, it holds out a tenth.
    """
    made = compose([f"data={config.data.name}", "method=early_stopping"])
    here = plain(config)
    with open_dict(made):
        for key in SHARED:
            made[key] = here[key]
        size = made.data.train_size or made.data.num_train
        made.data.noisy_val = made.data.noisy_val or max(1, size // 10)
        made.data.test = False
        made.method.criterion = config.method.criterion
        made.method.rows = {
            "best": "CE (best on noisy labels, for the transition matrix)",
            "network": "CE (for the transition matrix) (network)",
        }
    return made


def _predict(config: DictConfig, directory: RunDirectory, train: Callable[..., Result]) -> None:
    """Write the softmax of the run's best weights on all training images, those held out included, as they are."""
    import torch

    from slnlab.data.probabilities import save_probabilities
    from slnlab.models.modes import evaluating
    from slnlab.training import assemble
    from slnlab.training.probability_run import with_probabilities

    device = torch.device("cuda" if assemble.on_gpus(config) and torch.cuda.is_available() else "cpu")
    datamodule = assemble.datamodule(with_probabilities(config, train))
    datamodule.prepare_data()
    datamodule.setup()
    datamodule.to(device)
    checkpoint = assemble.checkpoints(config, directory).load_checkpoint(directory.checkpoint)
    network = assemble.method(config).network.to(device)
    network.load_state_dict(checkpoint["best"]["weights"])
    batches = torch.arange(len(datamodule.table), device=device).split(datamodule.eval_batch_size)
    read = datamodule.reading(batches)
    with evaluating(network), torch.no_grad():
        said = [network(read(number).view()).float().softmax(1) for number in range(len(batches))]
    save_probabilities(directory.probabilities, torch.cat(said), datamodule.table["given"])
