"""Writes the generated pages: `python docs/make_pages.py`.

A card for each method (`methods/<name>.md`), their index, and `configuration.md` with every key. They come from
`conf/`, from docstrings (read, not imported) and from measured costs; `parts/` has what is written by hand. A new
method needs `conf/method/<name>.yaml` and `docs/parts/methods/<name>.md`, and changes no other file.
"""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from markdown_tables import cell, code, table

from slnlab.catalogue.card_texts import CardText, card_text
from slnlab.catalogue.docstrings import arguments
from slnlab.catalogue.show import STRUCTURE
from slnlab.catalogue.yaml_keys import Key, keys, preset_of, source
from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.constructors import class_variable
from slnlab.schema.law import Law, law

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
CONF = ROOT / "conf"
SOURCE = ROOT / "src" / "slnlab"
CLASS_WISE = ROOT / "tests" / "losses" / "test_class_wise.py"

FOLLOWERS = {
    "momentum.enabled": ("momentum.decay", "momentum_decay"),
    "correction.enabled": ("correction.last_epochs", "correction_epochs"),
}
"""Switch → a key that matters once it is on, and its preset by data set."""

MADE = "<!-- Made by docs/make_pages.py; `make docs` makes it anew. -->\n\n"


# Methods


class Method(NamedTuple):
    """The contents of a method's card."""

    name: str
    card: CardText
    """The hand-written text."""
    config: dict[str, Any]
    """The YAML merged over its defaults."""
    head: str
    keys: list[Key]
    costs: float | None
    """A run's computing time as a multiple of cross entropy's, where it was measured."""

    @property
    def method(self) -> dict[str, Any]:
        chosen: dict[str, Any] = self.config["method"]
        return chosen

    @property
    def does(self) -> str:
        """The two sentences on top."""
        return cell(self.card.does)

    @property
    def estimates(self) -> bool:
        """Whether a run of cross entropy estimates its transition matrix first."""
        return self.method.get("transition") == "estimated"

    @property
    def cost(self) -> str:
        """`costs` with the run that it needs first, as `slnlab.tables.costs.cost_of` counts; empty: not measured."""
        return f"{self.costs + self.estimates:.2f}" if self.costs else ""

    @property
    def law(self) -> Law:
        """What its class and its YAML refuse, need and fix."""
        return law(self.method)


@cache
def methods() -> tuple[Method, ...]:
    costs = json.loads((ROOT / "experiments/methods_digits/costs.json").read_text("utf-8"))["cost"]
    return tuple(method(path.stem, costs.get(path.stem)) for path in sorted((CONF / "method").glob("*.yaml")))


def method(name: str, costs: float | None) -> Method:
    card = card_text(name, DOCS / "parts" / "methods")
    head, found = keys((CONF / "method" / f"{name}.yaml").read_text("utf-8"))
    config = yaml.safe_load((CONF / "method" / f"{name}.yaml").read_text("utf-8"))
    for other in config.get("defaults", []):
        if isinstance(other, str) and other != "_self_":
            base = method(other, costs)
            own = {key.path for key in found}
            found = [key for key in base.keys if key.path not in own] + found
            config = {key: merged(base.config.get(key), config.get(key)) for key in {**base.config, **config}}
    return Method(name, card, config, head, found, costs)


def merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {key: merged(below.get(key), above.get(key)) for key in {**below, **above}}
    return below if above is None else above


def quick_look(name: str, values: dict[str, Any]) -> str:
    """The command for a run of three epochs with these values; nothing where it needs none."""
    keys = {"method": name, "trainer.max_epochs": 3, **{f"method.{key}": value for key, value in values.items()}}
    typed = [f"{key}={shown(value).replace(' ', '')}" for key, value in keys.items()]
    command = shlex.join(["python", "-m", "slnlab.train", *typed])
    return f"Three epochs show the whole method:\n\n```sh\n{command}\n```" if values else ""


