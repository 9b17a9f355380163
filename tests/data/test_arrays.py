"""Files of arrays: feature vectors and images in npz, npy and Parquet; their refusals, and runs on vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import slnlab
from slnlab.arrays.contents import read_arrays, samples
from slnlab.arrays.corrected import read_corrected
from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.data import IndexedDataModule
from slnlab.errors import ConfigError, DataError
from slnlab.inference.corrections import corrected, usage, write_corrected
from slnlab.inference.diagnosis import diagnose
from slnlab.models import MLP, Linear
from slnlab.train import train
from slnlab.training import assemble
from slnlab.training.settling import settle

NAMES = np.array(["ape", "bee", "cat"])
QUICK = ("trainer.accelerator=cpu", "trainer.progress=false")


def vectors(count: int, seed: int) -> dict[str, Any]:
    """Three clusters in five dimensions, far from the origin; the last feature has one value."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    centres = np.random.default_rng(0).normal(size=(3, 5)) * 4 + 50
    found = centres[labels] + rng.normal(size=(count, 5))
    found[:, 4] = 7
    return {"features": found.astype(np.float32), "labels": labels}


def own(tmp_path: Path, **changes: Any) -> Path:
    """`own.npz` with 60 training and 12 test vectors; `None` leaves an array out."""
    train_part, test_part = vectors(60, 1), vectors(12, 2)
    arrays = {
        "train_features": train_part["features"],
        "train_labels": NAMES[train_part["labels"]],
        "test_features": test_part["features"],
        "test_labels": NAMES[test_part["labels"]],
    }
    arrays = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
    np.savez(tmp_path / "own.npz", **arrays)
    return tmp_path / "own.npz"


def composed(file: Path, *overrides: str, data: str = "features") -> Any:
    return compose([f"data={data}", f"data.source.root={file}", "method=sln", *QUICK, *overrides])


def ready(file: Path, *overrides: str, data: str = "features") -> IndexedDataModule:
    """The data of a run, as it would train on them."""
    config = OmegaConf.create(container_of(composed(file, *overrides, data=data)))
    check(config)
    datamodule = assemble.datamodule(config)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def test_the_configuration_reads_the_files_facts(tmp_path: Path) -> None:
    data = container_of(composed(own(tmp_path)))["data"]
    assert (data["num_classes"], data["classes"], data["num_train"], data["channels"]) == (3, [*NAMES], 60, 5)
    assert (data["test"], data["clean_val"]) == (True, False)


def test_vectors_are_standardised_by_training_statistics(tmp_path: Path) -> None:
    from sklearn.preprocessing import StandardScaler

    train_part, test_part = vectors(60, 1), vectors(12, 2)
    datamodule = ready(own(tmp_path), "data.batch_size=16")
    scaler = StandardScaler().fit(train_part["features"])
    (samples_,) = datamodule.passes("augmented", "x", 0)
    assert samples_.image.shape == (60, 5)
    np.testing.assert_allclose(samples_.image, scaler.transform(train_part["features"]), rtol=1e-4, atol=1e-4)
    (tested,) = datamodule.val_dataloader()["test"]
    np.testing.assert_allclose(tested.image, scaler.transform(test_part["features"]), rtol=1e-4, atol=1e-4)
    assert tested.label.tolist() == test_part["labels"].tolist()
    batch = next(iter(datamodule.epoch(0)))()
    assert torch.equal(batch.image, samples_.image[batch.index])
    assert datamodule.labels.given.tolist() == train_part["labels"].tolist()
    assert datamodule.noise_record is None


