"""What the page for the review of training labels shows, as plain numbers and texts."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slnlab.analysis.noise_estimate import Share
from slnlab.analysis.scores import RULES
from slnlab.arrays.contents import origin
from slnlab.data.datamodule import IndexedDataModule
from slnlab.errors import DataError, SlnlabError
from slnlab.inference.decisions import Decisions, droppable
from slnlab.inference.diagnosis import Diagnosis, reason
from slnlab.inference.images import data_of, pictures, pictures_below
from slnlab.page.thumbnails import MOST, thumbnails

LARGEST = 50_000_000
"""Most bytes of a page."""

FOR_STYLE_AND_SCRIPT = 100_000
FOR_SAMPLES = 30_000_000
"""Most bytes of the samples without their pictures."""

AFTERWARDS = ("--write", "corrected.csv", "--policy", "keep", "--reviewed", "decisions.csv")
"""Arguments of `slnlab diagnose` for the exported decisions."""

MOST_SAMPLES = 100_000
MOST_IN_MATRIX = 100
"""Most classes of the matrix. Ten thousand cells are what a browser draws quickly."""


def review_contents(
    diagnosis: Diagnosis, decisions: Decisions, with_pictures: bool = True, images: Path | None = None
) -> dict[str, Any]:
    """The contents of the page: texts, numbers and lists only, at most `LARGEST` bytes as JSON.

    Args:
        diagnosis: the scored labels.
        decisions: earlier ones of a person.
        with_pictures: False reads no image.
        images: folder of the images that feature vectors were made of; None: vectors have no pictures.
    """
    run, estimate, total = diagnosis.run, diagnosis.estimate, len(diagnosis.order)
    data, samples = data_of(run), _samples(diagnosis)
    notes = list(diagnosis.remarks)
    if len(samples) < total:
        notes.append(f"The page shows the {len(samples):,} most suspicious of {total:,} samples; issues.csv lists all.")
    given, names = diagnosis.columns["given"], diagnosis.columns[_place(diagnosis)]
    suspected = np.bincount(given[estimate.suspected], minlength=len(run.classes))
    contents = {
        "run": str(run.directory),
        "command": shlex.join(["slnlab", "diagnose", str(run.directory), *AFTERWARDS]),
        "place": _place(diagnosis),
        "droppable": droppable(run),
        "classes": run.classes,
        "estimate": " ".join(f"{str(each).capitalize()}." for each in (estimate, diagnosis.unseen) if each is not None),
        "judge": f"{diagnosis.judge} judges. {diagnosis.score} ranks: {RULES[diagnosis.score].says}.",
        "scores": list(diagnosis.suspicions),
        "samples": samples,
        "counts": np.bincount(given, minlength=len(run.classes)).tolist(),
        "suspected": suspected.tolist(),
        "rates": [_rounded(share) for share in estimate.of_given],
        "matrix": _matrix(diagnosis, suspected),
        "decisions": decisions,
        "corrections": data.corrections(),
        # Decisions in the browser's storage belong to all labels, whichever are shown, and to earlier decisions.
        "digest": hashlib.sha256(
            json.dumps([sorted(zip(map(str, names), given.tolist(), strict=True)), sorted(decisions.items())]).encode()
        ).hexdigest()[:16],
        "notes": notes,
    }
    room = LARGEST - FOR_STYLE_AND_SCRIPT - len(json.dumps(contents))
    contents["pictures"], note = _pictures(diagnosis, data, len(samples), room if with_pictures else None, images)
    notes += note
    return contents


def _place(diagnosis: Diagnosis) -> str:
    """The column that names the samples."""
    return "path" if "path" in diagnosis.columns else "index"


def _samples(diagnosis: Diagnosis) -> list[list[Any]]:
    """Name, given and suggested label, P(wrong), suspected, scores and reason of the most suspicious samples."""
    run, columns = diagnosis.run, diagnosis.columns
    places = columns[_place(diagnosis)]
    scores = [columns[RULES[name].column.format(run.weights)] for name in diagnosis.suspicions]
    found: list[list[Any]] = []
    size = 0
    for row in diagnosis.order[:MOST_SAMPLES].tolist():
        sample = [
            *(str(places[row]), int(columns["given"][row]), int(diagnosis.suggested[row])),
            *(round(float(diagnosis.estimate.wrong[row]), 4), bool(diagnosis.estimate.suspected[row])),
            *([_number(values[row]) for values in scores], reason(diagnosis, row)),
        ]
        size += len(json.dumps(sample))
        if size > FOR_SAMPLES:
            break
        found.append(sample)
    return found


def _number(value: Any) -> float | None:
    """Four digits; None for a value that is not finite, which JSON lacks."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _rounded(share: Share | None) -> list[float] | None:
    return None if share is None else [round(value, 4) for value in share]


