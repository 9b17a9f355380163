"""Instance-dependent noise needs a network trained on clean labels: the run that makes it."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, open_dict

from slnlab.config import compose
from slnlab.config.container import container_of
from slnlab.config.run_spec import RunSpec
from slnlab.errors import SlnlabError
from slnlab.record.run_directory import RunDirectory
from slnlab.training.needed import NeededRun
from slnlab.training.settling import settle

SAMPLES = ("source", "train_size", "num_train", "num_classes", "channels", "classes", "mean", "std")
"""Keys of `data` that the run on clean labels has from the run that it is made for."""

PIXELS = ("image_size", "padding", "workers")
"""Likewise where images stream from files: these are what the network is made for, and have no preset."""


def needed(spec: RunSpec) -> Iterator[NeededRun]:
    """An ordinary run (`noise=none method=ce` with the softmax average) whose directory follows from its configuration.

    So every rate, seed and method on the same data finds the same file.
    """
    noise = spec.config.noise
    if "probabilities" not in noise or noise.probabilities is not None:
        return
    clean = settle(_clean_run(spec.config))
    yield NeededRun(
        clean,
        RunDirectory(clean.directory).probabilities,
        f"noise=dependent needs class probabilities from a network trained on clean labels, and none are stored in "
        f"{clean.directory}. Training {clean.config.model.name} on {clean.config.data.name} for "
        f"{clean.config.trainer.max_epochs} epochs first; later runs on these data reuse it.",
    )


def filled(spec: RunSpec) -> RunSpec:
    """With `noise.probabilities`; other noise passes as it is.

    Raises:
        SlnlabError: the run on clean labels has left none.
    """
    for run in needed(spec):
        if not run.file.exists():
            raise SlnlabError(f"{run.spec.directory} is finished but has no {run.file.name}")
        return spec.changed({"noise.probabilities": str(run.file)})
    return spec


def _clean_run(config: DictConfig) -> DictConfig:
    """It trains on the training samples of `config`, all of them, in the way that the data set's preset says.

    It never reads the test set. Nothing else of `config`, such as its batch size, may change the noise.
    """
    made = compose([f"data={config.data.name}", "noise=none", "method=ce", *config.noise.clean_run])
    data = container_of(config)["data"]
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
