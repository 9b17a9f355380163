"""Describe a method: `python -m slnlab.catalogue.show elr`, or `slnlab show elr`. Nothing here imports torch.

The description comes from the method's card or the docstring of its class. Keys and values come from the composed
configuration, their meanings from docstrings, and their sources from comments in YAML.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill, indent
from typing import Any

from omegaconf import DictConfig, OmegaConf

from slnlab.catalogue.card_texts import CardText, card_text
from slnlab.catalogue.docstrings import arguments, docstring
from slnlab.catalogue.options import KINDS, Option, options, search_also
from slnlab.catalogue.yaml_keys import Key, keys, source
from slnlab.config import CONF_DIR, compose
from slnlab.config.checks import near
from slnlab.config.container import container_of, flat
from slnlab.errors import ConfigError, SlnlabError
from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.options import Law, law
from slnlab.text.terminal import print_anywhere, quiet_on_broken_pipe

STRUCTURE = {"_target_", "name", "title", "rows", "refuses", "needs", "fixed"}
"""Keys below `method` that all methods share."""


def show(name: str, overrides: Sequence[str] = ()) -> str:
    """Return the description of a method as text.

    Args:
        name: name of the method.
        overrides: data set, noise and other choices of the shown values.

    Raises:
        ConfigError: the method does not exist, or the overrides cannot be composed.
    """
    found = {option.name: option for option in options("method")}
    if name not in found:
        raise ConfigError(_no_such(name, list(found)))
    config = container_of(compose([*overrides, f"method={name}"]))
    method = config["method"]
    try:
        card = card_text(name)
    except OSError:
        about = docstring(method["_target_"]).partition("\n\nArgs:")[0] or found[name].does
        card = CardText(method["title"], "", "", about)
    its = law(method)
    rows = ", ".join(f"{row.title} ({name})" for name, row in its.rows.items())
    facts = {
        "rows": rows,
        "networks": str(len(its.networks)),
        "class": method["_target_"],
        "file": str(found[name].path),
        "published": card.published,
    }
    names = f"data={config['data']['name']} noise={config['noise']['name']}"
    sections = [
        f"{name}: {card.title}{f' ({card.paper})' if card.paper else ''}",
        _wrapped(card.body),
        "\n".join(f"{key:10} {fill(text, 108, subsequent_indent=' ' * 11)}" for key, text in facts.items() if text),
        "\n".join([f"Keys, with their values for {names}:", *(_keys(config, found) or ["  none of its own"])]),
        "\n".join(_law(its)),
    ]
    return "\n\n".join(sections)


def _no_such(name: str, methods: Sequence[str]) -> str:
    for kind, group in KINDS.items():
        if group != "method" and name in {option.name for option in options(group)}:
            return f"{name}: is no method, but {group}={name}; see `slnlab list {kind}`"
    known = "`slnlab list methods` has them all, --config-dir=DIR adds your own"
    return f"{name}: there is no such method{near(name, methods)}; {known}"


def _wrapped(body: str) -> str:
    """Return Markdown as wrapped plain text; displayed formulas stay LaTeX."""
    paragraphs = (paragraph for paragraph in body.split("\n\n"))
    return "\n\n".join(
        indent(text, "  ") if "$$" in text else fill(text.removeprefix("## "), 119) for text in paragraphs
    )


def _keys(config: Mapping[str, Any], found: Mapping[str, Option]) -> list[str]:
    """Return lines for each key of the method: value, meaning, and source of the value."""
    method = config["method"]
    comments = _comments(found[method["name"]].path, found)
    everywhere = {key.path: key.comment for key in keys((CONF_DIR / "train.yaml").read_text(encoding="utf-8"))[1]}
    of_class = arguments(method["_target_"])
    values = flat({key: value for key, value in config.items() if key not in ("method", "preset", "contents")})
    own = {f"method.{key}": value for key, value in method.items() if key not in STRUCTURE}
    lines = []
    for path, value in {**{path: values[path] for path in comments if path in values}, **own}.items():
        group, _, key = path.partition(".")
        lines.append(f"  {path} = {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
        meaning = of_class.get(key) if group == "method" else everywhere.get(path)
        known = comments.get(path)
        origin = source(known, comments.values()) if known else ""
        lines += [
            fill(text, 119, initial_indent=" " * 6, subsequent_indent=" " * 6)
            for text in (meaning, origin and f"source: {origin}")
            if text
        ]
    return lines


def _comments(path: Path, found: Mapping[str, Option]) -> dict[str, Key]:
    """Return the keys of a method's YAML and of its defaults, by path."""
    text = path.read_text(encoding="utf-8")
    taken: dict[str, Key] = {}
    chosen = OmegaConf.load(path)
    assert isinstance(chosen, DictConfig)
    for other in chosen.get("defaults", ()):
        if isinstance(other, str) and other in found:
            taken |= _comments(found[other].path, found)
    return taken | {key.path: key for key in keys(text)[1]}


def _law(law: Law) -> Iterator[str]:
    """Yield the combinations that a method allows, refuses, needs and fixes."""
    allowed = [f"{each.title} ({each.switch})" for each in COMPOSABLE if each.switch not in law.refuses]
    allowed += [] if "loss.name" in law.fixed else ["any class-wise loss (loss)"]
    yield fill(f"Composes with {', '.join(allowed)}.", 119)
    yield from (fill(f"Refuses {key}: {why}.", 119, subsequent_indent="  ") for key, why in law.refuses.items())
    yield from (fill(f"Needs {key}: {why}.", 119, subsequent_indent="  ") for key, why in law.needs.items())
    yield from (f"Fixes {key}={value}." for key, value in law.fixed.items())


@quiet_on_broken_pipe
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.catalogue.show") -> None:
    """Run the command line."""
    print_anywhere()
    parser = argparse.ArgumentParser(program, description="Describe a method, its keys, and its combinations.")
    parser.add_argument("method", metavar="METHOD", help="`slnlab list methods` lists them")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="choices for the shown values, such as data=cifar10"
    )
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="folder of your own options")
    asked = parser.parse_intermixed_args(arguments)
    try:
        search_also(asked.config_dir)
        print(show(asked.method, asked.overrides))
    except SlnlabError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
