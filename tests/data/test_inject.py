"""Noise on the labels of a data set: class maps, a user's function, donors, and the noise of another run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import functional as tv1
from torchvision.transforms.v2 import functional as tv2

from slnlab.config import CONF_DIR, compose
from slnlab.data.inject import LabelNoise, conform, resolve_class_map
from slnlab.data.probabilities import load_probabilities, save_probabilities
from slnlab.data.source import LabelledImages
from slnlab.errors import ConfigError, DataError
from slnlab.noise import NoiseRecord, Replacement

HERE = __name__
N, C = 60, 5


def pictures(shape: tuple[int, ...] = (1, 6, 6), size: int = N, seed: int = 0) -> LabelledImages:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (size, *shape), dtype=torch.uint8, generator=generator)
    return LabelledImages(images, torch.randint(C, (size,), generator=generator))


class Donors:
    """A donor data set that remembers what was asked of any of its instances."""

    asked: tuple[str, ...] = ()

    def __init__(self, name: str = "donors", size: int = 40, shape: tuple[int, ...] = (1, 6, 6)) -> None:
        self.name, self.size, self.shape = name, size, tuple(shape)

    def prepare(self) -> None:
        Donors.asked += ("prepare",)

    def load(self, split: str) -> LabelledImages:
        assert split == "train"
        Donors.asked += ("load",)
        return pictures(self.shape, self.size, seed=1)


def as_an_array(labels: torch.Tensor) -> Any:
    return labels.numpy()


def as_nothing(labels: torch.Tensor) -> None:
    """Noise whose author has forgotten to return it."""


def from_the_global_torch(labels: torch.Tensor) -> torch.Tensor:
    return torch.randint_like(labels, C)


def from_the_global_numpy(labels: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.random.randint(0, C, len(labels)))  # noqa: NPY002


def seeds_itself(labels: torch.Tensor) -> torch.Tensor:
    np.random.seed(1)  # noqa: NPY002
    return torch.from_numpy(np.random.randint(0, C, len(labels)))  # noqa: NPY002


def from_an_unseeded_generator(labels: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng().integers(0, C, len(labels)))


class NoDonors(Donors):
    """A donor data set that cannot be had."""

    def prepare(self) -> None:
        raise DataError("the donors cannot be downloaded")

    def load(self, split: str) -> LabelledImages:
        raise DataError("the donors are missing")


@pytest.fixture(autouse=True)
def _nobody_asked_yet() -> None:
    Donors.asked = ()


DONOR = {"_target_": f"{HERE}.Donors"}


def node(function: str, rate: float = 0.4, seed: int = 0, **options: Any) -> dict[str, Any]:
    target = function if "." in function else f"slnlab.noise.{function}"
    return {"_target_": target, "name": "its name", "rate": rate, "seed": seed, **options}


def spoil(
    noise: dict[str, Any], data: LabelledImages | None = None, classes: list[str] | None = None
) -> tuple[LabelledImages, NoiseRecord]:
    made = LabelNoise.from_config(noise)
    made.prepare()
    return added(made, data or pictures(), C, classes)


def added(
    noise: LabelNoise, data: LabelledImages, num_classes: int, classes: list[str] | None = None
) -> tuple[LabelledImages, NoiseRecord]:
    record = noise.record(data.labels, num_classes, classes, images=lambda: data.images)
    return LabelledImages(noise.with_donors(data.images, record), record.given), record


# Class maps


def test_class_maps_by_name_number_and_rule() -> None:
    names = ["ant", "bee", "cow", "dog"]
    assert resolve_class_map({"bee": "ant", "cow": "dog"}, 4, names) == {1: 0, 2: 3}
    assert resolve_class_map({1: 0, "2": "3"}, 4, names) == {1: 0, 2: 3}
    assert resolve_class_map({1: "ant", "cow": 3}, 4, names) == {1: 0, 2: 3}
    assert resolve_class_map({1: 0}, 4, None) == {1: 0}
    assert resolve_class_map("next", 4, None) == {0: 1, 1: 2, 2: 3, 3: 0}
    # Classes that are named by numbers, but not by their own.
    assert resolve_class_map({"7": "1", 3: "5"}, 4, ["1", "3", "5", "7"]) == {3: 0, 1: 2}


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        ({"ant": "cat"}, "'cat'.*'ant', 'bee'"),
        ({"Ant": "bee"}, "'Ant'"),
        ({4: 0}, "'4'"),
        ({-1: 0}, "'-1'"),
        ("previous", "'previous'.*next"),
    ],
)
def test_an_unknown_class_is_named(class_map: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"noise\.class_map.*{message}"):
        resolve_class_map(class_map, 4, ["ant", "bee", "cow", "dog"])


CLASS_MAPS = {
    "cifar10": {9: 1, 2: 0, 4: 7, 3: 5, 5: 3},  # the paper, section 4
    "cifar100": {c: (c + 1) % 100 for c in range(100)},  # the paper, section 4
    "digits": {8: 3, 9: 4, 7: 1, 3: 5, 5: 3},
    # By Fashion-MNIST's published list: 0 t-shirt, 2 pullover, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 9 boot.
    "fashion_mnist": {6: 0, 2: 4, 4: 2, 5: 7, 9: 7},
}


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF_DIR / "data").glob("*.yaml")))
def test_every_data_set_has_a_class_map(name: str, data_set: Callable[[str], list[str]]) -> None:
    config = compose([*data_set(name), "noise=asym"])
    resolved = resolve_class_map(config.noise.class_map, config.data.num_classes, config.data.classes)
    assert all(0 <= c < config.data.num_classes for pair in resolved.items() for c in pair)
    assert all(source != target for source, target in resolved.items())
    if name in CLASS_MAPS:
        assert resolved == CLASS_MAPS[name]


def test_class_names_follow_the_data_sets_order() -> None:
    names = compose(["data=fashion_mnist"]).data.classes
    for ours, published in zip(names, datasets.FashionMNIST.classes, strict=True):
        assert ours in published.lower()
    alphabetical = compose(["data=cifar10"]).data.classes  # as CIFAR-10's batches.meta has them
    assert alphabetical == sorted(alphabetical)
    assert compose(["data=digits"]).data.classes == list("0123456789")


def test_a_class_map_reaches_the_noise() -> None:
    names = ["ant", "bee", "cow", "dog", "elk"]
    _, record = spoil(node("asymmetric", rate=0.9, class_map={"bee": "elk"}), classes=names)
    given = record.given[record.true == 1]
    assert set(given.tolist()) == {1, 4}
    assert torch.equal(record.given[record.true != 1], record.true[record.true != 1])


# A noise type of one's own: one function and one YAML


def shifted(labels: Tensor, rate: float, num_classes: int, generator: torch.Generator, shift: int) -> Tensor:
    """Each label moves by `shift` with probability `rate`."""
    flips = torch.rand(len(labels), generator=generator) < rate
    return torch.where(flips, (labels + shift) % num_classes, labels)


def in_place(labels: Tensor) -> Tensor:
    labels[:7] = (labels[:7] + 1) % C
    return labels


def by_brightness(images: Tensor, labels: Tensor, dark: int = 0) -> Tensor:
    return torch.where(images.float().mean((1, 2, 3)) < 127.5, dark, labels)


def swapped(labels: Tensor, num_donors: int, rate: float) -> tuple[Tensor, Tensor]:
    """Images replaced by hand: sample 5 by the last donor, sample 2 by the first."""
    return torch.tensor([5, 2]), torch.tensor([num_donors - 1, 0])


def swapped_unasked(labels: Tensor) -> Replacement:
    return Replacement(torch.tensor([3]), torch.tensor([4]))


def needs_temperature(labels: Tensor, temperature: float) -> Tensor:
    return labels


@pytest.mark.parametrize(
    ("class_map", "stated"),
    [("next", "next"), ({0: 1, "b": "c"}, {"0": 1, "b": "c"}), (OmegaConf.create({"a": "b"}), {"a": "b"})],
)
def test_a_record_states_the_options_of_its_noise(class_map: Any, stated: Any, tmp_path: Path) -> None:
    """Also the record of a run that reads it, by which the report tells one noise from another."""
    node = {"_target_": "slnlab.noise.asymmetric", "name": "asym", "rate": 0.4, "seed": 0, "class_map": class_map}
    _, record = added(LabelNoise.from_config(node), pictures(), C, list("abcde"))
    assert json.loads(record.options or "") == {"class_map": stated}
    record.save(tmp_path / "noise.npz")
    node = {"_target_": "slnlab.noise.from_record", "name": "run", "rate": 0.0, "seed": 0, "path": str(tmp_path)}
    _, again = added(LabelNoise.from_config(node), pictures(), C)
    assert again.options == record.options == record.summary()["options"]


def test_a_users_noise_function_gets_the_arguments_it_names() -> None:
    data = pictures()
    spoiled, record = spoil(node(f"{HERE}.shifted", rate=0.5, seed=3, shift=2), data)
    moved = (record.given - record.true) % C
    assert set(moved.tolist()) == {0, 2}
    assert 0.3 < record.realised_rate < 0.7
    assert torch.equal(record.true, data.labels)
    assert torch.equal(spoiled.labels, record.given)
    assert torch.equal(spoiled.images, data.images)
    assert (record.name, record.rate, record.seed, record.num_classes) == ("its name", 0.5, 3, C)
    # The stream is of noise.seed.
    assert torch.equal(spoil(node(f"{HERE}.shifted", rate=0.5, seed=3, shift=2))[1].given, record.given)
    assert not torch.equal(spoil(node(f"{HERE}.shifted", rate=0.5, seed=4, shift=2))[1].given, record.given)


@pytest.mark.parametrize("function", ["from_the_global_torch", "from_the_global_numpy", "from_an_unseeded_generator"])
def test_noise_that_no_seed_repeats_is_refused(function: str) -> None:
    """Each run of a sweep would have other labels."""
    with pytest.raises(ConfigError, match=r"noise: its name returns other labels when it is called again, so that"):
        spoil(node(f"{HERE}.{function}"))


def test_noise_may_seed_a_global_generator_itself() -> None:
    first, second = (spoil(node(f"{HERE}.seeds_itself"))[1] for _ in range(2))
    assert torch.equal(first.given, second.given)


@pytest.mark.parametrize("function", ["as_an_array", "as_nothing"])
def test_a_users_noise_function_that_returns_something_else_is_refused(function: str) -> None:
    with pytest.raises(ConfigError, match=r"noise: its name must return noisy labels .* not (ndarray|NoneType)"):
        spoil(node(f"{HERE}.{function}"))


def test_a_users_noise_function_can_read_the_images() -> None:
    data = pictures()
    _, record = spoil(node(f"{HERE}.by_brightness", rate=0.0, dark=4), data)
    dark = torch.from_numpy(data.images.numpy().mean((1, 2, 3)) < 127.5)
    assert 0 < int(dark.sum()) < N
    assert record.given[dark].tolist() == [4] * int(dark.sum())
    assert torch.equal(record.given[~dark], data.labels[~dark])


def test_a_noise_function_cannot_edit_the_true_labels() -> None:
    data = pictures()
    before = data.labels.clone()
    _, record = spoil(node(f"{HERE}.in_place"), data)
    assert torch.equal(data.labels, before)
    assert torch.equal(record.true, before)
    assert record.wrong.nonzero().flatten().tolist() == list(range(7))


def test_a_users_noise_function_can_replace_images() -> None:
    data, donors = pictures(), Donors().load("train").images
    before = data.images.clone()
    spoiled, record = spoil(node(f"{HERE}.swapped", donor=DONOR), data)
    expected = before.clone()
    expected[5], expected[2] = donors[39], donors[0]
    assert torch.equal(spoiled.images, expected)
    assert torch.equal(data.images, before)  # the source's own images are left alone
    assert torch.equal(spoiled.labels, data.labels)
    assert record.wrong.nonzero().flatten().tolist() == [2, 5]
    assert record.donor_source == "donors"
    spoiled, _ = spoil(node(f"{HERE}.swapped_unasked", donor=DONOR), data)
    assert torch.equal(spoiled.images[3], donors[4])


def test_a_key_unknown_to_the_noise_function_is_refused() -> None:
    """A typo in one's own YAML must not be a silent default."""
    with pytest.raises(ConfigError, match=r"noise\.drak: by_brightness has no such parameter.*dark"):
        spoil(node(f"{HERE}.by_brightness", drak=4))


