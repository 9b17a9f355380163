"""CIFAR-10N and CIFAR-100N, on small files in the published format."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slnlab.errors import ConfigError, DataError
from slnlab.noise import human

LABELS = torch.tensor([2, 0, 1, 2])
TEN = {
    "clean_label": [2, 0, 1, 2],
    "aggre_label": [2, 0, 1, 1],
    "worse_label": [0, 1, 2, 1],
    "random_label1": [2, 1, 1, 1],
    "random_label2": [0, 0, 1, 2],
    "random_label3": [2, 0, 2, 1],
}
HUNDRED = {
    "clean_label": [2, 0, 1, 2],
    "noisy_label": [1, 0, 0, 2],
    "noisy_coarse_label": [19, 0, 4, 7],
    "clean_coarse_label": [11, 15, 4, 7],
}


def arrays(labels: dict[str, list[int]], **instead: Any) -> dict[str, Any]:
    return {**{key: np.array(values, np.int64) for key, values in labels.items()}, **instead}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "CIFAR-10_human.pt"


@pytest.mark.parametrize(
    ("annotation", "key"),
    [
        ("aggre", "aggre_label"),
        ("worse", "worse_label"),
        ("random1", "random_label1"),
        ("random2", "random_label2"),
        ("random3", "random_label3"),
    ],
)
def test_an_annotation_of_cifar_10n_is_read(path: Path, annotation: Any, key: str) -> None:
    torch.save(arrays(TEN), path)
    given = human(LABELS, path, annotation, 3)
    assert given.dtype == torch.int64
    assert given.tolist() == TEN[key]
    assert LABELS.tolist() == [2, 0, 1, 2]


def test_the_fine_labels_of_cifar_100n_are_read(path: Path) -> None:
    torch.save(arrays(HUNDRED), path)
    assert human(LABELS, str(path), "noisy", 3).tolist() == [1, 0, 0, 2]
    with pytest.raises(DataError, match=r"no annotation 'worse'; noise\.annotation may be noisy$"):
        human(LABELS, path, "worse", 3)


PUBLISHED = {
    10: dict.fromkeys(
        ("clean_label", "aggre_label", "worse_label", "random_label1", "random_label2", "random_label3"), np.array
    ),
    100: {"clean_label": np.array, "noisy_label": np.array, "clean_coarse_label": list, "noisy_coarse_label": list},
}
"""The published files' entries, in their order, and what each is."""


@pytest.mark.parametrize("classes", [10, 100])
def test_the_published_file_form_is_read(path: Path, classes: int) -> None:
    """Of both files, whole and of the first samples; one used for the other's data set is named as such."""
    rng = np.random.default_rng(0)
    size = 300
    entries: dict[str, Any] = {key: kind(rng.integers(0, classes, size)) for key, kind in PUBLISHED[classes].items()}
    for key, kind in PUBLISHED[classes].items():
        entries[key] = [int(value) for value in entries[key]] if kind is list else entries[key]
    torch.save(entries, path)
    annotation: Any = "worse" if classes == 10 else "noisy"
    labels = torch.from_numpy(entries["clean_label"])
    given = entries["worse_label" if classes == 10 else "noisy_label"].tolist()
    assert human(labels, path, annotation, classes).tolist() == given
    assert human(labels[:40], path, annotation, classes, num_train=size).tolist() == given[:40]
    with pytest.raises(DataError, match=r"has 300 entries, but the data has 40 samples$"):
        human(labels[:40], path, annotation, classes)
    with pytest.raises(DataError, match=r"has 300 entries, but the data has 40 samples, the first of 50$"):
        human(labels[:40], path, annotation, classes, num_train=50)
    if classes == 100:
        with pytest.raises(DataError, match="clean_label has classes up to 99, the data have 10; is it the file of"):
            human(labels % 10, path, "worse", 10)


def test_unused_entries_can_hold_any_harmless_value(path: Path) -> None:
    torch.save(arrays(TEN, aggre_label=[1.5, "x"], more={"a": None}), path)
    assert human(LABELS, path, "worse", 3).tolist() == TEN["worse_label"]


