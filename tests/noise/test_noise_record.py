from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from slnlab.errors import ConfigError, DataError
from slnlab.noise import NoiseRecord

# Sample:      0  1  2  3  4  5     1 and 4 are flipped, the images of 2 and 5 replaced; no sample of class 3.
TRUE = [0, 0, 1, 1, 2, 2]
GIVEN = [0, 1, 1, 1, 0, 2]
FIELDS: dict[str, Any] = {
    "true": torch.tensor(TRUE),
    "given": torch.tensor(GIVEN),
    "replaced": torch.tensor([5, 2]),
    "donor": torch.tensor([7, 9]),
    "num_classes": 4,
    "name": "open_set",
    "rate": 0.4,
    "seed": 3,
    "donor_source": "cifar100/train",
}
T = [[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 1]]
EMPTY = torch.empty(0, dtype=torch.int64)


def make(**changes: Any) -> NoiseRecord:
    return NoiseRecord(**{**FIELDS, **changes})


def make_closed(**changes: Any) -> NoiseRecord:
    return make(**{"replaced": EMPTY, "donor": EMPTY, "donor_source": None, **changes})


def test_the_summary_of_six_samples_by_hand() -> None:
    record = make()
    assert record.wrong.tolist() == [False, True, True, False, True, True]
    assert record.realised_rate == 4 / 6
    assert record.transition_matrix.dtype == torch.float64
    assert record.transition_matrix.tolist() == T
    assert record.class_rates.dtype == torch.float64
    assert record.class_rates.tolist() == [0.5, 0.5, 1.0, 0.0]
    # Sorted by the replaced sample, the pairs kept.
    assert record.replaced.tolist() == [2, 5]
    assert record.donor.tolist() == [9, 7]


def test_without_replacements_only_labels_count() -> None:
    record = make_closed()
    assert record.wrong.tolist() == [False, True, False, False, True, False]
    assert record.realised_rate == 2 / 6
    assert record.class_rates.tolist() == [0.5, 0.0, 0.5, 0.0]
    short = NoiseRecord(true=FIELDS["true"], given=FIELDS["given"], num_classes=4, name="symmetric", rate=0.4)
    assert short.replaced.shape == short.donor.shape == (0,)
    assert short.hash == record.hash
    assert short.seed is None


def test_a_flipped_and_replaced_sample_is_wrong_once() -> None:
    assert make(replaced=torch.tensor([1]), donor=torch.tensor([0])).realised_rate == 2 / 6


def test_the_summary_is_plain_json() -> None:
    summary = make().summary()
    assert summary == {
        "name": "open_set",
        "rate": 0.4,
        "seed": 3,
        "realised_rate": 4 / 6,
        "num_samples": 6,
        "num_wrong": 4,
        "num_replaced": 2,
        "class_rates": [0.5, 0.5, 1.0, 0.0],
        "transition_matrix": T,
        "hash": make().hash,
        "donor_source": "cifar100/train",
        "options": None,
    }
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_the_hash_is_that_of_the_documented_bytes() -> None:
    content = b"slnlab.noise/1"
    content += struct.pack("<Q6q", 6, *GIVEN)
    content += struct.pack("<Q2q", 2, 2, 5)
    content += struct.pack("<Q2q", 2, 9, 7)
    content += struct.pack("<Q", 14) + b"cifar100/train"
    assert make().hash == hashlib.sha256(content).hexdigest()
    assert make().hash == "eb34cdac615df021f7d5b9d11e9c024fdede90676b92a2ef09c2efd4a71fd8d6"
    closed = b"slnlab.noise/1" + struct.pack("<Q6q", 6, *GIVEN) + bytes(8) * 3
    assert make_closed().hash == hashlib.sha256(closed).hexdigest()
    assert make_closed().hash == "025a76fd6760ccc9f320fe33121eac5d4fa08a014f9b1c18717dde31724980d0"


