"""From the command line to a checked configuration, and from a configuration to the run's directory.

Nothing here imports torch: a wrong key or an impossible value is refused in the time Hydra needs to compose.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from packaging.version import Version
from pydantic import ValidationError

from slnlab.batching import batch_sizes
from slnlab.contents import of_source
from slnlab.errors import ConfigError
from slnlab.identity import run_subdir
from slnlab.image_folder import ImageFolderContents, read_image_folder
from slnlab.plain import flat, plain, said_by
from slnlab.quoting import mended
from slnlab.schemas.base import Section, allowed_by
from slnlab.schemas.config import GROUPS, Root, class_map_errors, contradictions, epoch_size, redefinitions

_HERE = Path(__file__).resolve().parent
_CHECKOUT = _HERE.parents[1]
CONF_DIR = _CHECKOUT / "conf" if (_CHECKOUT / "pyproject.toml").exists() else _HERE / "conf"
"""The configuration: a checkout's `conf/`, or the copy inside an installed package."""

extra_config_dirs: list[str] = []
"""Of the command that this process is, or that has started it: its --config-dir, and others that it searches."""

_composing = threading.Lock()
"""Hydra keeps what it has found of itself in the process, and finds it once."""


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the configuration of a run as the command line does.

    Also inside another application of Hydra, and in threads: it is always slnlab's configuration, and theirs stays
    as it is.

    Args:
        overrides: Hydra overrides, such as `["noise=asym", "sln.sigma=0.5"]`.

    Raises:
        ConfigError: a key or an option that does not exist; the message names it and what is near.
    """
    config = compose_with_hydra(overrides)
    with open_dict(config):
        del config["hydra"]
    return config


def compose_with_hydra(overrides: Sequence[str] = ()) -> DictConfig:
    """The same with Hydra's own node.

    Raises:
        ConfigError: see `compose`.
    """
    try:
        return _load(overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error


def _load(overrides: Sequence[str]) -> DictConfig:
    # By a loader of our own: `hydra.compose` asks the process's only Hydra, which may be another application's.
    with _composing:
        base = VersionBase.instance()
        theirs, base.version_base = base.version_base, Version("1.3")
        try:
            path = create_config_search_path(str(CONF_DIR))
            for folder in extra_config_dirs:
                path.prepend("command-line", folder, anchor="schema")  # which Hydra wants last
            return ConfigLoaderImpl(path).load_configuration("train", list(overrides), RunMode.RUN, from_shell=False)
        finally:
            base.version_base = theirs


def check(config: DictConfig) -> None:
    """Refuse what cannot work.

    Raises:
        ConfigError: names every wrong key, its value, and what is allowed.
    """
    container = plain(config)
    problems = list(_problems(container))
    if not problems and container["init"]["from"] is not None:
        from slnlab import source_runs  # which needs this module

        problems = list(source_runs.problems(config))
    if problems:
        lines = [f"{key}: {what}" for key, what in problems]
        raise ConfigError("\n  ".join(["the configuration cannot work:", *lines] if lines[1:] else lines))


SECRETS = re.compile(r"(api|access|private|auth)?_?(key|token|secret|password|credentials?)", re.IGNORECASE)


def _problems(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in flat(config).items():
        if isinstance(value, str) and value and SECRETS.fullmatch(key.split(".")[-1]):
            yield key, "looks like a secret, and a configuration is written to files; keep it in the environment"
            return  # before anything that would repeat its value
    groups = {key: config[key] for key in GROUPS if key in config}
    sound = True
    for name in GROUPS.keys() - groups.keys():
        sound = False
        yield name, "is missing"
    rest = {key: value for key, value in config.items() if key not in GROUPS}
    sections: list[tuple[str, type[Section], Any]] = [("", Root, rest)]
    sections += [(group, schema_of(group, node), node) for group, node in groups.items()]
    for prefix, schema, node in sections:
        try:
            schema.model_validate(node)
        except ValidationError as error:
            sound = False
            yield from _explain_validation(prefix, schema, node, error)
    yield from redefinitions(config)
    if sound:
        yield from contradictions(config)
        if "class_map" in config["noise"]:
            for what in class_map_errors(config["noise"]["class_map"], config["data"]):
                yield "noise.class_map", what


def schema_of(group: str, node: Any) -> type[Section]:
    """The schema of one option of a group: its own, that of the class which it builds, or the group's.

    A `_target_` outside slnlab without a schema of ours may have keys that only it knows.
    """
    base = GROUPS[group]
    node = node if isinstance(node, dict) else {}
    target = str(node.get("_target_", "slnlab."))
    ours = target.startswith("slnlab.")
    built = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", target.rpartition(".")[2]).lower() if ours else ""
    for name in (str(node.get("name")), built):
        module = f"slnlab.schemas.{group}.{name}"
        if name.isidentifier() and importlib.util.find_spec(module):
            schema: type[Section] = importlib.import_module(module).Schema
            return schema
    if ours:
        return base
    return type(base.__name__, (base,), {"model_config": {**base.model_config, "extra": "allow"}})


def _explain_validation(
    prefix: str, schema: type[Section], node: Any, error: ValidationError
) -> Iterator[tuple[str, str]]:
    told: set[str] = set()
    for item in error.errors():
        path, several = _place(schema, item["loc"])
        key = ".".join([prefix, *path] if prefix else path)
        if several is not None:  # pydantic has an error for each type
            if key not in told:
                told.add(key)
                yield key, f"{_value(node, path)!r} is not allowed: {allowed_by(several)}"
        elif item["type"] == "extra_forbidden":
            known = sorted([*_keys_at(schema, path[:-1]), *(GROUPS if key == path[0] else ())])
            yield key, f"there is no such key{_near(path[-1], known)}; the keys are {', '.join(known)}"
        else:
            message = item["msg"].removeprefix("Value error, ")
            if not path:
                yield key, message  # of the section as a whole
            elif item["type"] == "missing":
                yield key, "is missing"
            else:
                yield key, f"{item['input']!r} is not allowed: {message[0].lower()}{message[1:]}"


def _place(schema: type[Section], loc: Sequence[int | str]) -> tuple[list[str], Any]:
    """The key that an error is about; and its types, if it may be of several. Otherwise None.

    Behind a key of several types pydantic puts its name for the one that it has tried (`constrained-float`).
    """
    path = [str(part) for part in loc]
    node: Any = schema
    for number, part in enumerate(loc[:-1]):
        fields = node.model_fields if isinstance(node, type) and issubclass(node, Section) else {}
        node = next((field.annotation for name, field in fields.items() if part in (name, field.alias)), None)
        if get_origin(node) in (Union, UnionType) and len({*get_args(node)} - {NoneType}) > 1:
            return path[: number + 1], node
    return path, None


def _value(node: Any, path: Sequence[str]) -> Any:
    for part in path:
        node = node[part]
    return node


def _keys_at(schema: type[Section], path: Sequence[str]) -> Iterator[str]:
    for part in path:
        annotation = schema.model_fields[part].annotation
        assert isinstance(annotation, type)
        schema = annotation
    for name, field in schema.model_fields.items():
        yield field.alias or name


def _near(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def explain(error: BaseException, overrides: Sequence[str] = (), several: bool = False) -> str:
    """What Hydra or OmegaConf has to say; of a key that does not exist, which ones there are; of one that was typed so
    that it cannot be read, how to type it.

    Args:
        error: what was raised.
        overrides: what was typed; it says which options' keys are the known ones.
        several: a comma separates values of a sweep.
    """
    message = said_by(error)
    if isinstance(error, OverrideParseException) or "Ambiguous value" in message:
        return mended(overrides, {*GROUPS, *Root.model_fields, "hydra"}, several) or message
    if "Could not override" in message:
        key = message.split("'")[1]
        *path, leaf = key.split(".")
        known = _known_keys(path, overrides)
        if known:
            where = ".".join(path) or "the configuration"
            message = f"{key}: there is no such key{_near(leaf, known)}; the keys of {where} are {', '.join(known)}"
    return message


def _known_keys(path: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The keys below `path` in the configuration of the options that were chosen."""
    try:
        node: Any = _load([override for override in overrides if override.split("=")[0] in GROUPS])
    except (HydraException, OmegaConfBaseException):  # several options at once: a sweep, whose first is the default one
        node = _load([])
    for part in path:
        node = node.get(part) if isinstance(node, DictConfig) else None
    return [str(key) for key in node if key != "hydra"] if isinstance(node, DictConfig) else []


