"""The data sets: exact pixels, and one kind of error for faults of their files."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import resource
import struct
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.datasets import load_digits, load_sample_images
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision import datasets

from slnlab.config import CONF_DIR
from slnlab.data import fashion_mnist
from slnlab.data.cifar import CIFAR
from slnlab.data.digits import Digits
from slnlab.data.fashion_mnist import FashionMNIST
from slnlab.data.photo_patches import PhotoPatches
from slnlab.data.source import LabelledImages
from slnlab.errors import ConfigError, DataError

Array = np.ndarray[Any, np.dtype[np.uint8]]
PACKAGE = Path("/usr/share/datasets/fashion-mnist")
SPLITS: tuple[Literal["train"], Literal["test"]] = ("train", "test")


def random_bytes(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# Digits


def test_digits_are_split_as_sklearn_splits_them() -> None:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=500, stratify=y, random_state=0)
    # 16 grey values, v · 255/16 rounded; the one tie (8 → 127.5) goes up.
    grey = np.array([0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255], dtype=np.uint8)
    for split, pixels, labels in (("train", x_train, y_train), ("test", x_test, y_test)):
        loaded = Digits().load(split)  # type: ignore[arg-type]
        assert loaded.images.dtype == torch.uint8
        assert loaded.labels.dtype == torch.int64
        assert loaded.images.shape == (len(labels), 1, 8, 8)
        assert np.array_equal(loaded.images.numpy(), grey[pixels.astype(int)].reshape(-1, 1, 8, 8))
        assert loaded.labels.tolist() == labels.tolist()


def test_digits_train_and_test_are_disjoint_and_complete() -> None:
    pictures = [
        Counter((image.numpy().tobytes(), int(label)) for image, label in zip(*Digits().load(split), strict=True))
        for split in SPLITS
    ]
    x, y = load_digits(return_X_y=True)
    everything = Counter(
        (np.floor(pixels * 255 / 16 + 0.5).astype(np.uint8).tobytes(), int(label))
        for pixels, label in zip(x, y, strict=True)
    )
    assert [split.total() for split in pictures] == [1297, 500]
    assert pictures[0] + pictures[1] == everything
    assert not pictures[0] & pictures[1]


def test_digits_are_stratified() -> None:
    share = np.bincount(load_digits().target) / 1797
    for split, size in (("train", 1297), ("test", 500)):
        counts = torch.bincount(Digits().load(split).labels).numpy()  # type: ignore[arg-type]
        assert np.abs(counts - size * share).max() < 1


@pytest.mark.parametrize(("name", "load"), [("digits", lambda: Digits().load("train").images)])
def test_configured_mean_and_std_are_those_of_the_training_images(name: str, load: Callable[[], Tensor]) -> None:
    configured = OmegaConf.load(CONF_DIR / "data" / f"{name}.yaml").data
    pixels = load().double() / 255
    assert configured.mean == [pytest.approx(float(pixels.mean()), abs=5.1e-5)]
    assert configured.std == [pytest.approx(float(pixels.std(correction=0)), abs=5.1e-5)]


# Photo patches


def test_photo_patches_by_hand() -> None:
    patches = PhotoPatches().load("train")
    assert patches.images.shape == (2080, 1, 8, 8)
    assert patches.images.dtype == torch.uint8
    assert patches.labels.tolist() == [0] * 2080
    photos = load_sample_images().images
    # 26 rows of 40 patches a photograph, each patch 16×16 pixels of it.
    for photo, row, column in ((0, 0, 0), (0, 0, 39), (0, 25, 3), (0, 13, 17), (1, 0, 1), (1, 25, 39)):
        patch = patches.images[photo * 1040 + row * 40 + column, 0]
        for y in range(8):
            for x in range(8):
                red, green, blue = (
                    sum(
                        float(photos[photo][16 * row + 2 * y + dy, 16 * column + 2 * x + dx, channel])
                        for dy in (0, 1)
                        for dx in (0, 1)
                    )
                    / 4
                    for channel in range(3)
                )
                # Rounding may tie: half a grey value, and a little for the order of summation.
                assert abs(int(patch[y, x]) - (0.299 * red + 0.587 * green + 0.114 * blue)) <= 0.5 + 1e-9


# Fashion-MNIST


def idx(values: Array) -> bytes:
    """The IDX format: two zeros, the type (8: unsigned byte), the number of dimensions, sizes, values."""
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


FASHION = {
    "train-images-idx3-ubyte": random_bytes(12, 28, 28),
    "train-labels-idx1-ubyte": np.array([9, 0, 0, 3, 2, 7, 2, 5, 5, 0, 1, 8], dtype=np.uint8),
    "t10k-images-idx3-ubyte": random_bytes(5, 28, 28, seed=1),
    "t10k-labels-idx1-ubyte": np.array([4, 4, 1, 0, 9], dtype=np.uint8),
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Debian's package, with small contents."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr(fashion_mnist, "DEBIAN_PACKAGE", folder)
    for name, values in FASHION.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
    return folder


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root that holds the unpacked files, and no package."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN_PACKAGE", tmp_path / "no package")
    root = tmp_path / "root"
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, values in FASHION.items():
        (raw / name).write_bytes(idx(values))
    return root


def holds_fashion(source: FashionMNIST) -> None:
    for split, stem in (("train", "train"), ("test", "t10k")):
        loaded = source.load(split)  # type: ignore[arg-type]
        assert loaded.images.dtype == torch.uint8
        assert loaded.labels.dtype == torch.int64
        assert np.array_equal(loaded.images.numpy()[:, 0], FASHION[f"{stem}-images-idx3-ubyte"])
        assert loaded.images.shape[1] == 1
        assert loaded.labels.tolist() == FASHION[f"{stem}-labels-idx1-ubyte"].tolist()


def test_fashion_mnist_from_debians_package(package: Path, tmp_path: Path) -> None:
    source = FashionMNIST(str(tmp_path / "new" / "root"), download=False)
    source.prepare()
    holds_fashion(source)
    # Unpacked once: it serves without the package, and preparing again leaves the files alone.
    raw = tmp_path / "new" / "root" / "FashionMNIST" / "raw"
    assert sorted(file.name for file in raw.iterdir()) == sorted(FASHION)
    before = {file: file.stat().st_mtime_ns for file in raw.iterdir()}
    source.prepare()
    assert {file: file.stat().st_mtime_ns for file in raw.iterdir()} == before
    for file in package.iterdir():
        file.unlink()
    source.prepare()
    holds_fashion(source)


@pytest.mark.parametrize("download", [False, True])
def test_fashion_mnist_from_a_plain_root(plain: Path, download: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched when the files are there."""
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("the network was asked"))
    source = FashionMNIST(str(plain), download=download)
    source.prepare()
    holds_fashion(source)