def test_a_missing_argument_of_a_noise_function_is_named() -> None:
    with pytest.raises(ConfigError, match=r"noise\.temperature: needs_temperature needs it"):
        spoil(node(f"{HERE}.needs_temperature"))
    with pytest.raises(ConfigError, match=r"noise\.class_map"):
        spoil(node("asymmetric"))


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF_DIR / "noise").glob("*.yaml")))
def test_every_noise_option_has_only_keys_of_its_function(name: str, tmp_path: Path) -> None:
    """On the digits' shape, with files where a noise type reads one."""
    generator = torch.Generator().manual_seed(0)
    data = LabelledImages(
        torch.randint(256, (50, 1, 8, 8), dtype=torch.uint8, generator=generator), torch.arange(10).repeat(5)
    )
    save_probabilities(tmp_path / "p.npz", torch.rand(50, 10, generator=generator).softmax(1), data.labels)
    (tmp_path / "labels.csv").write_text("label,label_noisy\n" + "".join(f"{y},{(y + 1) % 10}\n" for y in data.labels))
    (tmp_path / "matrix.csv").write_text("\n".join(",".join(["0.1"] * 10) for _ in range(10)))
    y = data.labels.numpy()
    torch.save({"clean_label": y, "worse_label": (y + 1) % 10}, tmp_path / "human.pt")
    NoiseRecord(true=data.labels, given=data.labels, num_classes=10, name="none", rate=0.0).save(tmp_path / "noise.npz")
    extra = {
        "dependent": [f"noise.probabilities={tmp_path / 'p.npz'}"],
        "csv": [f"noise.path={tmp_path / 'labels.csv'}"],
        "human": [f"noise.path={tmp_path / 'human.pt'}", "noise.annotation=worse"],
        "run": [f"noise.path={tmp_path}"],
        "transition": [f"noise.path={tmp_path / 'matrix.csv'}"],
    }
    config = compose([f"noise={name}", *extra.get(name, [])])
    made = LabelNoise.from_config(OmegaConf.to_container(config.noise, resolve=True))  # type: ignore[arg-type]
    made.prepare()
    spoiled, record = added(made, data, 10, config.data.classes)
    assert record.num_samples == 50
    assert torch.equal(spoiled.labels, record.given)
    if name in ("sym", "asym", "part_dependent", "dependent", "open_set", "csv", "human", "transition"):
        assert 0 < record.realised_rate <= 1
    if name in ("dependent", "open_set"):
        assert int(record.wrong.sum()) == int(0.4 * 50)