def shown(value: Any) -> str:
    """A value, or a table of values by data set and noise, in one line."""
    if isinstance(value, dict):
        parts = {name: f"({shown(at)})" if isinstance(at, dict) else shown(at) for name, at in value.items()}
        return "; ".join(f"{name}: {part}" for name, part in parts.items())
    if isinstance(value, list) and any("${" in str(part) for part in value):
        return "[" + ", ".join(map(shown, value)) + "]"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = re.sub(r"\$\{slnlab\.times:\$\{([\w.]+)\},([\d.]+)\}", r"\2 · `\1`", text)
    text = re.sub(r"\$\{slnlab\.part_of_training:([\d.]+)\}", r"\1 of the training samples", text)
    most = r"\1 of the training samples, of \2 at most"
    text = re.sub(r"\$\{slnlab\.part_of_training:([\d.]+),(\d+)\}", most, text)
    text = re.sub(r"\$\{slnlab\.epochs_of:(\d+),(\d+)(,\d+)?\}", r"\1 of \2 epochs", text)
    text = re.sub(r"\$\{slnlab\.part_of_side:([\d.]+)\}", r"\1 of the image's side", text)
    text = re.sub(r"\$\{slnlab\.part_of_epochs:([\d.]+)\}", r"\1 of the run's epochs", text)
    text = re.sub(r"\$\{slnlab\.part_of_steps:([\d.]+)\}", r"\1 of the run's steps", text)
    text = re.sub(r"\$\{slnlab\.part_of_steps:([\d.]+),(\d+)\}", r"\1 of the run's steps, \2 at most", text)
    text = re.sub(r"\$\{slnlab\.per_step:([\d.]+),([\d.]+),.*\}", r"\1 over the number of steps of \2 of the run", text)
    text = re.sub(r"\$\{slnlab\.memory:([\d.]+)\}", r"an average over \1 of the run's steps", text)
    text = text.replace("${slnlab.steps_of_epoch:}", "the steps of an epoch")
    return re.sub(r"\$\{([\w.]+)\}", r"`\1`", text)


def value_of(found: Method, value: str) -> str:
    """A key's value as a reader wants it: tables instead of the resolvers that read them."""
    warm_up = re.fullmatch(r"\$\{slnlab\.warm_up:(.*)\}", value)
    if warm_up:
        return f"{value_of(found, warm_up[1])}; 0 with `init.from`"
    preset = re.fullmatch(r"\$\{slnlab\.preset:([\w.]+)\}", value)
    select = re.fullmatch(r"\$\{oc\.select:preset\.([\w.]+)\.\$\{slnlab\.data_kind:\},(.*)\}", value)
    if preset or select:
        at: Any = found.config["preset"]
        for name in (preset or select)[1].split("."):  # type: ignore[index]
            at = at[name]
        return shown({**at, "default": select[2]} if select else at)
    if value.startswith("${oc.select:preset.sigma"):
        return shown({path.stem: sigmas(path) for path in sorted((CONF / "data").glob("*.yaml"))})
    return shown(value)


def sigmas(path: Path) -> Any:
    option = yaml.safe_load(path.read_text("utf-8"))
    preset = option.get("preset", {})
    if "sigma" not in preset:  # that of the data set which this one extends
        return sigmas(path.with_name(f"{option['defaults'][0]}.yaml"))
    return preset["fine_tuning"]["sigma"] if isinstance(preset["sigma"], str) else preset["sigma"]


def of_each_data_set(name: str) -> str:
    """The values of a preset that data sets state, and that of the others."""
    options = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted((CONF / "data").glob("*.yaml"))}
    stated = {stem: value for stem, option in options.items() if (value := option.get("preset", {}).get(name))}
    return shown(stated | {"others": yaml.safe_load((CONF / "train.yaml").read_text("utf-8"))["preset"][name]})


