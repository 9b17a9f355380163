"""Published data sets with real noise, each on a small made copy with the traps of its layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from folders import put
from PIL import Image

from slnlab.config import compose
from slnlab.data import DecodedDataModule
from slnlab.data.animal10n import Animal10N
from slnlab.data.decoding import Paths
from slnlab.data.streamed import FileSplit
from slnlab.errors import DataError
from slnlab.train import train

REAL = {"_target_": "slnlab.noise.clean", "name": "real", "rate": 0.0, "seed": 0}
DEFAULTS = {"batch_size": 4, "eval_batch_size": 4, "mean": [0.0] * 3, "std": [1.0] * 3}


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def names(paths: Paths) -> list[str]:
    return [paths.relative(row) for row in range(len(paths))]


def labels_of(source: Any, split: FileSplit = "train") -> dict[str, int]:
    """Path → label."""
    paths, labels = source.load(split)
    assert labels.dtype == torch.int64
    return dict(zip(names(paths), labels.tolist(), strict=True))


# Images decoded into memory


def test_decoded_images_are_the_files_pixels_in_the_order_of_the_labels(tmp_path: Path) -> None:
    """An image of the right size keeps its pixels, a grey one becomes RGB, a wide one loses its sides."""
    rng = np.random.default_rng(0)
    pictures = {f"training/{n % 2}_img_{n}.png": rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for n in range(10)}
    for name, pixels in pictures.items():
        put(tmp_path, name)
        Image.fromarray(pixels).save(tmp_path / name)
    grey, wide = "testing/0_img_0.png", "testing/1_img_1.png"
    put(tmp_path, grey, wide)
    Image.new("L", (8, 8), 7).save(tmp_path / grey)
    Image.fromarray(np.arange(3 * 8 * 16, dtype=np.uint8).reshape(8, 16, 3)).save(tmp_path / wide)
    data = DecodedDataModule(Animal10N(str(tmp_path)), REAL, num_classes=2, image_size=8, padding=2, **DEFAULTS)
    data.prepare_data()
    data.setup()
    paths = data.paths(torch.arange(10))
    assert sorted(paths) == sorted(pictures)
    read = data.reading([torch.arange(10)])(0).pixels()
    for path, image, label in zip(paths, read, data.labels.given.tolist(), strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pictures[path])
        assert label == int(Path(path).name[0])
    (batch,) = data.evaluation_batches("test")
    assert batch.label.tolist() == [0, 1]
    assert torch.equal((batch.image * 255).round()[0], torch.full((3, 8, 8), 7.0))
    cut = np.asarray(Image.open(tmp_path / wide))[:, 4:12]
    assert np.array_equal((batch.image[1] * 255).round().permute(1, 2, 0).numpy(), cut)


# ANIMAL-10N


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Two training images of each class, and one for testing."""
    train = [f"training/{n % 10}_img_{n}.jpg" for n in range(20)]
    return put(tmp_path / "animals", *train, *[f"testing/{n}_img_{n + 10}.jpg" for n in range(10)])


def test_animal10n_takes_labels_from_names_in_an_order_of_no_machine(animals: Path) -> None:
    found = labels_of(Animal10N(str(animals)))
    assert found == {f"training/{n % 10}_img_{n}.jpg": n % 10 for n in range(20)}
    labels = list(found.values())
    assert labels != sorted(labels), "the first n are a sample of all classes"
    copy = put(animals.parent / "copy", *reversed(list(found)), "testing/0_img_1.jpg")
    assert list(labels_of(Animal10N(str(copy)))) == list(found)
    assert labels_of(Animal10N(str(animals)), "test") == {f"testing/{n}_img_{n + 10}.jpg": n for n in range(10)}


def test_animal10n_in_folders_of_labels(tmp_path: Path) -> None:
    """Here names may begin with another number; the folder counts."""
    put(tmp_path, "train/0/7_img_1.jpg", "train/9/0_img_2.jpg", "test/3/9_img_3.jpg", "train/.hidden/1.jpg")
    assert labels_of(Animal10N(str(tmp_path))) == {"train/0/7_img_1.jpg": 0, "train/9/0_img_2.jpg": 9}
    assert labels_of(Animal10N(str(tmp_path)), "test") == {"test/3/9_img_3.jpg": 3}


def test_animal10n_names_what_it_lacks(tmp_path: Path, animals: Path) -> None:
    with pytest.raises(DataError) as error:
        Animal10N(str(tmp_path / "nowhere")).prepare()
    for part in ("training or train (50,000 images", "testing or test", "https://dm.kaist.ac.kr", "data.source.root"):
        assert part in str(error.value)
    put(animals, "training/cat.jpg")
    with pytest.raises(DataError, match=r"cat\.jpg: 'cat\.jpg' does not begin with a label"):
        Animal10N(str(animals)).load("train")


def test_animal10n_trains(animals: Path, tmp_path: Path) -> None:
    overrides = ["data=animal10n", f"data.source.root={animals}", f"runs_dir={tmp_path}", "model=cnn", "method=sln"]
    overrides += ["model.widths=[2,2,2,2]", "data.image_size=8", "data.num_train=20", "data.mean=[0.5,0.5,0.5]"]
    overrides += ["data.std=[1,1,1]", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false"]
    result = train(compose(overrides), tmp_path / "run")
    assert result.label_noise == {"name": "real", "num_samples": 20, "hash": result.label_noise["hash"]}
    first = (tmp_path / "run" / "label_issues.csv").read_text().splitlines()
    assert "training/" in first[1], "the list names files"
