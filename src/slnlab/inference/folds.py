"""Out-of-fold probabilities: k runs of one configuration, each of which judges the labels that it has not seen."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig, open_dict

from slnlab.config import compose
from slnlab.config.run_spec import RunSpec
from slnlab.errors import ConfigError, DataError
from slnlab.inference.images import data_of, probabilities
from slnlab.inference.trained_run import TrainedRun, load
from slnlab.record.run_directory import RunDirectory
from slnlab.schema.composable import COMPOSABLE
from slnlab.training.needed import Train
from slnlab.training.settling import settle

log = logging.getLogger(__name__)

FOLDER = ".folds"
"""Folder of the runs below that of the diagnosed one. `slnlab report` does not look into hidden folders."""


def check_folds(run: TrainedRun, folds: int) -> None:
    """Check the number of folds before the runs are trained.

    Raises:
        ConfigError: it is below two or above the number of samples, or the run starts from weights that have seen all
            labels.
    """
    samples = len(run.samples["index"])
    if not 2 <= folds <= samples:
        raise ConfigError(f"--folds: must lie in [2, {samples}], the number of training samples, not {folds}")
    if run.config.init["from"] is not None:
        raise ConfigError("--folds: the run starts from trained weights (init.from), which have seen every label")
    if run.config.data.get("fold"):
        raise ConfigError(f"--folds: {run.directory} has trained without a fold itself (data.fold)")


def out_of_fold(run: TrainedRun, folds: int, train: Train) -> npt.NDArray[np.float32]:
    """Train the run once for each fold, without it, and judge the fold by the weights of the run's judge.

    The runs lie in `FOLDER`. Finished ones are not trained again, and a stopped one goes on.

    Args:
        run: the run to diagnose. Its samples are those of the first epoch, without held-out ones.
        folds: number k of folds.
        train: `slnlab.train.train`.

    Returns:
        Probabilities (N, C) of the samples in the order of `run.samples`. A sample held out from the run (noisy_val)
        is in no row.

    Raises:
        ConfigError: see `check_folds`.
        DataError: the data set has changed since the run.
        SlnlabError: a run fails.
    """
    check_folds(run, folds)
    row_of = {index: row for row, index in enumerate(run.samples["index"].tolist())}
    found = np.full((len(row_of), len(run.classes)), np.nan, np.float32)
    device = next(run.model.parameters()).device
    for number in range(folds):
        directory = run.directory / FOLDER / f"{number}-of-{folds}"
        if not RunDirectory(directory).finished:
            log.info("fold %d of %d: training on the other folds, in %s", number + 1, folds, directory)
        config = further(run.config)
        with open_dict(config):
            config.data.fold = [number, folds]
        train(replacing(settle(config), directory), directory, [f"(fold {number} of {folds} of {run.directory})"])
        judge = load(directory, run.weights, device)
        data = data_of(judge)
        rows = data.fold_index
        kept = [place for place, index in enumerate(rows.tolist()) if index in row_of]
        rows, at = rows[kept], [row_of[index] for index in rows[kept].tolist()]
        if (data.labels.given[rows].numpy() != run.samples["given"][at]).any():
            raise DataError(f"{directory}: the given labels of {data.name} differ from those in {run.directory}")
        found[at] = probabilities(judge, data, rows).numpy()
    if np.isnan(found).any():
        raise DataError(f"{run.directory / FOLDER}: the folds do not cover all training samples of the run")
    return found


def replacing(spec: RunSpec, directory: Path) -> RunSpec:
    """The further run, which replaces one of another configuration in its directory: that of an earlier training."""
    try:
        RunDirectory(directory).refuse_another_run(spec)
    except ConfigError:
        log.info("%s: replaces the run of an earlier training", directory)
        return spec.changed({"force": True})
    return spec


def further(config: DictConfig) -> DictConfig:
    """The configuration of a further run of a finished one. It reads no test set and reports to no server."""
    changed = config.copy()
    with open_dict(changed):
        for each in COMPOSABLE:
            if each.section not in changed:  # an older run does not know it
                changed[each.section] = compose([])[each.section]
        changed.pop("label_wave", None)  # only an older run has it
        changed.contents, changed.data.test = None, False
        changed.force, changed.logger = False, {"name": "none"}
        changed.trainer.profile = False
        changed.softmax_average.enabled = False  # it is of no use there, and wants all samples
    return changed