def key_rows(found: Method) -> list[list[str]]:
    """Key, value, meaning and remark of each key that the method sets."""
    everywhere = {key.path: key.comment for key in keys((CONF / "train.yaml").read_text("utf-8"))[1]}
    of_class = arguments(found.method["_target_"])
    loss = found.law.fixed.get("loss.name")
    of_loss = arguments(f"slnlab.losses.{loss}") if loss else {}
    rows, tables = [], tuple(filter(None, (preset_of(key) for key in found.keys)))
    for key in found.keys:
        group, _, name = key.path.partition(".")
        structure = group == "defaults" or name.split(".")[0] in STRUCTURE or key.path.startswith(tables)
        if not key.value or structure:
            continue
        meaning = {"method": of_class, "loss": of_loss}.get(group, {}).get(name) or everywhere.get(key.path, "")
        rows.append([code(key.path), cell(value_of(found, key.value)), cell(meaning), cell(source(key, found.keys))])
        if key.path in FOLLOWERS:
            follower, preset = FOLLOWERS[key.path]
            rows.append([code(follower), cell(of_each_data_set(preset)), cell(everywhere[follower]), ""])
    return rows


def tests_of(found: Method) -> list[str]:
    made = f"class {found.method['_target_'].rsplit('.', 1)[-1]}("
    module = next(path.stem for path in (SOURCE / "methods").glob("*.py") if made in path.read_text("utf-8"))
    loss = found.law.fixed.get("loss.name", "")
    names = [f"methods/test_{found.name}", f"methods/test_{module}", f"methods/test_method_{module}"]
    names += [f"losses/test_{loss}"]
    names += ["losses/test_class_wise"] if loss and re.search(rf"\b{loss}\b", CLASS_WISE.read_text("utf-8")) else []
    names += ["losses/test_every_loss"] if loss else []
    names += ["methods/test_every_method"]
    return [f"{name}.py" for name in dict.fromkeys(names) if (ROOT / "tests" / f"{name}.py").exists()]