# Donors


def test_open_set_without_donors_is_refused() -> None:
    for noise in (node("open_set"), node("open_set", donor=None), node(f"{HERE}.swapped_unasked")):
        with pytest.raises(ConfigError, match=r"noise\.donor"):
            spoil(noise)


def test_donors_are_converted_to_the_data_sets_shape() -> None:
    donor = {**DONOR, "shape": [3, 12, 10]}
    spoiled, record = spoil(node("open_set", rate=0.5, donor=donor))
    assert spoiled.images.shape == (N, 1, 6, 6)
    assert spoiled.images.dtype == torch.uint8
    theirs = Donors(shape=(3, 12, 10)).load("train").images
    for row, donor_row in zip(record.replaced.tolist(), record.donor.tolist(), strict=True):
        alone = tv2.resize(tv2.rgb_to_grayscale(theirs[donor_row]), [6, 6], antialias=True)
        assert torch.equal(spoiled.images[row], alone)


def pil(image: Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((3, 8, 6), (1, 8, 6)),
        ((1, 8, 6), (3, 8, 6)),
        ((3, 32, 32), (3, 8, 8)),
        ((1, 8, 8), (1, 28, 28)),
        ((3, 32, 20), (1, 28, 28)),
        ((1, 28, 28), (3, 32, 20)),
        ((3, 5, 7), (3, 5, 7)),
    ],
)
def test_conform_equals_pillows_conversion(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Smooth images, as photographs are; Pillow rounds between its two passes, so two grey values may be lost."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(256, (5, shape[0], 3, 3), dtype=torch.uint8, generator=generator)
    images = tv1.resize(coarse, list(shape[1:]))
    made = conform(images, wanted)
    assert made.dtype == torch.uint8
    assert made.shape == (5, *wanted)
    for image, converted in zip(images, made, strict=True):
        expected = pil(image).convert("L" if wanted[0] == 1 else "RGB")
        if shape[1:] != wanted[1:]:
            expected = expected.resize((wanted[2], wanted[1]), Image.Resampling.BILINEAR)
        array = np.asarray(expected).reshape(wanted[1], wanted[2], wanted[0]).transpose(2, 0, 1)
        assert np.abs(array.astype(int) - converted.numpy().astype(int)).max() <= 2


def test_conform_leaves_matching_images_unchanged() -> None:
    images = pictures().images
    assert torch.equal(conform(images, (1, 6, 6)), images)
    colour = conform(images, (3, 6, 6))
    assert torch.equal(colour, images.expand(-1, 3, -1, -1))
    red = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    red[0, 0] = 200
    assert abs(int(conform(red, (1, 1, 1))) - 0.299 * 200) <= 1


# Class probabilities


LABELS = torch.tensor([0, 1, 2, 1])
MATRIX = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5], [0.0, 0.5, 0.5]])


