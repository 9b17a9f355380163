"""Spoil the labels of a data set, once, and keep the record of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from hydra.utils import get_method, instantiate
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from slnlab.data.probabilities import load_probabilities
from slnlab.data.source import LabelledImages, Source
from slnlab.errors import ConfigError
from slnlab.noise import NoiseRecord, next_class
from slnlab.streams import Streams


@dataclass
class LabelNoise:
    """A noise model, as configured.

    `function` is any function that returns noisy labels (N,), a pair (replaced, donor) of index tensors, or a
    whole `NoiseRecord`. It is given what its parameters ask for by name: `labels`, `images`, `num_classes`,
    `generator`, `class_map`, `probabilities`, `num_donors`, `rate`, and the other keys of its YAML. So a new
    noise type is one function and one YAML.

    Args:
        function: the noise model.
        name: its short name, e.g. "sym".
        rate: nominal noise rate, [0, 1).
        seed: of the label noise alone.
        options: the remaining keys of its YAML.
    """

    function: Callable[..., Any]
    name: str
    rate: float
    seed: int
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> LabelNoise:
        """From a node of `conf/noise/`."""
        options = dict(node)
        function = get_method(options.pop("_target_"))
        return cls(function, options.pop("name"), options.pop("rate"), options.pop("seed"), options)

    def apply(
        self, clean: LabelledImages, num_classes: int, classes: list[str] | None = None
    ) -> tuple[LabelledImages, NoiseRecord]:
        """The spoiled data, and what was done to them.

        Args:
            clean: images (N, channels, H, W) and true labels (N,).
            num_classes: C.
            classes: names of the classes, for class maps that use them.

        Raises:
            ConfigError: an option that does not fit the data set.
            DataError: a noise file or donor data set that cannot be read.
        """
        donor = self._donor(clean.images)
        wanted = inspect.signature(self.function).parameters
        supplies: dict[str, Callable[[], Any]] = {
            "labels": lambda: clean.labels,
            "images": lambda: clean.images,
            "num_classes": lambda: num_classes,
            "rate": lambda: self.rate,
            "generator": lambda: Streams(self.seed)("label noise"),
            "class_map": lambda: resolve_class_map(self.options["class_map"], num_classes, classes),
            "probabilities": lambda: load_probabilities(self.options["probabilities"], clean.labels, num_classes),
            "num_donors": lambda: len(donor.images) if donor else 0,
            **{key: partial(self.options.get, key) for key in self.options if key not in _SUPPLIED},
        }
        made = self.function(**{name: supplies[name]() for name in wanted if name in supplies})
        record = self._record(made, clean.labels, num_classes)
        images = clean.images
        if len(record.replaced):
            if donor is None:
                raise ConfigError("noise.donor: open-set noise needs a data set to take images from")
            if record.donor_source != self._donor_name or int(record.donor.max()) >= len(donor.images):
                raise ConfigError(
                    f"noise.donor: the record took its images from {record.donor_source}, not {self._donor_name}"
                )
            images = images.clone()
            images[record.replaced] = donor.images[record.donor]
        return LabelledImages(images, record.given), record

    def _record(self, made: Any, true: Tensor, num_classes: int) -> NoiseRecord:
        if isinstance(made, NoiseRecord):
            return made
        common: dict[str, Any] = {
            "true": true, "num_classes": num_classes, "name": self.name, "rate": self.rate, "seed": self.seed
        }  # fmt: skip
        if isinstance(made, Tensor):
            return NoiseRecord(given=made, **common)
        replaced, donors = made
        return NoiseRecord(given=true, replaced=replaced, donor=donors, donor_source=self._donor_name, **common)

    @property
    def _donor_source(self) -> Source | None:
        node = self.options.get("donor")
        return instantiate(node) if node else None

    @property
    def _donor_name(self) -> str | None:
        return self._donor_source.name if self._donor_source else None

    def prepare(self) -> None:
        """Fetch what the donor data set needs."""
        if self._donor_source:
            self._donor_source.prepare()

    def _donor(self, images: Tensor) -> LabelledImages | None:
        """The donor's training images in the shape of ours."""
        if self._donor_source is None:
            return None
        donor = self._donor_source.load("train")
        return LabelledImages(conform(donor.images, images.shape[1:]), donor.labels)


_SUPPLIED = (
    "labels",
    "images",
    "num_classes",
    "rate",
    "generator",
    "class_map",
    "probabilities",
    "num_donors",
)


def resolve_class_map(
    class_map: Mapping[Any, Any] | str, num_classes: int, classes: list[str] | None
) -> dict[int, int]:
    """A class map by number, from one by name or number, or from `next` (c → c + 1 mod C).

    Raises:
        ConfigError: a class that does not exist.
    """
    if class_map == "next":
        return next_class(num_classes)
    if isinstance(class_map, str):
        raise ConfigError(f"noise.class_map: {class_map!r} is neither `next` nor a mapping {{from: to}}")
    # Names win over numbers only where both exist, as for digits, whose names are their numbers.
    numbers = {**{str(c): c for c in range(num_classes)}, **{name: c for c, name in enumerate(classes or [])}}
    try:
        return {numbers[str(source)]: numbers[str(target)] for source, target in class_map.items()}
    except KeyError as error:
        raise ConfigError(
            f"noise.class_map: there is no class {error.args[0]!r}; the classes are {', '.join(numbers)}"
        ) from None


def conform(images: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Bring images (N, channels, H, W) uint8 to another (channels, H, W): grey or colour, bilinear with antialias."""
    channels, height, width = shape
    if images.shape[1] != channels:
        images = tv.rgb_to_grayscale(images) if channels == 1 else tv.grayscale_to_rgb(images)
    if images.shape[2:] != (height, width):
        images = tv.resize(images, [height, width], antialias=True)
    return images
