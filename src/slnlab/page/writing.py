"""A page as one file, which holds all that it needs: a browser opens it without a network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from slnlab.errors import DataError, SlnlabError
from slnlab.inference.decisions import Decisions
from slnlab.inference.diagnosis import Diagnosis
from slnlab.page.report_contents import contents
from slnlab.page.review_contents import review_contents
from slnlab.storage.writing import replacing
from slnlab.tables.layout import Table
from slnlab.tables.runs import Found, Group


def write_report(path: Path, tables: Sequence[Table], found: Found, groups: Sequence[Group]) -> None:
    """Write the page of finished runs.

    Args:
        path: of the HTML file.
        tables: with the rows to show.
        found: the runs with those that are not finished.
        groups: of the rows.

    Raises:
        SlnlabError: the extra `html` is not installed.
        DataError: the file cannot be written.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise SlnlabError("--html needs the extra: pip install 'slnlab[html]'") from None
    _write(path, "report.html", contents(tables, found, groups), {"plotly.js": get_plotlyjs()})


def write_review(
    path: Path,
    diagnosis: Diagnosis,
    decisions: Decisions | None = None,
    pictures: bool = True,
    images: Path | None = None,
) -> list[str]:
    """Write the page for the review of training labels.

    Args:
        path: of the HTML file.
        diagnosis: the scored labels.
        decisions: earlier ones, from which the review goes on.
        pictures: False reads no image.
        images: folder of the images that feature vectors were made of; None: vectors have no pictures.

    Returns:
        What the page lacks, such as pictures, in words.

    Raises:
        DataError: the file cannot be written.
    """
    shown = review_contents(diagnosis, decisions or {}, pictures, images)
    _write(path, "review.html", shown, {})
    return [note for note in shown["notes"] if note not in diagnosis.remarks]


def _write(path: Path, template: str, contents: Mapping[str, Any], parts: Mapping[str, str]) -> None:
    """Fill the marks `{{name}}` of a template with the contents, these parts, or files of this package."""
    folder = files("slnlab.page")
    # No text may end the script element.
    known = {"contents.json": json.dumps(contents, separators=(",", ":")).replace("<", "\\u003c"), **parts}
    pieces = re.split(r"\{\{([\w.]+)\}\}", folder.joinpath(template).read_text(encoding="utf-8"))
    for number, name in list(enumerate(pieces))[1::2]:
        pieces[number] = known[name] if name in known else folder.joinpath(name).read_text(encoding="utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.parent}: cannot be made ({error.strerror})") from error
    with replacing(path) as file:
        file.write("".join(pieces).encode(errors="backslashreplace"))
