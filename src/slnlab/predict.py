"""Classify images with a finished run: `python -m slnlab.predict RUN photos -o predictions.csv`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from slnlab.errors import DataError
from slnlab.image_folder.layout import why_no_image
from slnlab.storage.tables import csv_bytes
from slnlab.storage.writing import replacing
from slnlab.text.numbers import count
from slnlab.text.terminal import ProgressLine, command

if TYPE_CHECKING:
    from slnlab.inference.trained_run import TrainedRun

SOME_UNREADABLE = 3
"""Exit code: predictions are written, but some files were unreadable."""


class Files:
    """The image files at some paths, found during iteration.

    A path to a file counts whatever its name. A folder stands for the images in and below it, ordered by name, without
    hidden files. Links are followed.

    Args:
        paths: files and folders.

    Attributes:
        left_out: number of other files in the folders, by suffix or reason.

    Raises:
        DataError: a path does not exist or cannot be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        for path in paths:
            try:
                os.stat(path)
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        self.paths = paths
        self.left_out: Counter[str] = Counter()

    def __iter__(self) -> Iterator[str | DataError]:
        for path in self.paths:
            yield from self._below(str(path), ()) if path.is_dir() else [str(path)]

    def _below(self, folder: str, above: tuple[str, ...]) -> Iterator[str | DataError]:
        real = os.path.realpath(folder)
        if real in above:
            yield DataError(f"{folder}: is a link back to the folder {real} above it")
            return
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield DataError(f"{folder}: cannot be read: {error.strerror}")
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from self._below(entry.path, (*above, real))
            elif (kind := why_no_image(entry)) is None:
                yield entry.path
            else:
                self.left_out[kind] += 1


class Summary(NamedTuple):
    """The number of classified images, and the errors of unreadable files."""

    classified: int
    unreadable: list[DataError]


def predict(
    run: TrainedRun,
    files: Files,
    file: BinaryIO,
    *,
    every_class: bool = False,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Classify images batch by batch, and write a line of CSV for each; memory holds one batch.

    The columns are `path`, `predicted_label`, `probability` (of that label, in [0, 1]), and with `every_class` one
    `probability_<class>` per class.

    Args:
        run: the trained run.
        files: images to classify.
        file: output in UTF-8; undecodable bytes of file names stay unchanged.
        every_class: write the probabilities of all classes.
        batch_size: images per batch; None: as in evaluation.
        progress: called after each batch.

    Raises:
        DataError: there is no image.
    """
    classified, unreadable = 0, list[DataError]()
    header = ["path", "predicted_label", "probability"]
    _write(file, [header + [f"probability_{name}" for name in run.classes] * every_class])
    for paths, probabilities, wrong in run.stream(files, batch_size):
        best, labels = probabilities.max(1).values.tolist() if paths else [], run.names(probabilities)
        rest = probabilities.tolist() if every_class else [[]] * len(paths)
        rows = zip(paths, labels, best, rest, strict=True)
        _write(file, [[path, label, f"{p:.6g}", *(f"{q:.6g}" for q in others)] for path, label, p, others in rows])
        classified += len(paths)
        unreadable += wrong
        if progress:
            progress(classified, len(unreadable))
    if not classified and not unreadable:
        raise DataError(f"{', '.join(map(str, files.paths))}: no image")
    return Summary(classified, unreadable)


def predict_vectors(
    run: TrainedRun,
    paths: Sequence[Path],
    file: BinaryIO,
    *,
    every_class: bool = False,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Classify the vectors in files of arrays, as `predict` classifies images.

    The columns are `path` (the name of the sample, or else the file), `array` and `row` (from 0), then as of `predict`.

    Args:
        run: the trained run, on vectors.
        paths: files, see `slnlab.arrays.vectors.vector_arrays`.
        file, every_class, batch_size, progress: see `predict`.

    Raises:
        DataError: see `vector_arrays`.
    """
    from slnlab.arrays.vectors import vector_arrays

    header = ["path", "array", "row", "predicted_label", "probability"]
    _write(file, [header + [f"probability_{name}" for name in run.classes] * every_class])
    classified, size = 0, batch_size or run.batch_size
    for array in (array for path in paths for array in vector_arrays(path, len(run.preprocessing.mean))):
        for first in range(0, len(array.vectors), size):
            labels, probabilities = run.predict(array.vectors[first : first + size], size)
            _write(
                file,
                [
                    [
                        *(array.paths[row] if array.paths else str(array.file), array.name, row, label),
                        *(f"{p:.6g}" for p in ([max(each), *each] if every_class else [max(each)])),
                    ]
                    for row, label, each in zip(
                        range(first, first + len(labels)), labels, probabilities.tolist(), strict=True
                    )
                ],
            )
            classified += len(labels)
            if progress:
                progress(classified, 0)
    return Summary(classified, [])


def _write(file: BinaryIO, rows: Sequence[Sequence[object]]) -> None:
    file.write(csv_bytes(rows))
    file.flush()


class Progress(ProgressLine):
    """Progress and speed, see `ProgressLine`."""

    def __call__(self, classified: int, unreadable: int) -> None:
        speed = classified / (time.monotonic() - self.began)
        self.show(f"{classified:,} images, {speed:,.0f} a second, {unreadable:,} unreadable")


def _arguments(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        program,
        description="Classify images, or feature vectors, with a finished run, preprocessed as in its evaluation.",
        epilog=f"Exit codes: 0 all images are classified; {SOME_UNREADABLE} some files could not be read, and are "
        "listed at the end; 1 error, no file is written; 2 usage.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a finished run")
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="images, and folders to search; or files of vectors"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="CSV", help="output, written at the end; default: stdout")
    parser.add_argument("--all", action="store_true", help="write the probability of every class")
    parser.add_argument(
        "--weights", metavar="NAME", help="network, momentum, ensemble, ...; default: those of label_issues.csv"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ...; default: a GPU where there is one")
    parser.add_argument("--batch-size", type=count, metavar="N", help="images to a batch; default: as in evaluation")
    return parser.parse_intermixed_args(arguments)


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.predict") -> None:
    """Run the command line; `--help` lists the exit codes."""
    asked = _arguments(arguments, program)
    files = Files(asked.paths)
    if asked.out and asked.out.is_dir():
        raise DataError(f"{asked.out}: cannot be written: it is a folder")
    target: AbstractContextManager[BinaryIO] = replacing(asked.out) if asked.out else nullcontext(sys.stdout.buffer)
    with target as file:  # opened first, so that an error comes before any classification
        from slnlab.inference.trained_run import load

        run = load(asked.run, asked.weights, asked.device)
        progress = Progress()
        try:
            options = {"every_class": asked.all, "batch_size": asked.batch_size, "progress": progress}
            if run.preprocessing.resize is None:
                summary = predict_vectors(run, asked.paths, file, **options)
            else:
                summary = predict(run, files, file, **options)
        finally:
            progress.close()
    label = run.result.rows[run.weights].title
    what = "vectors" if run.preprocessing.resize is None else "images"
    lines = [f"{summary.classified:,} {what} classified by {label} ({run.weights}){f': {asked.out}' * bool(asked.out)}"]
    if files.left_out:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in files.left_out.most_common())
        lines.append(f"left out of the folders, as they are no images: {kinds}")
    if summary.unreadable:
        lines += [f"{len(summary.unreadable):,} could not be read:", *(f"  {error}" for error in summary.unreadable)]
    print("\n".join(lines), file=sys.stderr)
    if summary.unreadable:
        sys.exit(SOME_UNREADABLE)


if __name__ == "__main__":
    main()