def preset_of(table: str, *, _root_: DictConfig) -> Any:
    """A value that depends on the data set, and perhaps on the noise: from a method's table in `conf/method/`.

    >>> config = OmegaConf.create(
    ...     {
    ...         "data": {"name": "cifar10"},
    ...         "noise": {"name": "asym"},
    ...         "preset": {"phuber_ce": {"tau": {"default": 2, "cifar10": {"default": 2, "asym": 10}}}},
    ...     }
    ... )
    >>> preset_of("phuber_ce.tau", _root_=config)
    10

    Args:
        table: where it stands below `preset`: by data set, then if need be by noise, `default` for any other.
    """
    found = OmegaConf.select(_root_, f"preset.{table}")
    for name in (data_kind(_root_=_root_), noise_kind(_root_=_root_)):
        if isinstance(found, DictConfig):
            found = found[name] if name in found else found["default"]
    return found


def data_kind(*, _root_: DictConfig) -> str:
    """The data set that presets go by: of one that was made from another (`defaults: [folder, _self_]`), the other."""
    return str(_root_.preset.get("like") or _root_.data.name)


def noise_kind(*, _root_: DictConfig) -> str:
    """The noise type that presets go by: of labels from a file or another run, what `noise.like` says they are."""
    return str(_root_.noise.get("like") or _root_.noise.name)


