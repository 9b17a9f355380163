"""The features of a folder of images as an `.npz` file for `data=features`, written piece by piece and resumable.

`FILE.partial/` holds an array of vectors for each split, and their number so far. A finished file replaces it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slnlab.arrays.contents import ABOUT
from slnlab.data.decoding import Paths
from slnlab.embedding.backbones import Backbone
from slnlab.errors import DataError
from slnlab.image_folder.contents import ImageFolderContents
from slnlab.inference.preprocessing import decoded
from slnlab.processes.cores import cores
from slnlab.processes.stopping import stop_if_requested
from slnlab.storage.locks import FolderLock
from slnlab.storage.writing import replacing
from slnlab.text.messages import quoted

PREFIXES = {"train": "train", "val_clean": "val", "test": "test"}
"""Split → prefix of its arrays' names, as in `slnlab.arrays.contents`."""

EVERY = 5.0
"""Seconds between two notes of the number of vectors. A killed embedding loses the vectors since the last one."""

Reader = Callable[[Path], Tensor]
"""Image file → input of the network (3, H, W) float32."""

Progress = Callable[[int, int], None]
"""Called after each batch with the number of images done, and of all."""


class Embedding(NamedTuple):
    """The images to embed, and how."""

    contents: ImageFolderContents
    backbone: Backbone
    read: Reader
    about: Mapping[str, Any]
    """The origin of the features: images, network, weights. Another origin makes other features."""
    batch_size: int
    device: torch.device


def embed(work: Embedding, out: Path, progress: Progress) -> bool:
    """Write the features of all images to an `.npz` file, or go on with a stopped embedding.

    The arrays are `train_features` (N, D) float32, `train_labels`, `train_paths` (bytes, relative to the folder of the
    images), likewise `val_…` and `test_…`, `train_true_labels` where the list of images has them, and `about`.

    Args:
        work: the images and the network.
        out: the file.
        progress: see `Progress`.

    Returns:
        True if the file was written, False if it was finished before.

    Raises:
        DataError: the file or its partial folder has other contents or cannot be written; an image cannot be read; or
            a class has no training image.
        Busy: another process writes the same file.
        Stopped: a signal arrived; the same call goes on.
    """
    labels = _labels(work.contents)
    about = {**work.about, "labels": _digest(labels)}
    if _finished(out, about):
        return False
    folder = out.with_name(f"{out.name}.partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror}") from error
    lock = FolderLock(folder, "another process embeds into")
    lock.acquire(timeout=0)
    try:
        _begin(folder, about)
        done, total = 0, sum(len(each.paths) for each in work.contents.splits.values())
        features: dict[str, npt.NDArray[np.float32]] = {}
        for split, paths in _paths(work.contents):
            for count in _embed_split(work, paths, folder / f"{PREFIXES[split]}.npy"):
                done += count
                progress(done, total)
            features[f"{PREFIXES[split]}_features"] = np.load(folder / f"{PREFIXES[split]}.npy", mmap_mode="r")
        with replacing(out) as file:
            np.savez(file, **features, **labels, about=np.array(json.dumps(about)))  # type: ignore[arg-type]
    finally:
        lock.release()
    shutil.rmtree(folder)
    return True


