"""Label noise added to a data set once, with a record of it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_method, instantiate
from omegaconf import ListConfig
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from slnlab.config.contents import for_class
from slnlab.data.probabilities import load_probabilities
from slnlab.data.source import Source
from slnlab.errors import ConfigError
from slnlab.noise import NoiseRecord, next_class
from slnlab.storage.hashes import file_hashes
from slnlab.streams import Streams
from slnlab.text.messages import quoted


@dataclass
class LabelNoise:
    """A configured noise model. A new noise type is one function and one YAML.

    `function` returns noisy labels (N,), a pair (replaced, donor) of index tensors, or a `NoiseRecord`. Its parameter
    names choose its arguments: `labels`, `images`, `num_classes`, `num_train`, `generator`, `class_map`,
    `probabilities`, `num_donors`, `rate`, `classes` (names), and the other keys of its YAML. Image files have `paths`
    instead of `images`, samples with names have both.

    Args:
        function: the noise model. One that is not slnlab's is called twice, and must return the same.
        name: short name of the noise, e.g. "sym".
        rate: nominal noise rate, in [0, 1).
        seed: seed of the label noise alone.
        options: the remaining keys of the YAML.
    """

    function: Callable[..., Any]
    name: str
    rate: float
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    _donors: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> LabelNoise:
        """Make one from a node of `conf/noise/`."""
        options = dict(node)
        function = get_method(options.pop("_target_"))
        return cls(function, options.pop("name"), options.pop("rate"), options.pop("seed"), options)

    def record(
        self, labels: Tensor, num_classes: int, classes: list[str] | None = None, **more: Callable[[], Any]
    ) -> NoiseRecord:
        """Draw the noise of a data set; return the noise record. `with_donors` puts its images in place.

        Args:
            labels: true labels (N,) int64.
            num_classes: C.
            classes: names of the classes, for class maps.
            more: more arguments for the noise function by name, such as `images` and `paths`; each value makes its
                argument.

        Raises:
            ConfigError: an option does not fit the data set, an argument is unknown, or a function that is not slnlab's
                returns other labels when it is called again.
            DataError: a noise file or donor data set cannot be read.
        """
        supplies: dict[str, Callable[[], Any]] = {
            **{key: partial(self.options.get, key) for key in self.options},
            "labels": lambda: labels.clone(),  # the function may edit its labels in place
            "num_classes": lambda: num_classes,
            "num_train": lambda: len(labels),
            "classes": lambda: classes,
            "rate": lambda: self.rate,
            "generator": lambda: Streams(self.seed)("label noise"),
            "num_donors": lambda: len(self._donor_images()),
            **more,
        }
        if "class_map" in self.options:
            supplies["class_map"] = partial(resolve_class_map, self.options["class_map"], num_classes, classes)
        if "probabilities" in self.options:
            path = self.options["probabilities"]
            supplies["probabilities"] = partial(load_probabilities, path, labels, num_classes)
        names, donor = self._arguments(supplies), self._donor_source

        def drawn() -> NoiseRecord:
            result = self.function(**{name: supplies[name]() for name in names})
            return self._record(result, labels, num_classes, donor.name if donor else None)

        record = drawn()
        ours = str(getattr(self.function, "__module__", "")).startswith("slnlab.")
        if not ours and drawn().hash != record.hash:
            raise ConfigError(
                f"noise: {self.name} returns other labels when it is called again, so that every run would have its "
                "own; give it a parameter `generator`, a torch.Generator seeded by noise.seed, and draw from that"
            )
        return record

    def with_donors(self, images: Tensor, record: NoiseRecord) -> Tensor:
        """Return images (N, channels, H, W) uint8 with the donors of a record in place of the replaced ones.

        Raises:
            ConfigError: the donors are of another data set than `noise.donor`.
            DataError: the donor data set cannot be read.
        """
        if not len(record.replaced):
            self._donors = None
            return images
        donor = self._donor_source
        if donor and donor.name != record.donor_source:
            raise ConfigError(f"noise.donor: the record's donors are of {record.donor_source}, not of {donor.name}")
        offered, last = self._donor_images(), int(record.donor.max())
        self._donors = None  # none is needed again
        if last >= len(offered):
            raise ConfigError(f"noise.donor: the record uses image {last}, but the data set has {len(offered)}")
        images = images.clone()
        images[record.replaced] = conform(offered[record.donor], images.shape[1:])
        return images

    def _donor_images(self) -> Tensor:
        if self._donors is None:
            donor = self._donor_source
            if donor is None:
                raise ConfigError(_NO_DONOR)
            if not self._needs_donors:  # `prepare` did not fetch it
                donor.prepare()
            self._donors = donor.load("train").images
        return self._donors

    def prepare(self) -> None:
        """Fetch the donor data set if the function draws donors. A stored record may turn out to need none."""
        if self._donor_source and self._needs_donors:
            self._donor_source.prepare()

    def _arguments(self, supplies: Mapping[str, Any]) -> list[str]:
        """Return the names of the function's parameters with an argument in `supplies`."""
        parameters = inspect.signature(self.function).parameters
        function = getattr(self.function, "__name__", self.name)
        for key in self.options:
            if key not in parameters and key not in _NOT_FOR_THE_FUNCTION:
                raise ConfigError(f"noise.{key}: {function} has no such parameter; it has {', '.join(parameters)}")
        for name, parameter in parameters.items():
            named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if named and parameter.default is parameter.empty and name not in supplies:
                raise ConfigError(f"noise.{name}: {function} needs it; the known arguments are {', '.join(supplies)}")
        return [name for name in parameters if name in supplies]

    def _record(self, result: Any, true: Tensor, num_classes: int, donor: str | None) -> NoiseRecord:
        if isinstance(result, NoiseRecord):
            return result
        draws = "generator" in inspect.signature(self.function).parameters
        common: dict[str, Any] = {
            "true": true,
            "num_classes": num_classes,
            "name": self.name,
            "rate": self.rate,
            "seed": self.seed if draws else None,
            "options": self._stated_options(),
        }
        if isinstance(result, Tensor):
            return NoiseRecord(given=result, **common)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise ConfigError(
                f"noise: {self.name} must return noisy labels (N,) as a tensor, a pair of tensors (replaced, donor) or "
                f"a NoiseRecord, not {type(result).__name__}"
            )
        replaced, donors = result
        if donor is None:
            raise ConfigError(_NO_DONOR)
        return NoiseRecord(given=true, replaced=replaced, donor=donors, donor_source=donor, **common)

    def _stated_options(self) -> str | None:
        """The options that decide the noise as JSON, its file by a digest; without the donor. None: there are none."""
        stated = {k: v for k, v in self.options.items() if k not in _NOT_FOR_THE_FUNCTION and k not in _FILES}
        if "path" in self.options and (file := Path(self.options["path"])).is_file():
            stated["file"] = file_hashes(file.parent, [file.name], fresh=False)[file.name]
        return json.dumps(_plain(stated), sort_keys=True) if stated else None

    @property
    def _donor_source(self) -> Source | None:
        node = self.options.get("donor")
        return instantiate(for_class(node)) if node else None

    @property
    def _needs_donors(self) -> bool:
        return "num_donors" in inspect.signature(self.function).parameters