@pytest.mark.parametrize(
    "changes",
    [
        {"given": torch.tensor([0, 1, 1, 1, 2, 0])},
        {"replaced": torch.tensor([4, 2])},
        {"donor": torch.tensor([9, 7])},
        {"donor": torch.tensor([7, 8])},
        {"replaced": torch.tensor([2]), "donor": torch.tensor([9])},
        {"replaced": EMPTY, "donor": EMPTY},
        {"donor_source": "cifar100/test"},
    ],
)
def test_the_hash_differs_for_other_training_data(changes: dict[str, Any]) -> None:
    assert make(**changes).hash != make().hash


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "from_csv"},
        {"rate": 0.3},
        {"seed": None},
        {"true": torch.tensor(GIVEN)},
        {"num_classes": 5},
        {"replaced": torch.tensor([2, 5]), "donor": torch.tensor([9, 7])},
        {"given": torch.tensor([v for v in GIVEN for _ in range(2)])[::2]},
    ],
)
def test_the_hash_ignores_the_origin_of_the_training_data(changes: dict[str, Any]) -> None:
    assert make(**changes).hash == make().hash


def test_a_donor_source_without_donors_changes_nothing() -> None:
    assert make_closed(donor_source="cifar100/train").hash == make_closed().hash


def test_the_record_is_frozen_and_keeps_its_own_copy() -> None:
    given = torch.tensor(GIVEN)
    record = make(given=given)
    before = record.hash
    given[0] = 3
    assert record.hash == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.rate = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"true": torch.tensor(TRUE).int()}, "true: must be an int64"),
        ({"true": torch.tensor([0, 0, 1, 1, 2, 4])}, r"true: sample 5 has label 4; .*\[0, 4\)"),
        ({"given": torch.tensor([0, 0, 1, -1, 2, 2])}, "given: sample 3 has label -1"),
        ({"given": torch.tensor(GIVEN[:5])}, "given: has 5 samples, true has 6"),
        ({"true": EMPTY, "given": EMPTY}, "true: holds no sample"),
        ({"replaced": torch.tensor([5, 6])}, r"replaced: .*from 5 to 6.*\[0, 6\)"),
        ({"replaced": torch.tensor([-1, 5])}, "replaced: .*from -1"),
        ({"replaced": torch.tensor([5, 5])}, "sample 5 is replaced more than once"),
        ({"replaced": torch.tensor([5])}, "donor: has 2 entries, replaced has 1"),
        ({"replaced": torch.tensor([5.0, 2.0])}, "replaced: must be an int64"),
        ({"donor": torch.tensor([7, -9])}, "donor: .*-9"),
        ({"donor": [7, 9]}, "donor: must be an int64"),
        ({"donor_source": None}, "donor_source"),
        ({"donor_source": ""}, "donor_source"),
        ({"num_classes": 1}, "num_classes"),
        ({"name": ""}, "name"),
        ({"rate": 1.0}, r"rate=1\.0"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
    ],
)
def test_an_impossible_record_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**changes)


def same(left: NoiseRecord, right: NoiseRecord) -> bool:
    pairs = [(getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(NoiseRecord)]
    return all(
        a.dtype == b.dtype and a.equal(b) if isinstance(a, Tensor) else type(a) is type(b) and a == b for a, b in pairs
    )


@pytest.mark.parametrize(
    "record",
    [
        make(),
        make_closed(seed=None, rate=0, name="größe"),
        make_closed(seed=2**64 - 1, num_classes=np.int64(4)),
    ],
)
def test_a_saved_record_loads_unchanged(tmp_path: Path, record: NoiseRecord) -> None:
    path = tmp_path / "noise.npz"
    path.write_bytes(b"an old file")
    record.save(path)
    loaded = NoiseRecord.load(str(path))
    assert same(record, loaded)
    assert loaded.hash == record.hash
    assert os.listdir(tmp_path) == ["noise.npz"]
    # Nothing in the file needs a pickle.
    with np.load(path, allow_pickle=False) as archive:
        assert archive["given"].tolist() == GIVEN


def test_a_failed_save_leaves_only_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "noise.npz"
    make().save(path)
    before = path.read_bytes()

    def full_disk(file: io.BufferedWriter, **_: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(DataError, match=r"noise\.npz: cannot be written: No space left"):
        make_closed().save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["noise.npz"]
    with pytest.raises(DataError, match="cannot be written"):
        make().save(tmp_path / "missing" / "noise.npz")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"noise\.npz: no such file"):
        NoiseRecord.load(tmp_path / "noise.npz")
    with pytest.raises(DataError, match="cannot be read"):
        NoiseRecord.load(tmp_path)


def test_a_file_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.npz"
    make().save(path)
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"noise\.npz"):
            NoiseRecord.load(path)


