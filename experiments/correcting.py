"""The further runs of `experiments/diagnosis`: five folds beside each run of CE, and CE on corrected labels.

    python experiments/correcting.py runs/diagnosis --folds --policies --seeds 0

They lie below the run of CE, in `.folds` and `.corrected`, where no report finds them. Finished ones are kept.

Corrected labels are those of the suspected samples of CE, SLN-MO-LC and slnlab, by each policy of
`slnlab diagnose --write`, and the true labels as a bound (open-set images are left out). CE trains on them as in its
own run.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig, open_dict

from slnlab.config import compose
from slnlab.errors import DataError
from slnlab.inference.corrections import Policy, chosen_rows, treated
from slnlab.inference.diagnosis import Diagnosis, diagnose
from slnlab.inference.folds import further, out_of_fold
from slnlab.inference.images import data_of
from slnlab.inference.trained_run import TrainedRun, load
from slnlab.record.run_directory import RunDirectory
from slnlab.storage.writing import replacing
from slnlab.tables.runs import FinishedRun, find_runs
from slnlab.train import train
from slnlab.training.settling import settle

FOLDS = 5

JUDGES = {"ce": "network", "sln_mo_lc": "momentum", "slnlab": "momentum"}
"""Methods whose diagnosis corrects labels → the weights that judge."""

CORRECTED = ".corrected"
"""Folder below a run of CE."""

POLICIES = tuple(policy for policy in get_args(Policy) if policy != "keep")
TRUTH = "truth"

Label = tuple[str, float]
"""A class number as text, empty for a sample left out, and the weight."""


class Setting(NamedTuple):
    """The runs on the same noisy labels with the same seed."""

    baseline: FinishedRun
    """The run of CE."""
    judges: dict[str, FinishedRun]
    """Method → its run."""


def settings(runs: Iterable[FinishedRun]) -> Iterator[Setting]:
    """The settings with wrong labels that have a run of CE, in the order of the runs."""
    found: dict[tuple[str, object], dict[str, FinishedRun]] = {}
    for run in (run for run in runs if run.result.noise != "none"):
        found.setdefault((run.result.data, run.pair), {})[run.result.method] = run
    for methods in found.values():
        if "ce" in methods:
            yield Setting(methods["ce"], {name: methods[name] for name in JUDGES if name in methods})


def finished_folds(run: TrainedRun) -> npt.NDArray[np.float32] | None:
    """Out-of-fold probabilities (N, C) of a run; None if a fold is not finished."""
    folders = [run.directory / ".folds" / f"{number}-of-{FOLDS}" for number in range(FOLDS)]
    return out_of_fold(run, FOLDS, train) if all(RunDirectory(each).finished for each in folders) else None


def by_policy(found: Diagnosis, policy: Policy) -> list[Label]:
    """The labels of all samples after a policy, in the order of `run.samples`."""
    labels = [(str(given), 1.0) for given in found.columns["given"].tolist()]
    for row in chosen_rows(found, None, None).tolist():
        label, weight = treated(found, policy, row)
        labels[row] = ("" if label is None else str(label), weight)
    return labels


def by_truth(run: TrainedRun) -> list[Label]:
    """The true labels; a replaced image, whose label is wrong though it is the true one, is left out."""
    given, true, wrong = (run.samples[name].tolist() for name in ("given", "true", "wrong"))
    return [("" if w and g == t else str(t), 1.0) for g, t, w in zip(given, true, wrong, strict=True)]


def write_arrays(run: TrainedRun, path: Path) -> None:
    """The images of a run with its noisy labels as a file for `data=npz`. The samples are named by their index."""
    if path.exists():
        return
    data = data_of(run)
    rows, test = data.rows(0), data.source.load("test")  # type: ignore[attr-defined]
    columns = run.samples
    with replacing(path) as file:
        np.savez(
            file,
            train_images=as_stored(data.reading([rows], whole=True)(0).pixels()),
            train_labels=columns["given"],
            train_true_labels=columns["true"],
            train_paths=columns["index"].astype(str),
            test_images=as_stored(test.images),
            test_labels=test.labels.numpy(),
        )


def as_stored(images: torch.Tensor) -> np.ndarray:
    """Images (N, channels, H, W) as `data=npz` takes them."""
    return images.permute(0, 2, 3, 1).numpy() if images.shape[1] == 3 else images.squeeze(1).numpy()


def write_labels(names: Iterable[str], labels: Iterable[Label], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "weight"])
        writer.writerows([name, *label] for name, label in zip(names, labels, strict=True))


def on_labels(run: TrainedRun, arrays: Path, labels: Path, size: int) -> DictConfig:
    """The run's configuration on `size` samples of a file, whose labels are corrected."""
    config = further(run.config)
    source = {"_target_": "slnlab.data.arrays.ArrayFile", "root": str(arrays), "kind": "images", "labels": str(labels)}
    with open_dict(config):
        config.data.source, config.data.labels, config.data.test = source, str(labels), True
        config.data.train_size, config.data.num_train = None, size
        config.noise, config.preset.own_noise = compose(["noise=real"]).noise, None
    return config


def correct(setting: Setting) -> None:
    """Train CE on the labels of each policy, by the diagnosis of each judge, and on the true labels."""
    baseline = load(setting.baseline.directory.path)
    folder = baseline.directory / CORRECTED
    folder.mkdir(exist_ok=True)
    write_arrays(baseline, folder / "data.npz")
    for method, run in setting.judges.items():
        found = diagnose(load(run.directory.path, JUDGES[method]), images=False)
        for policy in POLICIES:
            train_on(baseline, folder, f"{method}-{policy}", by_policy(found, policy))
    train_on(baseline, folder, TRUTH, by_truth(baseline))


def train_on(baseline: TrainedRun, folder: Path, name: str, labels: list[Label]) -> None:
    if RunDirectory(folder / name).finished:
        return
    file = folder / f"{name}.csv"
    write_labels(baseline.samples["index"].astype(str), labels, file)
    config = on_labels(baseline, folder / "data.npz", file, sum(label != "" for label, _ in labels))
    try:
        train(settle(config), folder / name, [f"({name} of {baseline.directory})"])
    except DataError as error:  # a class without a sample
        print(f"not trained: {error}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seeds", default="0,1,2", help="those of the runs; default: 0,1,2")
    parser.add_argument("--folds", action="store_true", help="train each run of CE on five folds")
    parser.add_argument("--policies", action="store_true", help="train CE on corrected labels")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s", stream=sys.stderr)
    seeds = {int(word) for word in asked.seeds.split(",")}
    chosen = [run for run in find_runs(asked.runs).runs if run.result.seed in seeds]
    for setting in settings(chosen):
        print(setting.baseline.directory.path, flush=True)
        if asked.folds:
            out_of_fold(load(setting.baseline.directory.path), FOLDS, train)
        if asked.policies:
            correct(setting)


if __name__ == "__main__":
    main()