def _finished(out: Path, about: Mapping[str, Any]) -> bool:
    """True if the file has the features of this origin.

    Raises:
        DataError: it has other contents.
    """
    if not out.exists():
        return False
    try:
        with np.load(out, allow_pickle=False) as archive:
            found = json.loads(str(archive[ABOUT]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise DataError(f"{out}: exists, and is no file of slnlab embed; choose another name, or remove it") from None
    _refuse_others(out, found, about)
    return True


def _begin(folder: Path, about: Mapping[str, Any]) -> None:
    """Note the origin of a new embedding, or compare it with that of a stopped one."""
    note = folder / "about.json"
    if note.exists():
        _refuse_others(folder, json.loads(note.read_text(encoding="utf-8")), about)
    with replacing(note) as file:
        file.write(json.dumps(about).encode())


def _refuse_others(place: Path, found: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    other = [key for key in about if found.get(key) != about[key]]
    if other:
        pairs = "; ".join(f"{key}: {found.get(key)} there, {about[key]} now" for key in other)
        raise DataError(f"{place}: exists with other contents ({pairs}); choose another name, or remove it")


def _paths(contents: ImageFolderContents) -> Iterator[tuple[str, Paths]]:
    return ((split, Paths(contents.top, each.paths)) for split, each in contents.splits.items() if each.paths)


def _embed_split(work: Embedding, paths: Paths, file: Path) -> Iterator[int]:
    """Write the vectors of the images that are missing in a file; yield the number of each batch, the old ones first.

    Raises:
        DataError: an image cannot be read, or the network gives no finite numbers.
        Stopped: see `embed`.
    """
    note = file.with_suffix(".done")
    done = int(note.read_text(encoding="ascii")) if note.exists() and file.exists() else 0
    vectors = np.lib.format.open_memmap(file, mode="r+") if done else None
    network, noted = work.backbone.network.to(work.device), time.monotonic()
    yield done
    try:
        rows = (paths[row] for row in range(done, len(paths)))
        for pairs in decoded(rows, work.read, work.batch_size, cores()):
            for _, found in pairs:
                if isinstance(found, DataError):
                    raise found
            images = torch.stack([found for _, found in pairs if isinstance(found, Tensor)])
            with torch.inference_mode():
                given: Tensor = network(images.to(work.device, memory_format=torch.channels_last))
            batch = given.float().cpu().numpy()
            if not np.isfinite(batch).all():
                raise DataError(f"{pairs[0][0]}: the network's features of this image or of the next are not finite")
            if vectors is None:
                shape = (len(paths), batch.shape[1])
                vectors = np.lib.format.open_memmap(file, "w+", np.float32, shape)
            vectors[done : done + len(batch)] = batch
            done += len(batch)
            yield len(batch)
            stop_if_requested()
            if time.monotonic() - noted > EVERY:
                _note(note, vectors, done)
                noted = time.monotonic()
    finally:
        if vectors is not None:
            _note(note, vectors, done)


def _note(note: Path, vectors: Any, done: int) -> None:
    vectors.flush()
    with replacing(note) as file:
        file.write(str(done).encode())


def _labels(contents: ImageFolderContents) -> dict[str, npt.NDArray[Any]]:
    """The arrays of labels and paths.

    Raises:
        DataError: a class is only that of true labels or of another split, or images have weights.
    """
    classes = np.array(contents.classes)
    if contents.classes == [str(number) for number in sorted(_integers(contents.classes))]:
        classes = classes.astype(np.int64)  # so that the classes keep their order
    if lost := sorted({*range(len(classes))} - {*contents.splits["train"].labels}):
        names = quoted(contents.classes[label] for label in lost)
        raise DataError(f"{contents.top}: no training image has the given label {names}; a file of features needs one")
    if contents.weights:
        raise DataError(f"{contents.top}: {len(contents.weights)} image(s) have weights, which features have not")
    found: dict[str, npt.NDArray[Any]] = {}
    for split, (paths, labels) in contents.splits.items():
        if paths:
            found[f"{PREFIXES[split]}_labels"] = classes[np.array(labels)]
            found[f"{PREFIXES[split]}_paths"] = np.array([os.fsencode(path) for path in paths])
    if contents.true is not None:
        true = [contents.true[path] for path in contents.splits["train"].paths]
        found["train_true_labels"] = classes[np.array(true)]
    return found


def _digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """16 hex digits over the names and values of arrays."""
    whole = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        whole.update(f"{name} {values.dtype} {values.shape} ".encode() + values.tobytes())
    return whole.hexdigest()[:16]


def _integers(classes: list[str]) -> list[int]:
    return [int(name) for name in classes if name.removeprefix("-").isdecimal()]
