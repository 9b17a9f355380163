"""The AUM cut with threshold samples: labels that are learned no better than surely wrong ones are suspected."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
from omegaconf import open_dict

from slnlab.errors import ConfigError, DataError
from slnlab.inference.folds import further, replacing
from slnlab.inference.trained_run import TrainedRun
from slnlab.record.run_directory import RunDirectory
from slnlab.record.samples_file import read_samples
from slnlab.training.needed import Train
from slnlab.training.settling import settle

log = logging.getLogger(__name__)

FOLDER = ".threshold"
"""Folder of the runs below that of the diagnosed one."""

QUANTILE = 0.99
"""The threshold is this quantile of the AUM of the threshold samples (section 3.2)."""


def threshold_margin(run: TrainedRun, train: Train) -> npt.NDArray[np.float64]:
    """Train the run twice more, each time with a set of threshold samples (`data.threshold`).

    The AUM is that of the run's first network over its epochs.

    Args:
        run: the run to diagnose.
        train: `slnlab.train.train`. Finished runs are not trained again, and a stopped one goes on.

    Returns:
        AUM − threshold of each sample in the order of `run.samples`, by the first run in which it is no threshold
        sample; at most 0: suspected.

    Raises:
        ConfigError: the run starts from trained weights, has data.sampling=balanced, or a file with its transition
            matrix.
        DataError: the data set has changed since the run.
        SlnlabError: a run fails.
    """
    if run.config.init["from"] is not None:
        raise ConfigError("--threshold-samples: the run starts from trained weights, which know no extra class")
    if run.config.data.get("sampling") == "balanced":
        raise ConfigError("--threshold-samples: the run draws equally many of each label, and they change labels")
    matrix = run.config.method.get("transition")
    if isinstance(matrix, str) and matrix not in ("known", "estimated"):
        raise ConfigError(
            f"--threshold-samples: they add a class, and the matrix in method.transition={matrix} has no row of it; "
            "train with transition=known or estimated"
        )
    index, extra = run.samples["index"], len(run.classes)
    found = np.full(len(index), np.nan)
    for number in (1, 2):
        config = further(run.config)
        with open_dict(config):
            config.data.threshold, config.data.num_classes = number, extra + 1
            config.model.num_classes = extra + 1
            config.data.classes = [*run.classes, "(threshold)"]
        directory = run.directory / FOLDER / str(number)
        log.info("threshold samples, run %d of 2, in %s", number, directory)
        train(replacing(settle(config), directory), directory, [f"(threshold samples {number} of {run.directory})"])
        columns = read_samples(RunDirectory(directory).samples, needed=["aum"])
        if columns["index"].tolist() != index.tolist():
            raise DataError(f"{directory}: has other training samples than {run.directory}")
        chosen = columns["given"] == extra
        if (columns["given"] != run.samples["given"])[~chosen].any():
            raise DataError(f"{directory}: its given labels differ from those in {run.directory}")
        margin = columns["aum"] - np.nanquantile(columns["aum"][chosen], QUANTILE)
        found = np.where(np.isnan(found) & ~chosen, margin, found)
    return found