def test_saved_probabilities_load_unchanged(tmp_path: Path) -> None:
    save_probabilities(tmp_path / "p.npz", MATRIX.double(), LABELS)
    loaded = load_probabilities(tmp_path / "p.npz", LABELS, 3)
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, MATRIX)
    assert [file.name for file in tmp_path.iterdir()] == ["p.npz"]
    # Anyone's file: no labels, and another precision.
    np.savez(tmp_path / "theirs.npz", probabilities=MATRIX.numpy().astype(np.float64))
    theirs = load_probabilities(str(tmp_path / "theirs.npz"), LABELS, 3)
    assert theirs.dtype == torch.float32
    assert torch.equal(theirs, MATRIX)


def test_unusable_probabilities_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"

    def refused(message: str, labels: Tensor = LABELS, num_classes: int = 3) -> None:
        with pytest.raises(DataError, match=message) as caught:
            load_probabilities(path, labels, num_classes)
        assert str(path) in str(caught.value)

    refused("there is no file")
    save_probabilities(path, MATRIX, LABELS)
    whole = path.read_bytes()
    refused("other labels", labels=torch.tensor([0, 1, 2, 2]))
    refused(r"\(4, 3\).*\(5, 3\)", labels=torch.tensor([0, 1, 2, 1, 0]))
    refused(r"\(4, 3\).*\(4, 4\)", num_classes=4)
    for end in (len(whole) - 1, len(whole) // 2, 10, 0):
        path.write_bytes(whole[:end])
        refused("cannot be read")
    path.write_bytes(b"no archive at all")
    refused("cannot be read")
    np.savez(path, something=MATRIX.numpy())
    refused("cannot be read")
    np.savez(path, probabilities=np.array([{"a": "pickle"}], dtype=object))
    refused("cannot be read")
    with pytest.raises(ConfigError, match=r"noise\.probabilities"):
        load_probabilities(None, LABELS, 3)


def test_probabilities_reach_the_noise_function(tmp_path: Path) -> None:
    """Rate ½ of four samples: the two whose other class is likeliest, .5 (row 3) and .3 (row 1)."""
    save_probabilities(tmp_path / "p.npz", MATRIX, LABELS)
    data = LabelledImages(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), LABELS)
    noise = node("instance_dependent", rate=0.5, probabilities=str(tmp_path / "p.npz"), clean_run=["model=cnn"])
    _, record = added(LabelNoise.from_config(noise), data, 3)
    assert record.given.tolist() == [0, 2, 2, 2]


