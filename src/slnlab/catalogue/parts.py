"""What is written by hand of each method: `docs/parts/methods/<name>.md`, the source of its card."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from slnlab.config import CONF_DIR

PARTS = CONF_DIR.parent / "docs" / "parts" / "methods"
"""Of a checkout, or the copy inside an installed package."""


class Part(NamedTuple):
    """A method as its card says it.

    Args:
        title: its rows in tables.
        paper: authors and year.
        published: whether its values are.
        body: what it does, then a section with its objective; Markdown.
    """

    title: str
    paper: str
    published: str
    body: str

    @property
    def does(self) -> str:
        """The two sentences on top."""
        return " ".join(self.body.split("\n\n")[0].split())


def part(name: str, folder: Path = PARTS) -> Part:
    """That of a method.

    Raises:
        OSError: there is none, as of a method of the user's own.
    """
    front, body = (folder / f"{name}.md").read_text(encoding="utf-8").split("\n\n", 1)
    said = dict(line.split(": ", 1) for line in front.splitlines())
    return Part(said["title"], said["paper"], said["published"], body.strip())