def test_a_root_below_the_home_directory(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    source = FashionMNIST("~/data", download=False)
    source.prepare()
    holds_fashion(source)
    assert (tmp_path / "home" / "data" / "FashionMNIST" / "raw").is_dir()
    assert not (tmp_path / "~").exists()


@contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """No file may grow beyond `largest` bytes: writing more fails in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_interrupted_unpacking_leaves_no_partial_file(package: Path, tmp_path: Path) -> None:
    source = FashionMNIST(str(tmp_path / "root"), download=False)
    raw = tmp_path / "root" / "FashionMNIST" / "raw"
    with full_disk(1000), pytest.raises(DataError, match=str(raw)):
        source.prepare()
    # Labels are small enough to be there; images are there whole or not at all.
    assert all(file.read_bytes() == idx(FASHION[file.name]) for file in raw.iterdir())
    assert not (raw / "train-images-idx3-ubyte").exists()
    source.prepare()
    holds_fashion(source)


def test_a_truncated_package_is_named_and_leaves_no_partial_file(package: Path, tmp_path: Path) -> None:
    packed = package / "train-images-idx3-ubyte.gz"
    whole = packed.read_bytes()
    source = FashionMNIST(str(tmp_path / "root"), download=False)
    for broken in (whole[:-100], whole[:100] + b"????" + whole[104:], b"no gzip", b""):
        packed.write_bytes(broken)
        with pytest.raises(DataError, match=str(package)):
            source.prepare()
        assert not (tmp_path / "root" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").exists()
    packed.write_bytes(whole)
    source.prepare()
    holds_fashion(source)


BROKEN_IDX: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[:-1],
    "too long": lambda content: content + b"\0",
    "header only": lambda content: content[:8],
    "empty": lambda content: b"",
    "another type": lambda content: b"\0\0\x0d" + content[3:],
    "no idx": lambda content: b"<html>" + content[6:],
}


@pytest.mark.parametrize("kind", BROKEN_IDX)
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_a_broken_idx_file_is_refused(plain: Path, kind: str, name: str) -> None:
    file = plain / "FashionMNIST" / "raw" / name
    file.write_bytes(BROKEN_IDX[kind](file.read_bytes()))
    source = FashionMNIST(str(plain), download=False)
    for attempt in (source.prepare, lambda: source.load("train")):
        with pytest.raises(DataError) as caught:
            attempt()
        assert str(plain) in str(caught.value)
        assert "data.source.root" in str(caught.value)


@pytest.mark.parametrize("name", FASHION)
def test_a_missing_idx_file_is_refused(plain: Path, name: str) -> None:
    (plain / "FashionMNIST" / "raw" / name).unlink()
    with pytest.raises(DataError) as caught:
        FashionMNIST(str(plain), download=False).prepare()
    assert str(plain) in str(caught.value)
    assert "data.source.download=true" in str(caught.value)


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist_loads(tmp_path: Path) -> None:
    source = FashionMNIST(str(tmp_path), download=False)
    source.prepare()
    train, test = source.load("train"), source.load("test")
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    assert torch.bincount(train.labels).tolist() == [6000] * 10
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    # From the histogram of bytes, so that no copy in floats is needed.
    counts = torch.bincount(train.images.flatten(), minlength=256).double()
    values = torch.arange(256).double() / 255
    mean = float((counts * values).sum() / counts.sum())
    std = float((counts * (values - mean) ** 2).sum() / counts.sum()) ** 0.5
    assert (round(mean, 4), round(std, 4)) == (0.2860, 0.3530)
    configured = OmegaConf.load(CONF_DIR / "data" / "fashion_mnist.yaml").data
    assert (configured.mean, configured.std) == ([0.2860], [0.3530])
    assert (configured.num_train, configured.num_classes, configured.channels) == (60_000, 10, 1)


# CIFAR


def cifar_files(classes: int) -> dict[str, dict[str, Any]]:
    """File → content, as published: pixels as rows of 3,072 bytes, 1,024 of each colour."""
    if classes == 10:
        names = [f"data_batch_{number}" for number in range(1, 6)]
        batches: dict[str, dict[str, Any]] = {
            name: {
                "batch_label": f"training batch {number} of 5",
                "labels": [number, 9, 0],
                "data": random_bytes(3, 3072, seed=number),
                "filenames": ["a.png", "b.png", "c.png"],
            }
            for number, name in enumerate(names)
        }
        batches["test_batch"] = {"labels": [7, 8], "data": random_bytes(2, 3072, seed=9), "filenames": ["d.png"] * 2}
        return {**batches, "batches.meta": {"label_names": [f"class {c}" for c in range(10)], "num_vis": 3072}}
    return {
        "train": {"fine_labels": [99, 0, 50, 7], "coarse_labels": [19, 1, 2, 3], "data": random_bytes(4, 3072)},
        "test": {"fine_labels": [42, 1], "coarse_labels": [5, 6], "data": random_bytes(2, 3072, seed=1)},
        "meta": {"fine_label_names": [f"class {c}" for c in range(100)], "coarse_label_names": ["kind"] * 20},
    }


FOLDERS = {10: "cifar-10-batches-py", 100: "cifar-100-python"}
Classes = Literal[10, 100]
both = pytest.mark.parametrize("classes", [10, 100])


@pytest.fixture
def cifar_root(classes: Classes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small contents in the published files, with their checksums in the place of the published ones."""
    folder = tmp_path / "root" / FOLDERS[classes]
    folder.mkdir(parents=True)
    for name, content in cifar_files(classes).items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    trust(folder, classes, monkeypatch)
    return tmp_path / "root"


def trust(folder: Path, classes: Classes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make torchvision believe that the files in `folder` are the published ones."""
    reader = datasets.CIFAR10 if classes == 10 else datasets.CIFAR100

    def md5(name: str) -> str:
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for files in ("train_list", "test_list"):
        monkeypatch.setattr(reader, files, [[name, md5(name)] for name, _ in getattr(reader, files)])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": md5(reader.meta["filename"])})


@both
def test_cifar_loads_pixel_for_pixel(cifar_root: Path, classes: Classes) -> None:
    source = CIFAR(classes, str(cifar_root), download=False)
    source.prepare()
    assert source.name == f"cifar{classes}"
    files = cifar_files(classes)
    train = [content for name, content in files.items() if name.startswith(("data_batch", "train"))]
    for split, batches in (("train", train), ("test", [files["test_batch" if classes == 10 else "test"]])):
        loaded = source.load(split)  # type: ignore[arg-type]
        labels = [label for batch in batches for label in batch["labels" if classes == 10 else "fine_labels"]]
        assert loaded.labels.tolist() == labels
        assert loaded.labels.dtype == torch.int64
        assert loaded.images.dtype == torch.uint8
        assert loaded.images.is_contiguous()
        rows = [row for batch in batches for row in batch["data"]]
        assert loaded.images.shape == (len(rows), 3, 32, 32)
        for image, row in zip(loaded.images, rows, strict=True):
            for channel, y, x in ((0, 0, 0), (0, 0, 31), (1, 5, 20), (2, 31, 0), (2, 31, 31)):
                assert int(image[channel, y, x]) == row[1024 * channel + 32 * y + x]


def refused(classes: Classes, root: Path, *, download: bool = False) -> str:
    messages = []
    source = CIFAR(classes, str(root), download=download)
    for attempt in (source.prepare, lambda: source.load("train"), lambda: source.load("test")):
        with pytest.raises(DataError) as caught:
            attempt()
        messages.append(str(caught.value))
        assert str(root) in messages[-1]
        assert "data.source.root" in messages[-1]
    return messages[0]


@both
def test_cifar_in_a_missing_directory_is_refused(classes: Classes, tmp_path: Path) -> None:
    assert "data.source.download=true" in refused(classes, tmp_path / "nowhere")


@both
def test_a_cifar_file_with_another_checksum_is_refused(cifar_root: Path, classes: Classes) -> None:
    file = cifar_root / FOLDERS[classes] / ("data_batch_3" if classes == 10 else "train")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    said = refused(classes, cifar_root)
    assert said.startswith(f"CIFAR{classes}: not the published files, or corrupt: {file.name!r} in {file.parent}")
    assert "; data.source.verify=false reads them all the same; or remove them" in said


def test_cifar_files_with_other_checksums_are_never_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download would write over a copy of the user's own, such as one with other pixels."""
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("a download begins"))
    (tmp_path / FOLDERS[10]).mkdir()
    for name in cifar_files(10):
        (tmp_path / FOLDERS[10] / name).write_bytes(b"other")
    with pytest.raises(DataError) as caught:
        CIFAR(10, str(tmp_path)).prepare()
    said = "CIFAR10: not the published files, or corrupt: 'data_batch_1', 'data_batch_2', 'data_batch_3' and 4 more in"
    assert said in str(caught.value)
    assert {path.read_bytes() for path in (tmp_path / FOLDERS[10]).iterdir()} == {b"other"}


@both
def test_verify_false_reads_cifar_files_with_other_checksums(cifar_root: Path, classes: Classes) -> None:
    verified = CIFAR(classes, str(cifar_root), download=False)
    expected = {split: verified.load(split) for split in SPLITS}
    for name, content in cifar_files(classes).items():  # the same, written by another pickle
        (cifar_root / FOLDERS[classes] / name).write_bytes(pickle.dumps(content, protocol=4))
    assert "data.source.verify=false" in refused(classes, cifar_root)
    source = CIFAR(classes, str(cifar_root), download=False, verify=False)
    source.prepare()
    for split in SPLITS:
        assert torch.equal(source.load(split).images, expected[split].images)
        assert torch.equal(source.load(split).labels, expected[split].labels)


class Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return Path.touch, (self.victim,)


@both
def test_nothing_in_an_unverified_cifar_file_is_executed(cifar_root: Path, classes: Classes, tmp_path: Path) -> None:
    file = cifar_root / FOLDERS[classes] / ("test_batch" if classes == 10 else "test")
    source = CIFAR(classes, str(cifar_root), download=False, verify=False)
    evil = pickle.dumps({"data": Malicious(tmp_path / "executed"), "labels": [1]})
    for broken in (evil, b"", b"no pickle", pickle.dumps({"data": 3}), pickle.dumps([1, 2])):
        file.write_bytes(broken)
        with pytest.raises(DataError, match=f"^{file}: is no batch of images in CIFAR's format"):
            source.load("test")
    assert not (tmp_path / "executed").exists()
    file.unlink()
    with pytest.raises(DataError, match=f"^{file}: no such file"):
        source.load("test")


@both
@pytest.mark.parametrize("broken", [b"", b"\x80\x02}", b"no pickle", pickle.dumps({"data": 3}), pickle.dumps([1, 2])])
def test_a_malformed_cifar_file_is_refused(
    cifar_root: Path, classes: Classes, broken: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken in spite of its checksum, as it may be on a machine whose torchvision was changed."""
    for name in cifar_files(classes):
        (cifar_root / FOLDERS[classes] / name).write_bytes(broken)
    trust(cifar_root / FOLDERS[classes], classes, monkeypatch)
    assert "corrupt" in refused(classes, cifar_root)


@both
def test_a_missing_cifar_file_is_refused(cifar_root: Path, classes: Classes) -> None:
    (cifar_root / FOLDERS[classes] / ("test_batch" if classes == 10 else "test")).unlink()
    refused(classes, cifar_root)


# Without a network


@pytest.mark.parametrize("make", [FashionMNIST, lambda root: CIFAR(10, root), lambda root: CIFAR(100, root)])
@pytest.mark.parametrize("error", [URLError("no route to host"), ConnectionResetError("reset"), TimeoutError("late")])
def test_a_download_without_a_connection_is_one_message(
    make: Callable[[str], FashionMNIST | CIFAR], error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(fashion_mnist, "DEBIAN_PACKAGE", tmp_path / "no package")
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    source = make(str(tmp_path / "root"))
    with pytest.raises(DataError) as caught:
        source.prepare()
    message = str(caught.value)
    assert "could not be downloaded" in message
    assert str(error) in message
    assert str(tmp_path / "root") in message
    assert "data.source.root" in message
    assert "remove" not in message  # there is nothing to remove
    assert "\n" not in message


def test_only_some_classes_are_kept_in_their_order_and_numbered_anew() -> None:
    images = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1)
    kept = LabelledImages(images, torch.tensor([3, 0, 2, 3, 1, 2])).only([3, 2])
    assert kept.images.flatten().tolist() == [0, 2, 3, 5]
    assert kept.labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(ConfigError, match="different classes"):
        FashionMNIST("anywhere", only=[2, 2])