def test_a_damaged_file_never_loads_as_another_record(tmp_path: Path) -> None:
    path = tmp_path / "noise.npz"
    record = make()
    record.save(path)
    content = path.read_bytes()
    refused = 0
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        try:
            # Some bytes of a zip file (dates, attributes) say nothing about its content.
            assert same(NoiseRecord.load(path), record)
        except DataError:
            refused += 1
    assert refused > len(content) // 3 // 4


def rewrite(path: Path, **members: Any) -> None:
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files}
    content |= members
    np.savez_compressed(path, **{name: value for name, value in content.items() if value is not None})


def meta_of(path: Path) -> dict[str, Any]:
    with np.load(path) as archive:
        meta = json.loads(archive["meta"].tobytes())
    assert isinstance(meta, dict)
    return meta


def as_bytes(meta: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"given": np.array([0, 1, 1, 1, 2, 2])}, "altered"),
        ({"true": np.array([0, 0, 1, 1, 2, 1])}, "altered"),
        ({"donor": np.array([9, 8])}, "altered"),
        ({"replaced": np.array([2, 4])}, "altered"),
        ({"given": np.array([0, 1, 1, 1, 2, 9])}, "given: sample 5 has label 9"),
        ({"given": np.array([[0, 1, 1, 1, 2, 2]])}, "given"),
        ({"given": None}, "given"),
        ({"meta": None}, "meta"),
        ({"meta": np.frombuffer(b"not json", dtype=np.uint8)}, "noise record"),
        ({"meta": as_bytes([1, 2])}, "no noise record"),
        ({"meta": as_bytes({"format": "slnlab.noise.record/2"})}, "record/2"),
        ({"meta": as_bytes({"format": "slnlab.noise.record/1"})}, "lacks num_classes"),
        ({"given": np.array([{}], dtype=object)}, "cannot be read"),
    ],
)
def test_a_tampered_file_is_refused(tmp_path: Path, members: dict[str, Any], message: str) -> None:
    path = tmp_path / "noise.npz"
    make().save(path)
    rewrite(path, **members)
    with pytest.raises(DataError, match=rf"noise\.npz: .*{message}"):
        NoiseRecord.load(path)


def test_a_tampered_source_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.npz"
    make().save(path)
    rewrite(path, meta=as_bytes(meta_of(path) | {"donor_source": "svhn"}))
    with pytest.raises(DataError, match="altered"):
        NoiseRecord.load(path)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.npz"
    for content in (b"", b"label,label_noisy\n1,2\n", bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(DataError, match="no noise record"):
            NoiseRecord.load(path)
    with open(path, "wb") as file:
        np.save(file, np.arange(5))
    with pytest.raises(DataError, match="no noise record"):
        NoiseRecord.load(path)
    torch.save({"given": torch.arange(5)}, path)
    with pytest.raises(DataError, match="noise record"):
        NoiseRecord.load(path)
    np.savez(path, images=np.zeros(3))
    with pytest.raises(DataError, match="lacks a member"):
        NoiseRecord.load(path)
