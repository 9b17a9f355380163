"""The run on clean labels, which instance-dependent noise needs."""

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
"""Keys of `data` that the run on clean labels copies from the run that needs it."""

IMBALANCE = ("imbalance", "imbalance_kind", "split_seed")
"""Keys that choose a part of the samples, copied with `data.imbalance`."""

PIXELS = ("image_size", "padding", "workers")
"""Further copied keys for images from files, if the data set has them: the network depends on them, and no preset sets
them."""


def needed(spec: RunSpec) -> Iterator[NeededRun]:
    """The run on clean labels: `noise=none method=ce` with the softmax average. Other runs need none.

    Its directory follows from its configuration, so all rates, seeds and methods on the same data share its file.
    """
    noise = spec.config.noise
    if "probabilities" not in noise or noise.probabilities is not None:
        return
    clean = settle(_clean_run(spec.config))
    yield NeededRun(
        clean,
        RunDirectory(clean.directory).probabilities,
        f"noise={noise.name}",
        f"noise={noise.name} needs class probabilities from a network trained on clean labels, and none are stored in "
        f"{clean.directory}. Training {clean.config.model.name} on {clean.config.data.name} for "
        f"{clean.config.trainer.max_epochs} epochs first; later runs on these data reuse it.",
    )


def filled(spec: RunSpec) -> RunSpec:
    """The run with `noise.probabilities` filled in; with other noise unchanged.

    Raises:
        SlnlabError: the run on clean labels has no file of probabilities.
    """
    for run in needed(spec):
        if not run.file.exists():
            raise SlnlabError(f"{run.spec.directory} is finished but has no {run.file.name}")
        return spec.changed({"noise.probabilities": str(run.file)})
    return spec


def _clean_run(config: DictConfig) -> DictConfig:
    """The run on clean labels trains on all training samples of `config` with the preset of the data set.

    It never reads the test set. Other keys of `config`, such as the batch size, must not change the noise.
    """
    clean = compose([f"data={config.data.name}", "noise=none", "method=ce", *config.noise.clean_run])
    data = container_of(config)["data"]
    with open_dict(clean):
        pixels = [key for key in PIXELS if "image_size" in data and key in data]
        part = IMBALANCE if data.get("imbalance") else ()
        for key in (*SAMPLES, *pixels, *part):
            clean.data[key] = data[key]
        if data.get("threshold"):  # the extra class of threshold samples has no correct labels
            clean.data.num_classes, clean.data.classes = data["num_classes"] - 1, data["classes"][:-1]
        clean.data.test = False
        clean.method.title = "CE (clean labels, for noise=dependent)"
        clean.softmax_average.enabled = True
        clean.runs_dir = config.runs_dir
        clean.trainer.accelerator = config.trainer.accelerator
        clean.trainer.progress = config.trainer.progress
        clean.trainer.threads = config.trainer.threads
        clean.seed = 0
    return clean
