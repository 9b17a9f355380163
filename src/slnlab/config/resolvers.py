"""Resolvers of `conf/`: values that follow from the data set, the noise, the images or the length of the run."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from slnlab.config.contents import source_contents
from slnlab.errors import ConfigError
from slnlab.image_folder.contents import ImageFolderContents
from slnlab.image_folder.listing import read_image_folder
from slnlab.processes.batching import batch_sizes
from slnlab.schema.sample_counts import epoch_size


def preset_of(table: str, *, _root_: DictConfig) -> Any:
    """A value of a method's table in `conf/method/`, chosen by the data set, and perhaps by the noise and its rate.

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
        table: dotted key of the table below `preset`: data set → value, data set → noise → value, or data set → noise
            → rate → value, each with `default` for any other. A data set's own name comes before `preset.like`. A
            rate, as in `"0.8": 0.65`, stands for itself and the rates up to the next.
    """
    found = OmegaConf.select(_root_, f"preset.{table}")
    for names in ((str(_root_.data.name), data_kind(_root_=_root_)), (noise_kind(_root_=_root_),)):
        if isinstance(found, DictConfig):
            found = found[next((name for name in names if name in found), "default")]
    if isinstance(found, DictConfig):
        rate = _root_.noise.rate if isinstance(_root_.noise.rate, int | float) else 0  # else refused at noise.rate
        rates = [str(key) for key in found if key != "default" and float(str(key)) <= rate]
        found = found[max(rates, key=float, default="default")]
    return found


def data_kind(*, _root_: DictConfig) -> str:
    """The data set whose presets count: `preset.like` for one made from another (`defaults: [folder, _self_]`)."""
    return str(_root_.preset.get("like") or _root_.data.name)


def noise_kind(*, _root_: DictConfig) -> str:
    """The noise type whose presets count: `noise.like` for labels from a file or another run."""
    return str(_root_.noise.get("like") or _root_.noise.name)


def part_of_training(share: float, most: int | None = None, *, _root_: DictConfig) -> int:
    """A share in [0, 1] of the training samples, of `most` if there are more; rounded down, at least 1."""
    size = _root_.data.train_size or _root_.data.num_train
    return max(1, int(share * (size if most is None else min(size, most))))


def steps_of_epoch(*, _root_: DictConfig) -> int | None:
    """The number of whole batches of an epoch, at least 1; None if it depends on the labels."""
    size = epoch_size(_root_.data)
    return None if size is None else max(1, size // _root_.data.batch_size)


def part_of_steps(share: float, most: int | None = None, *, _root_: DictConfig) -> int | None:
    """A share in [0, 1] of the run's steps, rounded down, at least 1 and at most `most`.

    None if their number depends on the labels.
    """
    size = epoch_size(_root_.data)
    if size is None:
        return None
    steps = max(1, int(share * _root_.trainer.max_epochs * len(batch_sizes(size, _root_.data.batch_size))))
    return steps if most is None else min(steps, most)


def per_step(way: float, share: float, unknown: float, *, _root_: DictConfig) -> float:
    """The learning rate with which Adam moves a weight by about `way` at most, in a share in [0, 1] of the run's steps.

    It is rounded down to one significant digit. `unknown` if the number of steps depends on the labels.
    """
    steps = part_of_steps(share, _root_=_root_)
    if steps is None:
        return unknown
    digit, exponent = f"{way / steps:.15e}".split("e")
    return float(f"{digit[0]}e{exponent}")


def part_of_epochs(share: float, *, _root_: DictConfig) -> int:
    """A share in [0, 1] of the run's epochs, rounded down, at least 1."""
    return max(1, int(share * _root_.trainer.max_epochs))


