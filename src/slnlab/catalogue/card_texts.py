"""The hand-written part of each method's card: `docs/parts/methods/<name>.md`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from slnlab.config import CONF_DIR

FOLDER = CONF_DIR.parent / "docs" / "parts" / "methods"
"""Folder of the texts in a checkout, or of their copy in an installed package."""


class CardText(NamedTuple):
    """The hand-written text of a method's card.

    Args:
        title: row title in tables.
        paper: authors and year.
        published: whether the default values are published ones.
        body: two sentences on the method, then a section with its objective; Markdown.
    """

    title: str
    paper: str
    published: str
    body: str

    @property
    def does(self) -> str:
        """The two sentences at the top of the body."""
        return " ".join(self.body.split("\n\n")[0].split())


def card_text(name: str, folder: Path = FOLDER) -> CardText:
    """Read the text of a method's card.

    Raises:
        OSError: the method has none; a user's own method need not have one.
    """
    head, body = (folder / f"{name}.md").read_text(encoding="utf-8").split("\n\n", 1)
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    return CardText(fields["title"], fields["paper"], fields["published"], body.strip())
