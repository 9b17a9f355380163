"""slnlab predict with files of vectors: npz, npy, folders of them and Parquet give the classes of `load().predict`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import slnlab
from slnlab.config import compose
from slnlab.predict import main
from slnlab.train import train


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with the same 25 vectors, and a run `run` on others."""
    top = tmp_path_factory.mktemp("vectors")
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    vectors = (rng.normal(size=(60, 4)) + labels[:, None]).astype(np.float32)
    np.savez(top / "train.npz", train_features=vectors, train_labels=np.array(["ape", "bee", "cat"])[labels])
    words = ["data=features", f"data.source.root={top / 'train.npz'}", "method=logistic", "trainer.progress=false"]
    train(compose([*words, "trainer.accelerator=cpu"]), top / "run")
    new = rng.normal(size=(25, 4)).astype(np.float32)
    np.savez(top / "new.npz", test_features=new, test_paths=np.array([f"{n}.png".encode() for n in range(25)]))
    np.save(top / "plain.npy", new.astype(np.float64))
    (top / "folder").mkdir()
    np.save(top / "folder" / "features.npy", new)
    return top


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_kind_of_file_gives_the_predictions_of_load(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pyarrow import parquet
    from pyarrow import table as arrow

    new = np.load(place / "plain.npy")
    parquet.write_table(arrow({"features": list(new)}), place / "new.parquet")
    labels, probabilities = slnlab.load(place / "run").predict(new)
    files = ["new.npz", "plain.npy", "folder", "new.parquet"]
    main(
        [
            str(place / "run"),
            *(str(place / name) for name in files),
            "--all",
            "--batch-size",
            "7",
            "-o",
            str(place / "p.csv"),
        ]
    )
    assert "100 vectors classified by Logistic (network)" in capsys.readouterr().err
    rows = table(place / "p.csv")
    assert [row["predicted_label"] for row in rows] == labels * 4
    for name, column in zip(("ape", "bee", "cat"), probabilities.T, strict=True):
        np.testing.assert_allclose([float(row[f"probability_{name}"]) for row in rows], np.tile(column, 4), rtol=1e-4)
    assert [row["row"] for row in rows] == [str(row) for row in range(25)] * 4
    assert [row["path"] for row in rows[:25]] == [f"{number}.png" for number in range(25)]
    assert {(row["path"], row["array"]) for row in rows[25:]} == {
        (str(place / "plain.npy"), "plain"),
        (str(place / "folder"), "features"),
        (str(place / "new.parquet"), "features"),
    }


def test_other_files_are_one_message(place: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((2, 5)))
    np.save(tmp_path / "nan.npy", np.array([[0, 1, np.nan, 0.0]]))
    np.savez(tmp_path / "other.npz", images=np.zeros((2, 4)))
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "broken.npy").write_bytes(b"x")
    for name, message in {
        "wide.npy": r"wide.npy: wide has the shape \(2, 5\); the run classifies vectors \(N, 4\)",
        "nan.npy": r"nan.npy: nan, row 0, column 2 \(from 0\) is nan",
        "other.npz": r"other.npz: has no array 'features' or '…_features'; its arrays are 'images'",
        "a.jpg": r"a.jpg: the run classifies vectors: .npz, .npy or .parquet files",
        "broken.npy": r"broken.npy: is damaged or cannot be read|broken.npy: holds Python objects",
    }.items():
        with pytest.raises(SystemExit, match=message):
            main([str(place / "run"), str(tmp_path / name), "-o", str(tmp_path / "p.csv")])
        assert not (tmp_path / "p.csv").exists()