def test_a_file_in_another_order_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "CIFAR-10_human_ordered.npy", arrays(TEN), allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"_ordered\.npy: is in the order of TensorFlow's data set; noise=human reads"):
        human(LABELS, tmp_path / "CIFAR-10_human_ordered.npy", "worse", 3)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_integers_of_any_width_are_read(path: Path, dtype: Any) -> None:
    torch.save({key: values.astype(dtype) for key, values in arrays(TEN).items()}, path)
    assert human(LABELS, path, "worse", 3).tolist() == TEN["worse_label"]


def written_by(numpy: str, path: Path, zipped: bool) -> None:
    """The same file as a NumPy would write it that calls its inner module `numpy`, by an old or a new torch."""
    torch.save(arrays(TEN), path, _use_new_zipfile_serialization=zipped)
    inner = re.compile(rb"numpy\._?core\.multiarray")
    if not zipped:
        path.write_bytes(inner.sub(numpy.encode(), path.read_bytes()))
        return
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, inner.sub(numpy.encode(), content))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("numpy", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_files_of_old_and_new_numpy_and_torch_are_read(path: Path, numpy: str, zipped: bool) -> None:
    written_by(numpy, path, zipped)
    content = zipfile.ZipFile(path).read("CIFAR-10_human/data.pkl") if zipped else path.read_bytes()
    assert f"c{numpy}\n_reconstruct\n".encode() in content
    assert human(LABELS, path, "worse", 3).tolist() == TEN["worse_label"]


# Nothing in it is executed


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["whole", "entry", "in an array"])
def test_a_malicious_file_is_refused_and_not_executed(path: Path, place: str, zipped: bool) -> None:
    victim = path.parent / "executed"
    evil = Malicious(victim)
    content = {
        "whole": evil,
        "entry": arrays(TEN, more=evil),
        "in an array": arrays(TEN, more=np.array([evil], dtype=object)),
    }[place]
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=re.escape(f"{path}: is damaged, or holds more than arrays of integers")):
        human(LABELS, path, "worse", 3)
    assert not victim.exists()
    torch.load(path, weights_only=False)
    assert victim.exists(), "the file would have done harm"


def test_no_unpickling_permission_remains(path: Path) -> None:
    torch.save(arrays(TEN), path)
    before = set(torch.serialization.get_safe_globals())  # torch keeps them in a set and lists them in any order
    human(LABELS, path, "worse", 3)
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


# What else may be wrong


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (arrays(TEN, clean_label=np.array([2, 0, 0, 2])), "clean_label of sample 2 is 0, but the data's label is 1"),
        (arrays(TEN, clean_label=np.array([2, 0, 1])), "clean_label has 3 entries, but the data has 4 samples"),
        (arrays(TEN, worse_label=np.arange(5)), "worse_label has 5 entries, but the data has 4 samples"),
        (arrays(TEN, worse_label=np.zeros((2, 2), int)), "worse_label has 2×2 entries"),
        (arrays(TEN, worse_label=np.array([0, 1, 3, 1])), "worse_label of sample 2 is 3, outside the classes [0, 3)"),
        (arrays(TEN, worse_label=np.array([0, -1, 0, 1])), "worse_label of sample 1 is -1, outside"),
        (arrays(TEN, worse_label=np.array([0.0, 1, 2, 1])), "is damaged, or holds more than arrays of integers"),
        (arrays(TEN, worse_label=[0, 1, 2.0, 1]), "worse_label is no array or list of integers"),
        (arrays(TEN, worse_label=["0", "1", "2", "1"]), "worse_label is no array or list of integers"),
        (arrays(TEN, worse_label=[[0], [1, 2], [1], []]), "worse_label is no array or list of integers"),
        ([1, 2], "is no file of CIFAR-10N"),
        ({"worse_label": np.arange(4)}, "it has no clean_label"),
    ],
)
def test_a_file_of_other_data_is_refused(path: Path, content: Any, message: str) -> None:
    torch.save(content, path)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + re.escape(message)):
        human(LABELS, path, "worse", 3)


def test_missing_and_broken_files_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        human(LABELS, path, "worse", 3)
    with pytest.raises(DataError, match="cannot be read"):
        human(LABELS, path.parent, "worse", 3)
    torch.save(arrays(TEN), path)
    whole = path.read_bytes()
    for broken in (b"", b"label,label_noisy\n2,1\n", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=re.escape(str(path))):
            human(LABELS, path, "worse", 3)


def test_an_unknown_annotation_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"noise\.annotation: 'worst' is none of aggre, worse"):
        human(LABELS, path, "worst", 3)  # type: ignore[arg-type]
