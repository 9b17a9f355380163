"""What there is to choose from: `python -m slnlab.catalogue.options methods`, or `slnlab list methods`.

Nothing here imports torch.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from slnlab.catalogue.parts import part
from slnlab.catalogue.yaml_keys import keys
from slnlab.config import CONF_DIR, extra_config_dirs
from slnlab.errors import ConfigError, SlnlabError
from slnlab.text.terminal import print_anywhere, quiet_on_broken_pipe

KINDS = {"methods": "method", "losses": "loss", "noise": "noise", "data": "data", "models": "model"}
"""What can be listed, and its group of the configuration."""


class Option(NamedTuple):
    """An option of a group.

    Args:
        name: as it is typed.
        title: of a method, its rows in tables; empty for others.
        paper: of a method; empty for others.
        does: a sentence or two.
        path: its YAML file.
    """

    name: str
    title: str
    paper: str
    does: str
    path: Path


def options(group: str) -> list[Option]:
    """Those of a group, the user's own (`extra_config_dirs`) included, which come before ours of the same name."""
    found: dict[str, Path] = {}
    for folder in [*map(Path, extra_config_dirs), CONF_DIR]:
        for path in (folder / group).glob("*.yaml"):
            found.setdefault(path.stem, path)
    return [_option(group, found[name]) for name in sorted(found)]


def _option(group: str, path: Path) -> Option:
    if group == "method":
        try:
            said = part(path.stem)
            return Option(path.stem, said.title, said.paper, said.does, path)
        except OSError:
            pass  # of the user's own
    head, _ = keys(path.read_text(encoding="utf-8"))
    return Option(path.stem, "", "", _first_sentence(head), path)


def _first_sentence(head: str) -> str:
    """The first sentence of the comment at the head of a YAML file."""
    text = " ".join(head.split())
    return re.split(r"(?<!et al)\. (?=[A-Za-z(])", text, maxsplit=1)[0].rstrip(".")


def search_also(folder: Path | None) -> None:
    """Look for options in a folder of the user's own (--config-dir).

    Raises:
        ConfigError: there is no such folder.
    """
    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir: there is no directory {folder}")
        extra_config_dirs[:] = [str(folder)]


def _table(found: Sequence[Option]) -> str:
    width = max(len(option.name) for option in found)
    says = (f"{option.title} ({option.paper})" if option.title else option.does for option in found)
    return "\n".join(f"{option.name:{width}}  {text}" for option, text in zip(found, says, strict=True))


@quiet_on_broken_pipe
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.catalogue.options") -> None:
    """The command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(
        program,
        description="What there is to choose from.",
        epilog="`slnlab show METHOD` says more of a method. A choice is typed as method=NAME, loss=NAME, noise=NAME, "
        "data=NAME, model=NAME.",
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--format", choices=["text", "tsv"], default="text", help="tsv: a table for other programs")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="options of your own too")
    asked = parser.parse_args(arguments)
    try:
        search_also(asked.config_dir)
        found = options(KINDS[asked.kind])
    except SlnlabError as error:
        sys.exit(f"error: {error}")
    if asked.format == "text":
        print(_table(found))
        return
    writer = csv.writer(sys.stdout, "excel-tab", lineterminator="\n")
    writer.writerows([["name", "title", "paper", "description", "file"], *map(list, found)])


if __name__ == "__main__":
    main()