def epochs_of(count: int, of: int, least: int = 1, *, _root_: DictConfig) -> int:
    """So many epochs, published for runs of `of` epochs; in a shorter run the same share of it, at least `least`."""
    return max(least, min(count, count * int(_root_.trainer.max_epochs) // of))


def part_of_side(share: float, *, _root_: DictConfig) -> int:
    """A share in [0, 1] of an image's side in pixels, rounded down to an even number; 0 for feature vectors."""
    side = OmegaConf.select(_root_, "data.image_size") or OmegaConf.select(_root_, "preset.image_size") or 0
    return 2 * int(share * side / 2)


def memory(share: float, *, _root_: DictConfig) -> float:
    """The decay of a momentum model that averages over a share in [0, 1] of the run's steps.

    It is at most 0.999, and 0.99 if the number of steps depends on the labels.
    """
    steps = part_of_steps(share, _root_=_root_)
    return 0.99 if steps is None else min(0.999, round(1 - 1 / steps, 4))


def warm_up(epochs: int, *, _root_: DictConfig) -> int:
    """The number of warm-up epochs: `epochs`, or 0 in a run that starts from trained weights (`init.from`)."""
    return epochs if OmegaConf.select(_root_, "init.from") is None else 0


def start(*, _root_: DictConfig) -> str:
    """`fine_tuning` for a pretrained network (`model.pretrained`, `model.weights`), else `from_scratch`."""
    trained = OmegaConf.select(_root_, "model.pretrained") or OmegaConf.select(_root_, "model.weights")
    return "fine_tuning" if trained else "from_scratch"


def image_folder(what: str, *, _root_: DictConfig) -> Any:
    """A fact about the image folder `data.source.root` (see `read_image_folder`).

    Args:
        what: `num_classes`, `classes`, `num_train`; `val_clean` or `test`, true if there is such a split; or
            `pixel_range` (see `find_pixel_range`).

    Raises:
        ConfigError: the root is missing.
        DataError: the folder is unusable.
    """
    if OmegaConf.is_missing(_root_.data.source, "root"):
        raise ConfigError("data.source.root: must be given: a folder of images for each class, or a .csv list")
    data = _root_.data
    found = read_image_folder(str(data.source.root), data.unreadable, data.workers, data.labels)
    if what == "pixel_range":
        return _pixel_range(_root_.data.source, found)
    if what == "classes":
        return ListConfig(found.classes)
    sizes = {"num_classes": len(found.classes), "num_train": len(found.splits["train"].paths)}
    return sizes[what] if what in sizes else bool(found.splits[what].paths)


def arrays(what: str, *, _root_: DictConfig) -> Any:
    """A fact about the file of arrays `data.source.root` (see `read_corrected`).

    Args:
        what: `num_classes`, `classes`, `num_train`, `channels`, `height`; or `val_clean` or `test`, true if there is
            such a split.

    Raises:
        ConfigError: the root is missing.
        DataError: the file is unusable.
    """
    from slnlab.arrays.corrected import read_corrected  # with numpy, which the check of other data sets does without

    source = _root_.data.source
    if OmegaConf.is_missing(source, "root"):
        raise ConfigError(f"data.source.root: must be given, an .npz file with train_{source.kind} and train_labels")
    found = read_corrected(str(source.root), source.kind, _root_.data.labels).contents
    if what == "classes":
        return ListConfig(found.classes)
    if what in ("val_clean", "test"):
        return what in found.labels
    sizes = {"num_classes": len(found.classes), "num_train": len(found.labels["train"])}
    return sizes[what] if what in sizes else getattr(found, what)


def cycles(length: int, *, _root_: DictConfig) -> DictConfig:
    """A class map in cycles of `length` consecutive classes: c → c + 1, and the last of each cycle → its first.

    >>> cycles(2, _root_=OmegaConf.create({"data": {"num_classes": 5}}))
    {'0': '1', '1': '0', '2': '3', '3': '2'}
    """
    whole = _root_.data.num_classes // length * length
    return DictConfig({str(c): str(c - c % length + (c + 1) % length) for c in range(whole)})


def typed(dotted: str, *, _root_: DictConfig) -> bool:
    """True if a key has a literal value, False if an interpolation decides on it."""
    section, _, key = dotted.rpartition(".")
    return not OmegaConf.is_interpolation(OmegaConf.select(_root_, section), key)


RESOLVERS: dict[str, Callable[..., Any]] = {
    "arrays": arrays,
    "cycles": cycles,
    "data_kind": data_kind,
    "image_folder": image_folder,
    "memory": memory,
    "noise_kind": noise_kind,
    "epochs_of": epochs_of,
    "part_of_epochs": part_of_epochs,
    "part_of_side": part_of_side,
    "part_of_steps": part_of_steps,
    "over": operator.floordiv,
    "part_of_training": part_of_training,
    "per_step": per_step,
    "preset": preset_of,
    "start": start,
    "steps_of_epoch": steps_of_epoch,
    "times": operator.mul,
    "typed": typed,
    "warm_up": warm_up,
}
"""NAME of `${slnlab.NAME:ARGUMENTS}` in YAML → function. It also gets the whole configuration."""


def register_resolvers(resolvers: Mapping[str, Callable[..., Any]] = RESOLVERS) -> None:
    """Register resolvers with OmegaConf."""
    for name, function in resolvers.items():
        OmegaConf.register_new_resolver(f"slnlab.{name}", function, replace=True)


def _pixel_range(source: DictConfig, contents: ImageFolderContents) -> ListConfig | None:
    """The range of deep images, found once for each content of the folder; None for images of 8 bits."""
    from slnlab.image_folder.survey import find_pixel_range  # it imports Pillow, and most configurations need none

    stamp = source_contents("data.source", OmegaConf.to_container(source, resolve=True))
    assert stamp is not None
    if stamp.digest not in _pixel_ranges:
        listed = [[contents.top / path for path in split.paths] for split in contents.splits.values()]
        _pixel_ranges[stamp.digest] = find_pixel_range(listed)
    found = _pixel_ranges[stamp.digest]
    return None if found is None else ListConfig(found)


_pixel_ranges: dict[str, list[float] | None] = {}
"""Digest of the folder → its range. Composing one run asks for it dozens of times."""
