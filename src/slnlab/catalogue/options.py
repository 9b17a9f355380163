"""List the options of a group: `python -m slnlab.catalogue.options methods`, or `slnlab list methods`.

Nothing here imports torch.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

from slnlab.catalogue.card_texts import card_text
from slnlab.catalogue.yaml_keys import keys
from slnlab.config import CONF_DIR, extra_config_dirs, search_in
from slnlab.errors import ConfigError
from slnlab.text.terminal import command

KINDS = {
    "methods": "method",
    "losses": "loss",
    "noise": "noise",
    "data": "data",
    "models": "model",
    "optimizers": "optimizer",
    "schedulers": "scheduler",
    "loggers": "logger",
}
"""Kind of option → its group in the configuration."""


class Option(NamedTuple):
    """An option of a group.

    Args:
        name: name on the command line.
        title: row title of a method; empty for other options.
        paper: paper of a method; empty for other options.
        does: one or two sentences on the option.
        path: the YAML file.
    """

    name: str
    title: str
    paper: str
    does: str
    path: Path


def options(group: str) -> list[Option]:
    """Return the options of a group, with the user's own (`extra_config_dirs`)."""
    folders = [*map(Path, extra_config_dirs), CONF_DIR]
    found = {path.stem: path for folder in folders for path in (folder / group).glob("*.yaml")}
    return [_option(group, found[name]) for name in sorted(found)]


def _option(group: str, path: Path) -> Option:
    if group == "method":
        try:
            card = card_text(path.stem)
            return Option(path.stem, card.title, card.paper, card.does, path)
        except OSError:
            pass  # a user's own method without a card
    head, _ = keys(path.read_text(encoding="utf-8"))
    return Option(path.stem, "", "", _first_sentence(head), path)


def _first_sentence(head: str) -> str:
    """Return the first sentence of a YAML file's head comment."""
    text = " ".join(head.split())
    return re.split(r"(?<!et al)\. (?=[A-Za-z(])", text, maxsplit=1)[0].rstrip(".")


def search_also(folder: Path | None) -> None:
    """Look for options in the user's folder (--config-dir), too.

    Raises:
        ConfigError: the folder does not exist; see also `search_in`.
    """
    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir: there is no directory {folder}")
        search_in([str(folder)])


def _table(found: Sequence[Option]) -> str:
    width = max((len(option.name) for option in found), default=0)
    texts = (f"{option.title} ({option.paper})" if option.title else option.does for option in found)
    return "\n".join(f"{option.name:{width}}  {text}" for option, text in zip(found, texts, strict=True))


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.catalogue.options") -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        program,
        description="List the options of a group: methods, losses, noise, data sets and so on.",
        epilog="`slnlab show METHOD` or `slnlab show noise=NAME` describes one. GROUP=NAME chooses it.",
    )
    parser.add_argument("kind", choices=KINDS, nargs="?", help="without it: all kinds")
    parser.add_argument("--format", choices=["text", "tsv"], default="text", help="tsv: a table for other programs")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="folder of your own options")
    asked = parser.parse_args(arguments)
    if not asked.kind and asked.format != "text":
        parser.error(f"--format {asked.format}: goes with one of {', '.join(KINDS)}")
    search_also(asked.config_dir)
    found = {kind: options(KINDS[kind]) for kind in ([asked.kind] if asked.kind else KINDS)}
    if not asked.kind:
        print("\n\n".join(f"{kind}\n{indent(_table(each), '  ')}" for kind, each in found.items()))
    elif asked.format == "text":
        print(_table(found[asked.kind]))
    else:
        writer = csv.writer(sys.stdout, "excel-tab", lineterminator="\n")
        writer.writerows([["name", "title", "paper", "description", "file"], *map(list, found[asked.kind])])


if __name__ == "__main__":
    main()
