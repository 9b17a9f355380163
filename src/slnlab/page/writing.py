"""The page as a file: template, style, script, plotly.js and the contents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from slnlab.analysis.layout import Table
from slnlab.analysis.runs import Found, Group
from slnlab.errors import DataError, SlnlabError
from slnlab.page.contents import contents
from slnlab.storage.writing import replacing

HOLES = ("style.css", "plotly.js", "contents.json", "page.js")
"""Marks `{{name}}` of the template."""


def write_page(path: Path, tables: Sequence[Table], found: Found, groups: Sequence[Group]) -> None:
    """Write the page as one file, which holds all that it needs: a browser opens it without a network.

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
    folder = files("slnlab.page")
    parts = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "page.js")}
    parts["plotly.js"] = get_plotlyjs()
    # No text of a run may end the script element.
    parts["contents.json"] = json.dumps(contents(tables, found, groups)).replace("<", "\\u003c")
    page = folder.joinpath("template.html").read_text(encoding="utf-8")
    pieces = []
    for name in HOLES:
        before, page = page.split("{{" + name + "}}")
        pieces += [before, parts[name]]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.parent}: cannot be made ({error.strerror})") from error
    with replacing(path) as file:
        file.write("".join([*pieces, page]).encode(errors="backslashreplace"))
