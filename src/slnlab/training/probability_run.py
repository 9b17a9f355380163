"""Instance-dependent noise needs a network trained on clean labels: make that run where it is missing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf, open_dict

from slnlab.config import compose
from slnlab.config.identity import run_subdir
from slnlab.config.plain import plain
from slnlab.errors import SlnlabError
from slnlab.record.run_directory import RunDirectory

if TYPE_CHECKING:
    from slnlab.record.result import Result

log = logging.getLogger(__name__)


SAMPLES = ("source", "train_size", "num_train", "num_classes", "channels", "classes", "mean", "std")
"""Keys of `data` that the run on clean labels has from the run that it is made for."""

PIXELS = ("image_size", "padding", "workers")
"""Likewise where images stream from files: these are what the network is made for, and have no preset."""


def with_probabilities(config: DictConfig, train: Callable[..., Result]) -> DictConfig:
    """The configuration with `noise.probabilities` filled in; other noise passes as it is.

    The probabilities come from an ordinary run (`noise=none method=ce` with the softmax average) whose directory
    follows from its configuration. So every rate, seed and method on the same data finds the same file.

    Args:
        config: of the run with noisy labels.
        train: `slnlab.train.train`, which does the run on clean labels where none is stored.
    """
    if "probabilities" not in config.noise or config.noise.probabilities is not None:
        return config
    clean = clean_run(config)
    directory = RunDirectory(Path(config.runs_dir) / run_subdir(clean))
    if not directory.finished or not directory.probabilities.exists():
        log.info(
            "noise=dependent needs class probabilities from a network trained on clean labels, and none are stored "
            "in %s. Training %s on %s for %d epochs first; later runs on these data reuse it.",
            directory.path,
            clean.model.name,
            clean.data.name,
            clean.trainer.max_epochs,
        )
        if directory.finished:  # finished, but its probabilities were removed
            clean.force = True
        result = train(clean, directory.path, ["(made for noise=dependent)"], wait=True)
        log.info("class probabilities made in %.0f s of training", result.timing.total_seconds)
    if not directory.probabilities.exists():
        raise SlnlabError(f"{directory.path} is finished but has no {directory.probabilities.name}")
    filled = OmegaConf.create(plain(config))
    filled.noise.probabilities = str(directory.probabilities)
    return filled


def clean_run(config: DictConfig) -> DictConfig:
    """The configuration of the run on clean labels.

    It trains on the training samples of `config`, all of them, in the way that the data set's preset says, and never
    reads the test set. Nothing else of `config`, such as its batch size, may change the noise.
    """
    made = compose([f"data={config.data.name}", "noise=none", "method=ce", *config.noise.clean_run])
    data = plain(config)["data"]
    with open_dict(made):
        for key in SAMPLES + (PIXELS if "image_size" in data else ()):
            made.data[key] = data[key]
        made.data.test = False
        made.method.title = "CE (clean labels, for noise=dependent)"
        made.softmax_average.enabled = True
        made.runs_dir = config.runs_dir
        made.trainer.accelerator = config.trainer.accelerator
        made.trainer.progress = config.trainer.progress
        made.trainer.threads = config.trainer.threads
        made.seed = 0
    return made
