"""Folders that are splits or classes, and files that are images."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from folders import composed, put
from omegaconf import OmegaConf
from PIL import Image

from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.errors import ConfigError, DataError
from slnlab.image_folder.listing import read_image_folder


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "' is no folder"),
        (["train/cat/1.png"], "/train: needs a folder for each class, at least 2, and has 1"),
        (["test/cat/1.png", "test/dog/1.png"], " has test/ but no train/"),
        (
            ["train/cat/1.png", "train/dog/1.png", "val/bird/1.png"],
            "/val: 'bird' is no class of .*train, which has 2: 'cat', 'dog'",
        ),
        (["train/cat/1.png", "train/dog/1.txt.png", "test/.x/1.png"], "/test: has no folder of a class"),
        (
            ["train/1.png", "test/1.png"],
            ": 'train', 'test' are names of splits, and images lie directly in them; each needs",
        ),
        (["train/cat/1.png", "train/dog/1.png", "test/1.png"], "/test: has images, but no folders of classes"),
        (["train/cat/1.png", "Training/cat/1.png"], ": '[tT]rain.*', '[tT]rain.*' are names of one split"),
        (["train/cat/1.png", "train/dog/1.png", "holdout/cat/1.png"], ": beside train/ 'holdout' with images is no"),
        (["training_set/cat/1.png", "test_set/cat/1.png"], ": 'test_set', 'training_set' look like splits"),
        (["photos/cat/1.png", "photos/dog/1.png"], ": needs .* at least 2, and has 1; did you mean .*photos"),
        (["val/a/1.png", "cat/1.png", "dog/1.png"], " has val/ but no train/. If it is a class, put all classes into"),
        (["a/1.png", "b/1.png", "b /1.png"], ": the folders 'b ' and 'b' have one name but for its encoding or blanks"),
        (["train/A/1.png", "train/a/1.png", "test/ä/1.png"], "/test: 'ä' is no class"),
    ],
)
def test_unusable_folders_are_refused_at_composition(tmp_path: Path, names: list[str], message: str) -> None:
    put(tmp_path / "images", *names)
    where = f"(data.source.root: )?'?{tmp_path}/images"
    with pytest.raises(ConfigError, match=f"^{where}{message}"):
        container_of(compose(composed(tmp_path / "images")))


def test_classes_without_images_are_named(folder: Path) -> None:
    for name in ("owl", "rat"):
        (folder / "train" / name).mkdir()
        (folder / "train" / name / "1.heic").write_text("of a phone")
    with pytest.raises(DataError, match=r"train: has no image of 'owl', 'rat' \(only files 2 \.heic\); put some there"):
        read_image_folder(str(folder))


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("training", "validation", "testing"),
        ("Train", "Val", "Test"),
        ("TRAIN", "valid", "test"),
        ("train", "dev", "x"),
    ],
)
def test_the_usual_names_of_splits_are_understood(tmp_path: Path, train: str, val: str, test: str) -> None:
    names = [f"{split}/{kind}/1.png" for split in (train, val) for kind in ("cat", "dog")]
    if test == "x":
        (tmp_path / "images" / test).mkdir(parents=True)  # without images it may be anything
    else:
        names.append(f"{test}/dog/1.png")
    contents = read_image_folder(str(put(tmp_path / "images", *names)))
    assert contents.classes == ["cat", "dog"]
    expected = {"train": 2, "val_clean": 2, "test": 0 if test == "x" else 1}
    assert {split: len(listing.paths) for split, listing in contents.splits.items()} == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("trainset/cat", "trainset/dog", "TestSet/cat", "TestSet/dog"), "'TestSet', 'trainset' look like splits"),
        (("fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"), "'fold1', 'fold2' look like splits"),
        (("train_data/cat", "train_data/dog", "holdout/cat", "holdout/dog"), "look like splits"),
        (
            ("cat/train", "cat/test", "dog/train", "dog/test"),
            "hold folders of splits .'test', 'train'.; put",
        ),
    ],
)
def test_split_like_names_are_not_taken_for_classes(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    put(tmp_path, *(f"{name}/{number}.png" for name in names for number in (1, 2)))
    with pytest.raises(DataError, match=message):
        read_image_folder(str(tmp_path))


def test_subfolders_of_classes_are_no_splits(tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}/{year}/1.png" for name in ("cat", "dog") for year in (2025, 2026)))
    assert read_image_folder(str(tmp_path)).classes == ["cat", "dog"]


def test_ignored_files_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "dog/1.png", "cat/.secret/1.png")
    (tmp_path / "dog" / "1.CR2").write_bytes(b"II*\0 a thumbnail is first")
    assert read_image_folder(str(tmp_path)).left_out == {"hidden": 1, ".cr2": 1}


def test_a_class_name_that_reads_as_an_interpolation_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "${seed}/1.png", "dog/1.png")
    with pytest.raises(DataError, match=r"'\$\{' in the name of a class"):
        read_image_folder(str(tmp_path))


@pytest.mark.parametrize("names", [("train", "car", "bus"), ("test", "control"), ("dev", "val", "prod")])
def test_a_class_can_be_named_like_a_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    """CIFAR-100 has the class train."""
    contents = read_image_folder(str(put(tmp_path / "images", *(f"{name}/1.png" for name in names))))
    assert contents.classes == sorted(names)
    inside = read_image_folder(str(put(tmp_path / "split", *(f"train/{name}/1.png" for name in names))))
    assert inside.classes == sorted(names)


def test_images_without_a_suffix_are_recognised_by_content(tmp_path: Path) -> None:
    root = put(tmp_path / "images", "cat/1.png", "dog/1.png")
    kinds = {"1": "PNG", "2": "JPEG", "3.gif": "GIF", "4.jfif": "JPEG", "5.jpe": "JPEG", "6.avif": "AVIF"}
    kinds |= {"7.PNG~": "PNG", "8.image": "WEBP", "9": "BMP", "10": "TIFF", "11": "PPM", "12": "AVIF", "13": "GIF"}
    kinds["14"] = "JPEG2000"
    for name, kind in kinds.items():
        Image.new("RGB", (16, 16)).save(root / "cat" / name, format=kind)
    for name in ("notes", "page.html", "a.txt", "b.txt", "empty"):
        (root / "dog" / name).write_text("BMW, P5 and others" if name != "empty" else "")
    os.mkfifo(root / "dog" / "pipe.png")
    contents = read_image_folder(str(root))
    assert contents.splits["train"].labels.count(0) == 1 + len(kinds)
    assert contents.splits["train"].labels.count(1) == 1
    assert contents.left_out == {"without a suffix": 2, ".html": 1, ".txt": 2, "no regular file": 1}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")),
        (unicodedata.normalize("NFD", "café"), unicodedata.normalize("NFC", "café")),
        ("cat", "cat "),
        (" cat", "Cat"),
        ("Straße", "STRASSE"),
    ],
)
def test_class_names_equal_in_unicode_are_one_class(tmp_path: Path, train: str, test: str) -> None:
    root = put(tmp_path / "images", f"train/{train}/1.png", "train/dog/1.png", f"test/{test}/1.png", "test/dog/1.png")
    contents = read_image_folder(str(root))
    assert unicodedata.normalize("NFC", train).strip() in contents.classes
    assert sorted(contents.splits["test"].labels) == [0, 1]


def test_an_ambiguous_class_name_is_refused(tmp_path: Path) -> None:
    root = put(tmp_path / "images", "train/A/1.png", "train/a/1.png", "test/a /1.png")
    assert read_image_folder(str(root)).remarks == [
        "the classes 'A', 'a' differ by case only",
        "test/ has no image of 'A'",
    ]
    put(root, "test/a/1.png")
    with pytest.raises(DataError, match=r"test: 'a ' and 'a' are both the class 'a'|test: 'a' and 'a ' are both"):
        read_image_folder(str(root))


def test_a_class_name_outside_utf8_can_be_written(folder: Path) -> None:
    name = os.fsdecode("café".encode("latin-1"))
    put(folder, f"train/{name}/1.png", f"test/{name}/1.png")
    contents = read_image_folder(str(folder))
    assert contents.classes[0] == "caf\\udce9"
    OmegaConf.to_yaml(compose(composed(folder)), resolve=True).encode()


def test_a_thousand_classes_are_not_listed(tmp_path: Path) -> None:
    root = tmp_path / "images"
    put(root, *(f"train/class_{n:04d}/1.png" for n in range(300)), "test/klass_0007/1.png")
    with pytest.raises(
        DataError, match=r"'klass_0007' is no class .*mean 'class_0007'\?.* 300: .* and 292 more$"
    ) as told:
        read_image_folder(str(root))
    assert len(str(told.value)) < 500
    shutil.rmtree(root / "test")
    with pytest.raises(ConfigError, match="no class 'x'") as told_too:
        check(compose(composed(root, "noise=asym", "noise.class_map={x: class_0001}")))
    assert len(str(told_too.value)) < 500