_NO_DONOR = "noise.donor: open-set noise needs a data set to take images from"

_NOT_FOR_THE_FUNCTION = ("donor", "clean_run", "like")
"""Keys of a noise YAML that slnlab reads, not the function."""

_FILES = ("path", "probabilities")


def _plain(value: Any) -> Any:
    """A value of a configuration as JSON has it, with texts as keys."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple | ListConfig) else value


def resolve_class_map(
    class_map: Mapping[Any, Any] | str, num_classes: int, classes: list[str] | None
) -> dict[int, int]:
    """Return a class map by number, from a map by name or number, or from `next` (c → c + 1 mod C).

    Raises:
        ConfigError: a class does not exist.
    """
    if class_map == "next":
        return next_class(num_classes)
    if isinstance(class_map, str):
        raise ConfigError(f"noise.class_map: {class_map!r} is neither `next` nor a mapping {{from: to}}")
    # A name wins over an equal number.
    numbers = {**{str(c): c for c in range(num_classes)}, **{name: c for c, name in enumerate(classes or [])}}
    try:
        return {numbers[str(source)]: numbers[str(target)] for source, target in class_map.items()}
    except KeyError as error:
        raise ConfigError(
            f"noise.class_map: there is no class {error.args[0]!r}; the classes are {quoted(numbers)}"
        ) from None


def conform(images: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Convert images (N, channels, H, W) uint8 to grey or colour, and to another size (bilinear with antialias).

    Args:
        images: the images.
        shape: wanted (channels, H, W).
    """
    channels, height, width = shape
    if images.shape[1] != channels:
        images = tv.rgb_to_grayscale(images) if channels == 1 else tv.grayscale_to_rgb(images)
    if images.shape[2:] != (height, width):
        images = tv.resize(images, [height, width], antialias=True)
    return images