def test_npz_npy_and_parquet_hold_the_same_data(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    file = own(tmp_path)
    folder = tmp_path / "arrays"
    folder.mkdir()
    with np.load(file) as arrays:
        for name in arrays.files:
            np.save(folder / f"{name}.npy", arrays[name])
        both = np.concatenate([arrays["train_features"], arrays["test_features"]])
        columns = {
            "label": [*arrays["train_labels"], *arrays["test_labels"]],
            "split": ["train"] * 60 + ["test"] * 12,
        }
    parquet.write_table(table({**columns, "features": list(both)}), tmp_path / "lists.parquet")
    parquet.write_table(table({**columns, **{f"x{n}": both[:, n] for n in range(5)}}), tmp_path / "columns.parquet")
    for other in (folder, tmp_path / "lists.parquet", tmp_path / "columns.parquet"):
        found, expected = read_arrays(str(other), "features"), read_arrays(str(file), "features")
        assert found.classes == expected.classes
        for split in ("train", "test"):
            assert found.labels[split].tolist() == expected.labels[split].tolist()
            np.testing.assert_array_equal(samples(str(other), "features", split), samples(str(file), "features", split))


def test_features_and_labels_alone_are_for_training(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", **vectors(30, 1))
    data = container_of(composed(tmp_path / "own.npz"))["data"]
    assert (data["num_train"], data["test"], data["classes"]) == (30, False, ["0", "1", "2"])


def test_numbers_keep_their_order_and_need_not_begin_at_zero(tmp_path: Path) -> None:
    labels = np.array([10, -1, 2] * 20)
    file = own(tmp_path, train_labels=labels[:, None], test_labels=np.full((12, 1), 10, np.uint8))
    contents = read_arrays(str(file), "features")
    assert contents.classes == ["-1", "2", "10"]
    assert contents.labels["train"].tolist() == [2, 0, 1] * 20
    assert contents.labels["test"].tolist() == [2] * 12


def test_known_true_labels_make_the_noise_known(tmp_path: Path) -> None:
    true = vectors(60, 1)["labels"]
    given = true.copy()
    given[:6] = (given[:6] + 1) % 3
    file = own(tmp_path, train_labels=NAMES[given], train_true_labels=NAMES[true])
    real = ready(file)
    assert real.labels.given.tolist() == given.tolist()
    assert real.noise_summary()["realised_rate"] == 0.1
    spoiled = ready(file, "noise=sym", "noise.rate=0.5")
    assert spoiled.labels.true.tolist() == true.tolist(), "noise is added to the true labels"


def test_labels_of_samples_without_names_are_corrected_by_their_rows(tmp_path: Path) -> None:
    """The file of `slnlab diagnose --write` trains the next run, and nothing is taken for the truth."""
    file, labels = own(tmp_path), tmp_path / "labels.csv"
    train(composed(file, "method=ce", "trainer.max_epochs=2"), tmp_path / "run")
    found = diagnose(slnlab.load(tmp_path / "run"), images=False)
    write_corrected(corrected(found, top=2), labels)
    assert usage(found.run, labels) == f"data.labels={labels}"
    data, before = ready(file, f"data.labels={labels}"), ready(file)
    changed = (data.labels.given != before.labels.given).nonzero().squeeze(1).tolist()
    assert sorted(changed) == sorted(found.columns["index"][found.order[:2]].tolist())
    assert data.labels.wrong is None
    assert {*data.corrections()} == {str(row) for row in changed}
    labels.write_text("index,label\n3,\n")
    with pytest.raises(DataError, match=r"labels.csv: leaves out samples without names; .* train_paths"):
        read_corrected(str(file), "features", str(labels))
    labels.write_text("index,label\n60,ape\n")
    with pytest.raises(DataError, match=r"line 2: '60' is no training image; 60 have an index from 0"):
        read_corrected(str(file), "features", str(labels))


def test_noise_can_be_injected_into_trusted_labels(tmp_path: Path) -> None:
    for noise in ("sym", "asym", "part_dependent"):
        spoiled = ready(own(tmp_path), f"noise={noise}", "noise.rate=0.4")
        assert spoiled.labels.true.tolist() == vectors(60, 1)["labels"].tolist()
        assert 0.2 < spoiled.noise_summary()["realised_rate"] < 0.6


def objects(*labels: Any) -> np.ndarray:
    return np.array(labels, dtype=object)


def changed(row: int, value: Any, base: Any) -> np.ndarray:
    found = np.array(base)
    found[row] = value
    return found


X, Y = vectors(60, 1)["features"], NAMES[vectors(60, 1)["labels"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": objects(*Y)}, r"own.npz: train_labels: holds Python objects, which are never read"),
        ({"train_labels": None}, r"own.npz: has train_features, but no train_labels; its arrays are"),
        (
            {"test_labels": None, "test_label": Y[:12]},
            r"own.npz: has test_features, but no test_labels; .*'test_label'",
        ),
        ({"train_features": None}, r"own.npz: has no array train_features|has train_labels, but no train_features"),
        ({"train_labels": Y[:59]}, r"train_features has 60 rows, but train_labels has 59"),
        (
            {"test_labels": changed(7, "owl", Y[:12])},
            r"test_labels, row 7 \(from 0\) has the label 'owl', which no tra",
        ),
        ({"test_labels": np.zeros(12, int)}, r"test_labels holds integers, but the training labels are text"),
        ({"train_labels": np.full(60, "ape")}, r"train_labels has one class, 'ape'"),
        (
            {"train_labels": np.eye(3)[[0, 1, 2] * 20]},
            r"train_labels has the shape \(60, 3\); one label for each sample",
        ),
        ({"train_labels": np.zeros(60)}, r"train_labels has the type float64; labels are integers or text"),
        ({"train_labels": changed(3, " ", Y)}, r"train_labels, row 3 \(from 0\) has an empty label"),
        ({"train_labels": changed(3, "${x}", Y.astype("<U9"))}, r"would be read as a reference"),
        ({"train_features": X[:0], "train_labels": Y[:0]}, r"train_features has no row"),
        ({"train_features": X[:, :0]}, r"train_features has the shape \(60, 0\); features are \(N, D\)"),
        ({"train_features": X[:, :4]}, r"test_features has samples of the shape \(5,\), those of training have \(4,\)"),
        ({"train_true_labels": Y[:5]}, r"train_true_labels has 5 rows, but train_labels 60"),
    ],
)
def test_a_wrong_file_is_refused_when_the_run_is_composed(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_arrays(str(own(tmp_path, **changes)), "features")
    with pytest.raises((DataError, ConfigError), match=message):
        check(composed(tmp_path / "own.npz"))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (changed((17, 3), np.nan, X), r"train_features, row 17, column 3 \(from 0\) is nan; remove it"),
        (
            changed(([2, 9], 1), 1e39, X.astype(float)),
            r"row 2, column 1 \(from 0\) is 1e\+39 \(2 rows have such values\)",
        ),
        (X.astype("U9"), r"train_features has the type <U9; features are numbers"),
    ],
)
def test_values_that_are_no_finite_numbers_are_named_before_training(
    tmp_path: Path, found: np.ndarray, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        ready(own(tmp_path, train_features=found))


def test_broken_files_are_refused(tmp_path: Path) -> None:
    file = own(tmp_path)
    for content, name, message in (
        (file.read_bytes()[:-40], "cut.npz", r"cut.npz: is damaged or cannot be read"),
        (b"", "empty.npz", r"empty.npz: is damaged or cannot be read"),
        (b"label\n1\n", "x.csv", r"x.csv is neither an .npz file, a folder of .npy files"),
        (b"PAR1", "x.parquet", r"x.parquet: is damaged or cannot be read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_arrays(str(tmp_path / name), "features")
    with pytest.raises(DataError, match=r"there is no file '.*gone.npz'"):
        read_arrays(str(tmp_path / "gone.npz"), "features")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"has no .npy file, such as train_features.npy"):
        read_arrays(str(tmp_path / "none"), "features")


def test_the_index_of_a_pandas_table_is_no_feature(tmp_path: Path) -> None:
    """pandas writes it as a column once rows were filtered or shuffled."""
    import json

    from pyarrow import parquet, table

    columns = {"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0], "label": ["x", "y", "x"], "__index_level_0__": [7, 3, 5]}
    made = table(columns)
    made = made.replace_schema_metadata({"pandas": json.dumps({"index_columns": ["__index_level_0__"], "columns": []})})
    parquet.write_table(made, tmp_path / "own.parquet")
    assert read_arrays(str(tmp_path / "own.parquet"), "features").channels == 2


def test_parquet_refuses_what_it_cannot_tell(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    file = tmp_path / "own.parquet"
    good: dict[str, Any] = {"label": ["a", "b"], "x": [1.0, 2.0]}
    for columns, message in (
        ({"x": [1.0]}, r"has no column 'label'; its columns are 'x'"),
        ({**good, "label": ["a", None]}, r"row 1 \(from 0\) has no value in the column 'label'"),
        ({**good, "Clean_Label": [0, 1]}, r"the column 'Clean_Label' would be a feature, as all columns of numbers"),
        ({**good, "name": ["u", "v"]}, r"the column 'name' holds no numbers"),
        ({**good, "split": ["train", "holdout"]}, r"row 1 \(from 0\) has the split 'holdout'; allowed: 'train', 'val'"),
        ({**good, "features": [[1.0], [1.0, 2.0]]}, r"row 1 \(from 0\) has 2 features, row 0 has 1"),
    ):
        parquet.write_table(table(columns), file)
        with pytest.raises(DataError, match=message):
            read_arrays(str(file), "features")


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "own.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"pip install 'slnlab\[parquet\]'"):
        read_arrays(str(tmp_path / "own.parquet"), "features")


def test_identity_follows_the_contents_not_the_place(tmp_path: Path) -> None:
    before = settle(composed(own(tmp_path))).group
    (tmp_path / "elsewhere").mkdir()
    assert settle(composed(own(tmp_path / "elsewhere"))).group == before
    assert settle(composed(own(tmp_path, train_features=changed((0, 0), 1.0, X)))).group != before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=cnn"], r"model: cnn takes images, but features has vectors; choose model=mlp or model=linear"),
        (["noise=open_set", "+noise.donor._target_=slnlab.data.digits.Digits"], r"open_set replaces images"),
        (["method=ssr", "data.dropped_features=0"], r"dropped_features: 0, but ssr learns from a view that lacks some"),
        (["method=sop_plus", "method.cutout=4"], r"method\.cutout: vectors have no pixels to cut out"),
        (["data.flip=true"], r"data.flip: True is not allowed"),
        (["data.padding=2"], r"data.padding: 2 is not allowed"),
        (["model.widths=[]"], r"model.widths"),
        (["data.mean=[0.0]", "data.std=[1.0]"], r"data.mean: 1 values for 5 channels"),
    ],
)
def test_images_only_is_refused_for_vectors(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(composed(own(tmp_path), *overrides))


def test_a_network_for_vectors_is_refused_for_images() -> None:
    with pytest.raises(ConfigError, match=r"model: mlp takes vectors, but digits has images; choose model=cnn"):
        check(compose(["data=digits", "model=mlp"]))


def test_logits_of_the_networks_by_hand() -> None:
    inputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    linear = Linear(5, 3)
    assert torch.allclose(linear(inputs), inputs @ linear.classifier.weight.T + linear.classifier.bias)
    network = MLP(5, 3, [8, 4], dropout=0.5).eval()
    hidden = inputs
    for layer in (network.hidden[0], network.last):
        hidden = (hidden @ layer[0].weight.T / (1 + layer[1].eps) ** 0.5).relu()  # the statistics of a new batch norm
    assert torch.allclose(network(inputs), network.classifier(hidden), atol=1e-6)
    assert not torch.equal(network.train()(inputs), network(inputs)), "dropout draws anew"


# Runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> slnlab.inference.trained_run.TrainedRun:
    """Label correction on vectors, a tenth of whose labels are wrong."""
    folder = tmp_path_factory.mktemp("features")
    true = vectors(200, 1)
    given = true["labels"].copy()
    given[:20] = (given[:20] + 1) % 3
    named = {
        "train_features": true["features"],
        "train_labels": NAMES[given],
        "train_true_labels": NAMES[true["labels"]],
    }
    file = own(folder, **named)
    shorter = ("trainer.max_epochs=6", "data.batch_size=32", "model.widths=[16]", "optimizer.lr=0.1")
    train(composed(file, "method=sln_mo_lc", *shorter), folder / "run", [])
    return slnlab.load(folder / "run")


def test_a_run_on_vectors_finds_the_wrong_labels(trained: Any) -> None:
    assert trained.result.rows["network"].test_accuracy.last > 0.9
    assert trained.result.label_noise["realised_rate"] == 0.1
    assert trained.result.rows["momentum"].findings.auroc > 0.95


def test_a_trained_run_classifies_vectors(trained: Any) -> None:
    test_part = vectors(12, 2)
    found = trained.predict(test_part["features"])
    assert [*NAMES].index(found.labels[0]) == found.probabilities[0].argmax()
    standardised = (torch.from_numpy(test_part["features"]) - torch.tensor(trained.preprocessing.mean)) / torch.tensor(
        trained.preprocessing.std
    )
    expected = trained.model(standardised).softmax(1).detach()
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5, atol=1e-6)
    assert trained.features(test_part["features"]).shape == (12, 16)
    with pytest.raises(ConfigError, match=r"float vectors \(N, 5\), not torch.float32 \(12, 4\)"):
        trained.predict(test_part["features"][:, :4])
    with pytest.raises(ConfigError, match=r"the run classifies vectors; give one float array \(N, 5\)"):
        trained.predict("a.jpg")


def test_export_standardises_vectors(trained: Any, tmp_path: Path) -> None:
    from slnlab.inference.exporting import export

    for format in ("torch", "torchscript", "pt2"):
        assert export(trained, format, tmp_path / f"model.{format}") < 1e-5
    found = torch.jit.load(str(tmp_path / "model.torchscript"))(torch.from_numpy(vectors(12, 2)["features"]))
    np.testing.assert_allclose(found, trained.predict(vectors(12, 2)["features"]).probabilities, atol=1e-5)


@pytest.mark.parametrize("method", ["elr", "mixup", "sop", "co_teaching", "forward", "dividemix"])
def test_other_methods_train_on_vectors(tmp_path: Path, method: str) -> None:
    first = {"dividemix": ["method.warm_up_epochs=1"]}.get(method, [])
    shorter = ("trainer.max_epochs=2", "model=linear", "noise=sym", "data.batch_size=20", *first)
    assert train(composed(own(tmp_path), f"method={method}", *shorter), tmp_path / "run", []).epochs == 2


# Images


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 230, size=shape, dtype=np.uint8)


def medmnist(tmp_path: Path, *channels: int, **changes: Any) -> Path:
    """A made file in MedMNIST's layout: 40 + 8 + 10 images of 6×6, labels (N, 1)."""
    arrays: dict[str, Any] = {}
    for seed, (split, count) in enumerate((("train", 40), ("val", 8), ("test", 10))):
        arrays[f"{split}_images"] = pixels(count, 6, 6, *channels, seed=seed)
        arrays[f"{split}_labels"] = (np.arange(count) % 4).astype(np.uint8)[:, None]
    np.savez(tmp_path / "made.npz", **{**arrays, **changes})
    return tmp_path / "made.npz"


@pytest.mark.parametrize("channels", [(), (3,)])
def test_medmnists_layout_is_read(tmp_path: Path, channels: tuple[int, ...]) -> None:
    file = medmnist(tmp_path, *channels)
    datamodule = ready(file, "data.padding=1", data="npz")
    (seen,) = datamodule.passes("clean", "x", 0)
    raw = pixels(40, 6, 6, *channels).reshape(40, 6, 6, -1) / 255
    expected = (raw - raw.mean((0, 1, 2))) / raw.std((0, 1, 2))
    np.testing.assert_allclose(seen.image, expected.transpose(0, 3, 1, 2), atol=1e-5)
    assert datamodule.labels.given.tolist() == [n % 4 for n in range(40)]
    assert datamodule.evaluation_splits == ["val_clean", "test"]
    (clean,) = datamodule.val_dataloader()["val_clean"]
    assert (clean.image.shape, clean.label.tolist()) == ((8, len(channels) * 3 or 1, 6, 6), [0, 1, 2, 3] * 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": np.ones((40, 14), int)}, r"\(40, 14\); one label for each sample .*ChestMNIST"),
        (
            {"val_images": pixels(8, 7, 7)},
            r"val_images has samples of the shape \(7, 7\), those of training have \(6, 6\)",
        ),
        (
            {f"{split}_images": pixels(count, 3, 6, 6) for split, count in (("train", 40), ("val", 8), ("test", 10))},
            r"\(3, 6, 6\); channels come last",
        ),
        ({"train_images": pixels(40, 36)}, r"train_images has the shape \(40, 36\); images are \(N, height, width\)"),
    ],
)
def test_other_image_arrays_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_arrays(str(medmnist(tmp_path, **changes)), "images")


def test_images_of_floats_and_of_one_value_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train_images has the type float64; images are uint8, from 0 to 255"):
        ready(medmnist(tmp_path, train_images=pixels(40, 6, 6) / 255), data="npz")
    with pytest.raises(DataError, match=r"all pixels of channel 0 have one value"):
        ready(medmnist(tmp_path, train_images=np.zeros((40, 6, 6), np.uint8)), data="npz")


def test_the_other_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no array train_features; .* for images choose data=npz"):
        read_arrays(str(medmnist(tmp_path)), "features")
    with pytest.raises(DataError, match=r"has no array train_images; .* for features choose data=features"):
        read_arrays(str(own(tmp_path)), "images")


def test_the_network_and_the_augmentation_work_on_measured_images(tmp_path: Path) -> None:
    short = (
        "model.widths=[4,4,4,4]",
        "trainer.max_epochs=1",
        "data.padding=1",
        "data.batch_size=20",
        "method=sln_mo_lc",
    )
    result = train(composed(medmnist(tmp_path, 3), *short, data="npz"), tmp_path / "run", [])
    assert result.rows["network"].clean_val_accuracy is not None
    assert result.preprocessing.mean == pytest.approx((pixels(40, 6, 6, 3) / 255).mean((0, 1, 2)).tolist())