def _matrix(diagnosis: Diagnosis, suspected: npt.NDArray[Any]) -> dict[str, Any]:
    """The estimated transition matrix, of the classes with most suspected labels if there are many."""
    chosen = np.sort(np.argsort(-suspected, kind="stable")[:MOST_IN_MATRIX])
    return {
        "classes": chosen.tolist(),
        "shares": np.round(diagnosis.estimate.transition[np.ix_(chosen, chosen)], 4).tolist(),
    }


def _pictures(
    diagnosis: Diagnosis, data: IndexedDataModule, count: int, room: int | None, images: Path | None
) -> tuple[dict[int, str], list[str]]:
    """Rank, counted from 0, → data URL; and a note on missing pictures. Without `room` no image is read."""
    if data.vectors and (images is None or "path" not in diagnosis.columns):
        of_files = "; --images shows those that they were made of" if "path" in diagnosis.columns else ""
        return {}, [f"The samples are vectors, so there are no pictures{of_files}."]
    if room is None:
        return {}, ["There are no pictures, because --no-images reads none."]
    if not data.vectors and len(data.preprocessing.mean) not in (1, 3):
        return {}, [f"There are no pictures of images with {len(data.preprocessing.mean)} channels."]
    found: dict[int, str] = {}
    faulty: list[DataError] = []
    ranks = _by_turns(diagnosis, count)
    few = diagnosis.order[ranks[:MOST]]
    try:
        if images is not None and data.vectors:
            known = origin(Path(diagnosis.run.config.data.source.root).expanduser())
            reading: dict[str, Any] = {key: known[key] for key in ("pixel_range", "background") if key in known}
            shown = pictures_below(images, diagnosis.columns["path"][few].tolist(), reading or None)
        else:
            shown = pictures(data, diagnosis.columns["index"][few].tolist())
        for rank, url in zip(ranks.tolist(), thumbnails(shown, room), strict=False):
            if isinstance(url, DataError):
                faulty.append(url)
            else:
                found[rank] = url
    except SlnlabError as error:
        return found, [f"Pictures are missing: {error}"]
    notes = [f"Without {len(faulty):,} picture(s), the first one because of {faulty[0]}"] if faulty else []
    if len(found) + len(faulty) == count:
        return found, notes
    why = (
        "a page has no more"
        if len(found) + len(faulty) == MOST
        else f"more would make the file larger than {LARGEST // 10**6} MB"
    )
    return found, [
        *notes,
        f"{len(found):,} samples have a picture, the most suspicious of each given class first; {why}.",
    ]


def _by_turns(diagnosis: Diagnosis, count: int) -> npt.NDArray[np.int64]:
    """The first `count` ranks, suspected labels first, then each given class in its turn: each gets pictures."""
    rows = diagnosis.order[:count]
    given = diagnosis.columns["given"][rows]
    within = np.empty(count, np.int64)
    for label in np.unique(given):
        of_class = np.flatnonzero(given == label)
        within[of_class] = np.arange(len(of_class))
    return np.lexsort((np.arange(count), within, ~diagnosis.estimate.suspected[rows]))
