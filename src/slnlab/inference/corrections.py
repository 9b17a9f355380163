"""Corrected labels as a CSV file: what a diagnosis makes of the training labels."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

import torch

from slnlab.errors import ConfigError
from slnlab.inference.diagnosis import Diagnosis
from slnlab.inference.images import data_of
from slnlab.noise import to_csv
from slnlab.storage.writing import replacing

Policy = Literal["relabel", "drop"]


def write_corrected(diagnosis: Diagnosis, path: Path, policy: Policy = "relabel", top: int | None = None) -> int:
    """Write the training labels after correction, and return how many samples were relabelled or dropped.

    - Images from files: `path,label`, a row for every training image, with class names, as `data.labels` reads it. An
      empty label leaves an image out.
    - Images in memory: `label,label_noisy`, as `noise=csv` reads it, in data set order.

    Samples that the run held out keep their given labels, as nothing is known about them.

    Args:
        diagnosis: ranks the samples.
        path: the file.
        policy: relabel: give the suspected samples their suggested label; drop: leave them out.
        top: take this many of the likeliest wrong labels instead of the suspected ones, ≥ 1.

    Raises:
        ConfigError: `top` is out of range; the images in memory cannot be dropped; or label noise replaced images.
        DataError: the data set or the file cannot be used.
    """
    samples = len(diagnosis.order)
    if top is not None and not 1 <= top <= samples:
        raise ConfigError(f"--top: must lie in [1, {samples}], the number of training samples, not {top}")
    chosen = diagnosis.order[: int(diagnosis.estimate.suspected.sum()) if top is None else top]
    data = data_of(diagnosis.run)
    labels = data.labels.given.clone()
    rows = torch.from_numpy(diagnosis.columns["index"][chosen])
    labels[rows] = torch.from_numpy(diagnosis.suggested[chosen]).to(labels)
    paths = data.paths(torch.arange(len(labels)))
    if paths is None:
        if policy == "drop":
            raise ConfigError("--policy drop: these images lie in one array, where none can be left out; use relabel")
        record = data.noise_record
        if record is not None and len(record.replaced):
            raise ConfigError("--write: the label noise of this run replaced images, and no label can correct those")
        to_csv(path, labels if record is None else record.true, labels)
        return len(chosen)
    left_out = set(rows.tolist()) if policy == "drop" else set()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label"])
    for row, (image, label) in enumerate(zip(paths, labels.tolist(), strict=True)):
        writer.writerow([image, "" if row in left_out else diagnosis.run.classes[label]])
    with replacing(path) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))  # file names need not be UTF-8
    return len(chosen)