# The noise of another run


CLOSED = node("symmetric")
OPEN = node("open_set", donor={**DONOR, "shape": [3, 9, 9]})


@pytest.mark.parametrize("noise", [CLOSED, OPEN], ids=["closed", "open"])
@pytest.mark.parametrize("place", ["", "noise.npz"], ids=["directory", "file"])
def test_the_noise_of_another_run_makes_the_same_data(noise: dict[str, Any], place: str, tmp_path: Path) -> None:
    theirs, record = spoil(noise)
    record.save(tmp_path / "noise.npz")
    ours, again = spoil(node("from_record", rate=0.0, seed=9, path=str(tmp_path / place), donor=noise.get("donor")))
    assert again.hash == record.hash
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.labels, theirs.labels)
    assert torch.equal(again.true, record.true)
    assert torch.equal(again.wrong, record.wrong)
    # Who made it stays on the record.
    assert (again.name, again.rate, again.seed) == (record.name, record.rate, record.seed)
    assert int(again.wrong.sum()) > 10


def test_a_record_without_replaced_images_needs_no_donors(tmp_path: Path) -> None:
    """CIFAR-10's donor is CIFAR-100: nobody shall need it for symmetric noise."""
    _, record = spoil(CLOSED)
    record.save(tmp_path / "noise.npz")
    _, again = spoil(node("from_record", path=str(tmp_path), donor={"_target_": f"{HERE}.NoDonors"}))
    assert again.hash == record.hash
    _, record = spoil(OPEN)
    record.save(tmp_path / "noise.npz")
    with pytest.raises(DataError, match="the donors"):
        spoil(node("from_record", path=str(tmp_path), donor={"_target_": f"{HERE}.NoDonors"}))


