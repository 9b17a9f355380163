"""Describe an option: `slnlab show elr`, or `slnlab show noise=asym`. Nothing here imports torch.

The description comes from the method's card, or from the docstring of the option's class. Keys and values come from
the composed configuration, their meanings from docstrings, and remarks such as their sources from comments in YAML.
"""

from __future__ import annotations

import argparse
import json
import re
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
from slnlab.config.container import container_of, flat, shown
from slnlab.errors import ConfigError
from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.law import Law, law
from slnlab.schema.options import fill as fill_in
from slnlab.schema.sections import node_at
from slnlab.text.messages import near
from slnlab.text.terminal import command

STRUCTURE = {"_target_", "name", "title", "rows", "refuses", "needs", "fixed"}
"""Keys below `method` that all methods share."""


def show(choice: str, overrides: Sequence[str] = ()) -> str:
    """Return the description of an option as text.

    Args:
        choice: name of a method, or group and name (`noise=asym`).
        overrides: data set, noise and other choices of the shown values.

    Raises:
        ConfigError: the option does not exist, or the overrides cannot be composed.
    """
    group, _, name = choice.rpartition("=")
    group = group or "method"
    if group not in KINDS.values():
        known = ", ".join(KINDS.values())
        raise ConfigError(f"{choice}: there is nothing to show for the group {group}; groups: {known}")
    found = {option.name: option for option in options(group)}
    if name not in found:
        raise ConfigError(_no_such(group, name, list(found)))
    composed = compose([*overrides, f"{group}={name}"])
    if group == "method":
        paragraphs = _method(container_of(composed), found)
    else:
        paragraphs = _option(group, composed, found[name].path)
    return "\n\n".join(paragraphs)


def _method(config: Mapping[str, Any], found: Mapping[str, Option]) -> list[str]:
    """Return the paragraphs on a method."""
    method = config["method"]
    name = method["name"]
    try:
        card = card_text(name)
    except OSError:
        about = docstring(method["_target_"]).partition("\n\nArgs:")[0] or found[name].does
        card = CardText(method["title"], "", "", about)
    its = law(method)
    facts = {
        "rows": ", ".join(f"{row.title} ({name})" for name, row in its.rows.items()),
        "networks": str(len(its.networks)),
        "class": method["_target_"],
        "file": str(found[name].path),
        "published": card.published,
    }
    names = f"data={config['data']['name']} noise={config['noise']['name']}"
    return [
        f"{name}: {card.title}{f' ({card.paper})' if card.paper else ''}",
        _wrapped(card.body),
        _facts(facts),
        "\n".join([f"Keys, with their values for {names}:", *(_keys(config, found) or ["  none of its own"])]),
        "\n".join(_law(its)),
    ]


def _option(group: str, config: DictConfig, path: Path) -> list[str]:
    """Return the paragraphs on an option that is not a method. Values that a user must give may be missing."""
    container = {group: shown(config[group])}
    fill_in(container)
    head, every = keys(path.read_text(encoding="utf-8"))
    comments = {key.path.removeprefix(f"{group}."): key.comment for key in every}
    lines: list[str] = []
    for path_of_key, value in flat(container).items():
        holder, _, key = path_of_key.rpartition(".")
        if key not in STRUCTURE:
            meaning = arguments(node_at(container, f"{holder}._target_") or "").get(key)
            lines += _key(path_of_key, value, meaning, comments.get(path_of_key.removeprefix(f"{group}.")))
    target = container[group].get("_target_", "")
    about = docstring(target).partition("\n\nArgs:")[0]
    return [
        f"{group}={path.stem}",
        *([head] if head else []),
        *([_wrapped(about)] if about else []),
        _facts({"class": target, "file": str(path)}),
        "\n".join([f"Keys, with their values for data={config.data.name}:", *(lines or ["  none of its own"])]),
    ]


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(f"{key:10} {fill(text, 108, subsequent_indent=' ' * 11)}" for key, text in facts.items() if text)


def _no_such(group: str, name: str, known: Sequence[str]) -> str:
    for kind, other in KINDS.items():
        if group == "method" != other and name in {option.name for option in options(other)}:
            return (
                f"{name}: is no method, but {other}={name}; see `slnlab show {other}={name}` and `slnlab list {kind}`"
            )
    kind = next(kind for kind, its in KINDS.items() if its == group)
    listed = f"`slnlab list {kind}` has them all"
    return f"{name}: there is no such {group}{near(name, known)}; {listed}, --config-dir=DIR adds your own"


def _wrapped(body: str) -> str:
    """Return Markdown or a docstring as wrapped plain text; displayed formulas stay LaTeX."""
    paragraphs = re.sub(r":\w+:(?=`)", "", body).replace("``", "`").split("\n\n")
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
        meaning = of_class.get(key) if group == "method" else everywhere.get(path)
        known = comments.get(path)
        origin = source(known, comments.values()) if known else ""
        lines += _key(path, value, meaning, origin and f"remark: {origin}")
    return lines


def _key(path: str, value: object, *texts: str | None) -> list[str]:
    """Return lines for one key: its value, then what it means and where it is from."""
    text_of_value = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    indented = (fill(text, 119, initial_indent=" " * 6, subsequent_indent=" " * 6) for text in texts if text)
    return [f"  {path} = {text_of_value}", *indented]


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


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.catalogue.show") -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(program, description="Describe a method or another option, and its keys.")
    parser.add_argument(
        "choice", nargs="?", metavar="OPTION", help="a method, or GROUP=NAME such as noise=asym; `slnlab list` has them"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="choices for the shown values, such as data=cifar10"
    )
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="folder of your own options")
    asked = parser.parse_intermixed_args(arguments)
    if asked.choice is None:
        parser.error("name an OPTION, such as sln_mo_lc or noise=asym; `slnlab list` has them")
    search_also(asked.config_dir)
    print(show(asked.choice, asked.overrides))


if __name__ == "__main__":
    main()