def register_resolvers() -> None:
    """Make what `conf/` interpolates known to OmegaConf.

    - `${slnlab.run_dir:}`, `${slnlab.run_subdir:}`: the run's directory.
    - `${slnlab.preset:a.b}`: what the table `preset.a.b` says for this data set and noise, see `preset_of`.
    - `${slnlab.noise_kind:}`: see `noise_kind`.
    - `${slnlab.times:a,b}`: the product.
    - `${slnlab.warm_up:10}`: so many epochs, but 0 in a run that starts from trained weights (`init.from`).
    - `${slnlab.part_of_training:0.1}`: so many training samples, rounded down, at least 1.
    - `${slnlab.steps_of_epoch:}`: whole batches in an epoch, at least 1; null where only the labels know how many.
    - `${slnlab.part_of_steps:0.5}`: so many of the run's steps, rounded down, at least 1; likewise.
    - `${slnlab.part_of_epochs:0.5}`: so many of the run's epochs, rounded down, at least 1.
    - `${slnlab.memory:0.05}`: the decay with which a momentum model averages over that share of the run's steps, at
      most 0.999; 0.99 where only the labels know how many there are.
    - `${slnlab.start:}`: `fine_tuning` or `from_scratch`, as the network's `pretrained` says.
    - `${slnlab.data_kind:}`: see `data_kind`.
    - `${slnlab.image_folder:what}`: of `data.source.root` (`read_image_folder`): num_classes, classes, num_train,
      whether there is a split val_clean or test, or the pixel_range of its images (`find_pixel_range`).
    """

    def subdir(*, _root_: DictConfig) -> str:
        return run_subdir(_root_)

    def full(*, _root_: DictConfig) -> str:
        return f"{_root_.runs_dir}/{run_subdir(_root_)}"

    def part(share: float, *, _root_: DictConfig) -> int:
        return max(1, int(share * (_root_.data.train_size or _root_.data.num_train)))

    def image_folder(what: str, *, _root_: DictConfig) -> Any:
        if OmegaConf.is_missing(_root_.data.source, "root"):
            raise ConfigError("data.source.root: must be given, a folder with one folder of images for each class")
        found = read_image_folder(str(_root_.data.source.root), _root_.data.unreadable, _root_.data.workers)
        if what == "pixel_range":
            return _pixel_range(_root_.data.source, found)
        said = {
            "num_classes": len(found.classes),
            "num_train": len(found.splits["train"].paths),
        }
        said |= {split: bool(listing.paths) for split, listing in found.splits.items()}
        return ListConfig(found.classes) if what == "classes" else said[what]

    OmegaConf.register_new_resolver("slnlab.image_folder", image_folder, replace=True)
    OmegaConf.register_new_resolver("slnlab.preset", preset_of, replace=True)
    OmegaConf.register_new_resolver("slnlab.data_kind", data_kind, replace=True)
    OmegaConf.register_new_resolver("slnlab.noise_kind", noise_kind, replace=True)
    OmegaConf.register_new_resolver("slnlab.part_of_training", part, replace=True)

    def steps_of_epoch(*, _root_: DictConfig) -> int | None:
        size = epoch_size(_root_.data)
        return None if size is None else max(1, size // _root_.data.batch_size)

    def part_of_steps(share: float, *, _root_: DictConfig) -> int | None:
        size = epoch_size(_root_.data)
        if size is None:
            return None
        return max(1, int(share * _root_.trainer.max_epochs * len(batch_sizes(size, _root_.data.batch_size))))

    def memory(share: float, *, _root_: DictConfig) -> float:
        steps = part_of_steps(share, _root_=_root_)
        return 0.99 if steps is None else min(0.999, round(1 - 1 / steps, 4))

    def part_of_epochs(share: float, *, _root_: DictConfig) -> int:
        return max(1, int(share * _root_.trainer.max_epochs))

    def start(*, _root_: DictConfig) -> str:
        return "fine_tuning" if OmegaConf.select(_root_, "model.pretrained") else "from_scratch"

    OmegaConf.register_new_resolver("slnlab.memory", memory, replace=True)
    OmegaConf.register_new_resolver("slnlab.part_of_epochs", part_of_epochs, replace=True)
    OmegaConf.register_new_resolver("slnlab.start", start, replace=True)
    OmegaConf.register_new_resolver("slnlab.steps_of_epoch", steps_of_epoch, replace=True)
    OmegaConf.register_new_resolver("slnlab.part_of_steps", part_of_steps, replace=True)

    def warm_up(epochs: int, *, _root_: DictConfig) -> int:
        return epochs if OmegaConf.select(_root_, "init.from") is None else 0

    OmegaConf.register_new_resolver("slnlab.warm_up", warm_up, replace=True)
    OmegaConf.register_new_resolver("slnlab.times", lambda a, b: a * b, replace=True)
    OmegaConf.register_new_resolver("slnlab.run_subdir", subdir, replace=True)
    OmegaConf.register_new_resolver("slnlab.run_dir", full, replace=True)


def _pixel_range(source: DictConfig, contents: ImageFolderContents) -> ListConfig | None:
    """Of images that have more than 8 bits; looked at once."""
    from slnlab.image_survey import find_pixel_range  # Pillow, which most configurations can do without

    stamp = of_source("data.source", OmegaConf.to_container(source, resolve=True))
    assert stamp is not None
    if stamp.digest not in _pixel_ranges:
        top = Path(source.root).expanduser()
        listed = [[top / path for path in split.paths] for split in contents.splits.values()]
        _pixel_ranges[stamp.digest] = find_pixel_range(listed)
    found = _pixel_ranges[stamp.digest]
    return None if found is None else ListConfig(found)


_pixel_ranges: dict[str, list[float] | None] = {}
"""By what the files hold: composing one run asks for it dozens of times."""


register_resolvers()