def card(found: Method) -> str:
    """The page of one method."""
    kind = found.method["_target_"]
    laws = found.law
    alone = "One network" if len(laws.networks) == 1 else "Two networks"
    composes = [f"{each.title} (`{each.switch}`)" for each in COMPOSABLE if each.switch not in laws.refuses]
    composes += [] if "loss.name" in laws.fixed else ["any class-wise loss (`loss`)"]
    sections = [
        MADE.strip(),
        f"# {found.card.title}",
        f"`method={found.name}` · {found.card.paper} · {alone.lower()} · `{kind}`, see [its class](classes.md)",
        found.card.body.replace("## Objective", "## Objective\n\n[Notation](index.md#notation).", 1),
        "## Keys",
    ]
    rows = key_rows(found)
    sections.append(table("key | value | meaning | remark", rows) if rows else "None of its own.")
    remarks = " ".join(row[-1] for row in rows)
    notes = [key.comment for key in found.keys if key.path.startswith("preset") and key.comment and not key.value]
    notes = [cell(note) for note in notes if cell(note) not in remarks]
    sections += [cell(found.head), *(f"Values: {note}." if note[0].islower() else note for note in notes)]
    fits_once = found.config.get("preset", {}).get("epochs") == 1
    sections += [
        f"[`conf/method/{found.name}.yaml`](../../conf/method/{found.name}.yaml) sets these values.",
        quick_look(found.name, {} if fits_once else class_variable(kind, "in_three_epochs") or {}),
        "## Composition",
        f"Composes with {', '.join(composes)}." if composes else "",
        "\n".join(f"- It refuses `{key}`: {cell(why)}." for key, why in laws.refuses.items()),
        "\n".join(f"- It needs `{key}`: {cell(why)}." for key, why in laws.needs.items()),
        "\n".join(f"- It fixes `{key}={value}`." for key, value in laws.fixed.items()),
        "## Cost",
        f"A run takes {found.cost} times as long as with cross entropy"
        f"{', including the run that estimates the matrix' if found.estimates else ''} "
        "(computing time on digits, on a CPU: [costs.json](../../experiments/methods_digits/costs.json))."
        if found.costs
        else "Not measured.",
        "## State",
        table(
            "state | |",
            [
                ["implemented and tested", "yes: " + ", ".join(f"`tests/{name}`" for name in tests_of(found))],
                ["values as published", cell(found.card.published)],
                ["number of the paper reached", "not run"],
            ],
        ).replace("| state | | |\n|---|---|---|", "| state | |\n|---|---|"),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def classes() -> str:
    kinds = sorted({each.method["_target_"] for each in methods()})
    body = "\n".join(f".. autoclass:: {kind}" for kind in kinds)
    return f"{MADE}# Classes of the methods\n\n```{{eval-rst}}\n{body}\n```\n"


def index() -> str:
    rows = [
        [
            f"[`{each.name}`]({each.name}.md)",
            each.card.title,
            each.does,
            each.card.paper,
            each.cost,
        ]
        for each in methods()
    ]
    single = [each for each in methods() if len(each.law.networks) == 1]
    page = (DOCS / "parts" / "methods.md").read_text("utf-8")
    for key in (feature.switch for feature in COMPOSABLE):
        without = ", ".join(f"`{each.name}`" for each in single if key in each.law.refuses)
        page = page.replace(f"<!-- without {key} -->", without)
    two = ", ".join(f"`{each.name}`" for each in methods() if each not in single)
    page = page.replace("<!-- two networks -->", two)
    return MADE + page.replace("<!-- table -->", table("`method=` | row | what it does | paper | cost", rows))


# Configuration


def chosen() -> dict[str, str | None]:
    """The default option of each group of conf/."""
    entries = yaml.safe_load((CONF / "train.yaml").read_text("utf-8"))["defaults"]
    named = [item for entry in entries if isinstance(entry, dict) for item in entry.items()]
    return {name: option for name, option in named if not name.startswith("override")}


def arguments_of(option: Path) -> dict[str, str]:
    """What the docstring of an option's class or function says of each argument, for keys without a comment."""
    node = yaml.safe_load(option.read_text("utf-8"))
    target = node.get("_target_") or (node.get(option.parent.name) or {}).get("_target_") or ""
    return arguments(target) if target.startswith("slnlab.") else {}


def section(path: Path, group: str = "") -> str:
    head, found = keys(path.read_text("utf-8"))
    comments = [f"`{line.strip()}`" if line.startswith("  ") else cell(line) for line in head.splitlines()]
    kept = [key for key in found if not key.path.startswith(("defaults", "hydra")) and (key.value or key.comment)]
    of_class = arguments_of(path)
    meanings = [key.comment or of_class.get(key.path.removeprefix(f"{path.parent.name}."), "") for key in kept]
    rows = [[code(f"{group}{k.path}"), code(k.value), cell(text)] for k, text in zip(kept, meanings, strict=True)]
    return "\n\n".join(filter(None, ["\n".join(comments), table("key | default | meaning", rows)]))


def configuration() -> str:
    page = (DOCS / "parts" / "configuration.md").read_text("utf-8")
    options = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in chosen()}
    rows = [
        [code(group), code(option or "null"), ", ".join(map(code, options[group]))]
        for group, option in chosen().items()
    ]
    page = page.replace("<!-- groups -->", table("group | default | options", rows))
    page = page.replace("<!-- train -->", section(CONF / "train.yaml").partition("\n\n")[2])
    for group in re.findall(r"<!-- (\w+) -->", page):
        inside = "" if "@package _global_" in next((CONF / group).glob("*.yaml")).read_text("utf-8") else f"{group}."
        parts = [
            f"### {group}={path.stem}\n\n{section(path, inside)}" for path in sorted((CONF / group).glob("*.yaml"))
        ]
        page = page.replace(f"<!-- {group} -->", "\n\n".join(parts))
    return MADE + page


def pages() -> dict[Path, str]:
    """Every generated page: its path and its text."""
    cards = {DOCS / "methods" / f"{each.name}.md": card(each) for each in methods()}
    others = {"methods/index.md": index(), "methods/classes.md": classes(), "configuration.md": configuration()}
    return {**cards, **{DOCS / name: text for name, text in others.items()}}


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