def test_donors_are_prepared_before_they_are_read(tmp_path: Path) -> None:
    _, record = spoil(OPEN)
    assert Donors.asked == ("prepare", "load")
    record.save(tmp_path / "noise.npz")
    Donors.asked = ()
    spoil(node("from_record", path=str(tmp_path), donor=OPEN["donor"]))
    assert Donors.asked == ("prepare", "load")


@pytest.mark.parametrize(
    ("donor", "message"),
    [
        (None, r"noise\.donor.*needs a data set"),
        ({**DONOR, "name": "others"}, r"noise\.donor.*of donors, not of others"),
        ({**DONOR, "size": 10}, r"noise\.donor.*data set has 10"),
    ],
)
def test_donors_other_than_the_records_are_refused(donor: Any, message: str, tmp_path: Path) -> None:
    _, record = spoil(OPEN)
    record.save(tmp_path / "noise.npz")
    with pytest.raises(ConfigError, match=message):
        spoil(node("from_record", path=str(tmp_path), donor=donor))


def test_the_record_of_other_data_is_refused(tmp_path: Path) -> None:
    _, record = spoil(CLOSED)
    record.save(tmp_path / "noise.npz")
    noise = node("from_record", path=str(tmp_path))
    other = pictures()
    other.labels[17] = (other.labels[17] + 1) % C
    other.labels[40] = (other.labels[40] + 1) % C
    with pytest.raises(
        DataError, match=rf"sample 17 .* {int(record.true[17])} in the record and {other.labels[17]} in"
    ):
        spoil(noise, other)
    record.first(59).save(tmp_path / "noise.npz")
    with pytest.raises(DataError, match="has 59 samples, the data have 60"):
        spoil(noise)


@pytest.mark.parametrize("noise", [CLOSED, OPEN], ids=["closed", "open"])
def test_a_run_on_fewer_samples_has_the_noise_of_the_first(noise: dict[str, Any], tmp_path: Path) -> None:
    theirs, record = spoil(noise)
    record.save(tmp_path / "noise.npz")
    first = LabelledImages(*(column[:40] for column in pictures()))
    ours, again = spoil(node("from_record", path=str(tmp_path), donor=noise.get("donor")), first)
    assert torch.equal(ours.images, theirs.images[:40])
    assert torch.equal(ours.labels, theirs.labels[:40])
    assert torch.equal(again.wrong, record.wrong[:40])
    assert again.wrong.any()


def test_a_missing_or_broken_record_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "nowhere" / "noise.npz"):
        with pytest.raises(DataError, match=str(path)):
            spoil(node("from_record", path=str(path)))
    (tmp_path / "noise.npz").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(DataError, match=str(tmp_path / "noise.npz")):
        spoil(node("from_record", path=str(tmp_path)))
