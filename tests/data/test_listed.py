"""Labels of images in CSV files: a list of one's own images, and corrections of a folder's labels."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from folders import SMALL, composed, put
from omegaconf import OmegaConf
from PIL import Image

from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.data import IndexedDataModule
from slnlab.diagnose import main as diagnose
from slnlab.errors import ConfigError, DataError
from slnlab.image_folder.contents import ImageFolderContents
from slnlab.image_folder.listing import read_image_folder
from slnlab.train import train
from slnlab.training import assemble
from slnlab.training.settling import settle

ROWS = [f"img/{n}.png,{('cat', 'dog')[n % 2]}" for n in range(12)]


def listed(tmp_path: Path, *rows: str, header: str = "path,label", name: str = "list.csv") -> Path:
    """A list beside twelve images `img/0.png` … `img/11.png`."""
    put(tmp_path, *(f"img/{n}.png" for n in range(12)))
    (tmp_path / name).write_text("\n".join([header, *(rows or ROWS)]) + "\n", encoding="utf-8")
    return tmp_path / name


def read(file: Path) -> ImageFolderContents:
    return read_image_folder(str(file))


def labels(contents: ImageFolderContents, split: str = "train") -> dict[str, str]:
    return {p: contents.classes[c] for p, c in zip(*contents.splits[split], strict=True)}


def data_of(overrides: list[str]) -> IndexedDataModule:
    config = OmegaConf.create(container_of(compose(overrides)))
    check(config)
    datamodule = assemble.datamodule(config)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def of_list(file: Path, *overrides: str) -> list[str]:
    return ["data=csv", f"data.source.root={file}", "method=sln", *SMALL, *overrides]


def test_a_list_gives_paths_labels_and_splits(tmp_path: Path) -> None:
    splits = ["train"] * 8 + ["Validation", "dev", "test", "testing"]
    rows = [f"{row},{split}" for row, split in zip(ROWS, splits, strict=True)]
    contents = read(listed(tmp_path, *rows, header="path,label,split"))
    assert contents.classes == ["cat", "dog"]
    assert labels(contents) == dict(row.split(",") for row in ROWS[:8])
    assert labels(contents, "val_clean") == dict(row.split(",") for row in ROWS[8:10])
    assert labels(contents, "test") == dict(row.split(",") for row in ROWS[10:])
    data = container_of(compose(of_list(tmp_path / "list.csv")))["data"]
    assert (data["name"], data["num_train"], data["test"], data["clean_val"]) == ("csv", 8, True, True)


def test_other_programs_files_are_read(tmp_path: Path) -> None:
    """A byte order mark, Windows line ends, quotes, blanks, backslashes, accents, another order of columns."""
    put(tmp_path, "my photos/a, b.png", "my photos/café.png", "x.png")
    text = 'label,path\r\n cat ,"my photos/a, b.png"\r\n"dog",my photos\\caf\u0065\u0301.png\r\ndog,./x.png\r\n\r\n'
    (tmp_path / "list.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = labels(read(tmp_path / "list.csv"))
    assert found == {"my photos/a, b.png": "cat", "my photos/café.png": "dog", "x.png": "dog"}
    absolute = tmp_path / "absolute.csv"
    absolute.write_text(f"path,label\n{tmp_path}/x.png,a\nmy photos/café.png,b\n", encoding="utf-8")
    assert labels(read(absolute)) == {"x.png": "a", "my photos/café.png": "b"}


def test_integers_are_ordered_by_value(tmp_path: Path) -> None:
    rows = [f"img/{n}.png,{(2, 10, 1)[n % 3]}" for n in range(12)]
    assert read(listed(tmp_path, *rows)).classes == ["1", "2", "10"]


def test_annotators_vote_on_the_given_label(tmp_path: Path) -> None:
    rows = ["img/0.png,dog,ann", "img/0.png,cat,bob", "img/0.png,cat,eve", "img/1.png,dog,ann", "img/1.png,cat,bob"]
    contents = read(listed(tmp_path, *rows, "img/2.png,dog,ann", header="path,label,annotator"))
    assert labels(contents) == {"img/0.png": "cat", "img/1.png": "dog", "img/2.png": "dog"}
    assert contents.remarks == [
        "1 image(s) have several labels with equally many votes; by majority the first listed counts"
    ]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("path,split", ["a,b"], r"line 1 has no column 'label'; its columns are 'path', 'split'"),
        ("path,label,label", ["a,b,c"], r"line 1 has a column twice"),
        ("path,label", [ROWS[0], "img/1.png"], r"line 3: must have 2 columns, has 1"),
        ("path,label", [ROWS[0], "img/1.png,dog,x"], r"line 3: must have 2 columns, has 3"),
        ("path,label", [ROWS[0], "img/1.png, "], r"line 3: the column 'label' is empty"),
        ("path,label", [ROWS[0], "img/99.png,dog"], r"line 3: there is no file 'img/99.png' in .*, the folder of the"),
        ("path,label", [*ROWS[:3], "./img/1.png,cat"], r"line 5: a second row of './img/1.png'; the first is line 3"),
        ("path,label", ROWS[::2], r"the training images have 1 class\(es\) \('cat'\); at least 2 are needed"),
        ("path,label", [ROWS[0], "img/1.png,${x}"], r"line 3: .* would be read as a reference"),
        (
            "path,label,split",
            ["img/0.png,cat,holdout"],
            r"line 2: the split 'holdout' is not allowed: train, val, test",
        ),
        (
            "path,label,split",
            [*(f"{row},train" for row in ROWS[:4]), "img/5.png,owl,test"],
            r"line 6: no training image has the label 'owl'; their 2 classes are 'cat', 'dog'",
        ),
        ("path,label,true_label", [f"{ROWS[0]},cat", f"{ROWS[1]},"], r"line 3: the column 'true_label' is empty"),
        ("path,label,annotator", [f"{ROWS[0]},ann"] * 2, r"line 3: a second row of 'img/0.png' by the annotator 'ann'"),
        (
            "path,label,annotator,split",
            [f"{ROWS[0]},ann,train", f"{ROWS[0]},bob,test"],
            r"line 3: 'img/0.png' has another split, true_label or weight than in line 2",
        ),
    ],
)
def test_a_faulty_list_is_refused_with_its_line(tmp_path: Path, header: str, rows: list[str], message: str) -> None:
    file = listed(tmp_path, *rows, header=header)
    with pytest.raises(DataError, match=rf"list.csv: {message}"):
        read(file)
    with pytest.raises((ConfigError, DataError), match=message):
        check(compose(of_list(file)))


def test_an_empty_or_foreign_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    for content, message in (
        (b"", r"line 1 has no column 'path', 'label'"),
        (b"path,label\n", r"has no row below its header"),
        (b"path,label\na.png,\xff\n", r"is no CSV text file: b'\\xff' in line 2 is not UTF-8"),
        ("path,label\n".encode("utf-16"), r"is no CSV text file"),
    ):
        file.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read(file)
    with pytest.raises(DataError, match=r"'.*x.txt' is no folder, and no .csv file"):
        read_image_folder(str(tmp_path / "x.txt"))


def test_unused_columns_and_missing_classes_are_remarked(tmp_path: Path) -> None:
    rows = [*(f"{row},train,1" for row in ROWS[:6]), f"{ROWS[6]},test,1"]
    contents = read(listed(tmp_path, *rows, header="path,label,split,age"))
    assert contents.remarks == ["the columns 'age' are not used", "test has no image of 'dog'"]


def test_true_labels_make_the_noise_known(tmp_path: Path) -> None:
    rows = [f"{row},{'dog' if n == 0 else row.split(',')[1]}" for n, row in enumerate(ROWS)]
    file = listed(tmp_path, *rows, header="path,label,true_label")
    real = data_of(of_list(file))
    assert real.labels.wrong is not None
    assert [path for path, bad in zip(real.paths(real.train_index) or [], real.labels.wrong, strict=True) if bad] == [
        "img/0.png"
    ]
    assert real.noise_summary()["num_wrong"] == 1
    none = data_of(of_list(file, "noise=none"))
    assert none.noise_summary()["num_wrong"] == 0
    assert none.labels.given.tolist() == real.labels.true.tolist()


def test_weights_are_read_and_corrected(tmp_path: Path) -> None:
    rows = [f"{row},{0.5 if n < 2 else ''}" for n, row in enumerate(ROWS)]
    file = listed(tmp_path, *rows, header="path,label,weight")
    assert read(file).weights == {"img/0.png": 0.5, "img/1.png": 0.5}
    labels = corrections(tmp_path, "img/1.png,dog,", "img/2.png,cat,0", header="path,label,weight")
    assert read_image_folder(str(file), labels=str(labels)).weights == {"img/0.png": 0.5, "img/2.png": 0}
    without = corrections(tmp_path, "img/0.png,,", "img/1.png,,0.5", header="path,label,weight")
    assert read_image_folder(str(file), labels=str(without)).weights == {}, "images left out have none"
    with pytest.raises(
        ConfigError, match=r"data.source.root: has a column weight, which method=dividemix does not use"
    ):
        check(OmegaConf.create(container_of(compose([*of_list(file), "method=dividemix", "method.warm_up_epochs=1"]))))


def test_identity_follows_images_and_labels(tmp_path: Path) -> None:
    def group(file: Path) -> str:
        return settle(compose(of_list(file))).group

    first = group(listed(tmp_path / "a"))
    assert group(listed(tmp_path / "b")) == first
    assert group(listed(tmp_path / "c", *ROWS[:-1], "img/11.png,cat")) != first
    other = listed(tmp_path / "d")
    Image.new("RGB", (1, 1), (9, 9, 9)).save(tmp_path / "d" / "img" / "0.png")
    assert group(other) != first


def test_a_run_on_a_list_reports_its_paths(tmp_path: Path) -> None:
    rows = [f"{row},{row.split(',')[1]},{'test' if n > 9 else 'train'}" for n, row in enumerate(ROWS)]
    file = listed(tmp_path, *rows, header="path,label,true_label,split")
    short = ("trainer.max_epochs=1", "data.batch_size=5", "model.widths=[4,4,4,4]")
    result = train(compose(of_list(file, *short, "data.unreadable=skip")), tmp_path / "run", [])
    assert result.label_noise["realised_rate"] == 0.0
    issues = (tmp_path / "run" / "label_issues.csv").read_text(encoding="utf-8")
    assert all(f"img/{n}.png" in issues for n in range(10))

    def lines() -> dict[str, int]:
        diagnose([str(tmp_path / "run"), "--no-images"])
        with (tmp_path / "run" / "diagnosis" / "issues.csv").open(encoding="utf-8", newline="") as table:
            return {row["path"]: int(row["line"]) for row in csv.DictReader(table)}

    assert lines() == {f"img/{n}.png": n + 2 for n in range(10)}, "the header is line 1"
    listed(tmp_path, *rows[1:], header="path,label,true_label,split")
    assert lines() == {f"img/{n}.png": n + 1 if n else 0 for n in range(10)}, "its first image has left the list"


# Corrections


def corrections(tmp_path: Path, *rows: str, header: str = "path,label,note") -> Path:
    (tmp_path / "corrected.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return tmp_path / "corrected.csv"


def test_corrections_override_a_folders_labels(folder: Path, tmp_path: Path) -> None:
    file = corrections(tmp_path, "train/cat/3.png,dog,x", "train/dog/1.png,,drop", "train/dog/2.png,dog,same")
    before, after = read_image_folder(str(folder)), read_image_folder(str(folder), labels=str(file))
    expected = {**labels(before), "train/cat/3.png": "dog"}
    del expected["train/dog/1.png"]
    assert list(labels(after).items()) == list(expected.items()), "the order stays"
    assert after.splits["test"] == before.splits["test"]
    assert after.remarks[-1].endswith("corrected.csv changes 1 label(s) and leaves out 1 image(s)")
    datamodule = data_of(composed(folder, *SMALL, f"data.labels={file}"))
    assert datamodule.labels.given.tolist() == after.splits["train"].labels
    assert datamodule.noise_record is None, "corrected labels may still be wrong"


def test_corrections_may_leave_a_class_empty_that_was_empty_before(tmp_path: Path) -> None:
    """A class that only true labels have has no training image, with and without corrections."""
    for name in ("a", "b", "c"):
        Image.new("L", (4, 4), ord(name)).save(tmp_path / f"{name}.png")
    (tmp_path / "list.csv").write_text("path,label,true_label\na.png,x,x\nb.png,y,rare\nc.png,y,y\n")
    file = corrections(tmp_path, "b.png,x,")
    found = read_image_folder(str(tmp_path / "list.csv"), labels=str(file)).splits["train"]
    assert dict(zip(*found, strict=True)) == {"a.png": 1, "b.png": 1, "c.png": 2}
    with pytest.raises(DataError, match="leaves no training image of 'x'"):
        read_image_folder(str(tmp_path / "list.csv"), labels=str(corrections(tmp_path, "a.png,y,")))


def test_corrections_are_part_of_the_identity(folder: Path, tmp_path: Path) -> None:
    def group(*overrides: str) -> str:
        return settle(compose(composed(folder, *overrides))).group

    file = corrections(tmp_path, "train/cat/3.png,dog,")
    first = group(f"data.labels={file}")
    assert first != group()
    corrections(tmp_path, "train/cat/4.png,dog,")
    assert group(f"data.labels={file}") != first


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["train/cat/77.png,dog,"], r"line 2: 'train/cat/77.png' is no training image; paths are relative to"),
        (["test/cat/a.png,dog,"], r"line 2: 'test/cat/a.png' is no training image"),
        (["train/cat/3.png,owl,"], r"line 2: there is no class 'owl'; the classes are 'cat', 'dog'"),
        (["train/cat/3.png,dog,"] * 2, r"line 3: a second row of 'train/cat/3.png'"),
        ([f"train/dog/{n}.png,cat," for n in range(6)], r"leaves no training image of 'dog'"),
        (["train/cat/3.png,dog"], r"line 2: must have 3 columns, has 2"),
        (["train/cat/3.png,dog,1.5"], r"line 2: the weight '1.5' is no number in \[0, 1\]"),
        (["train/cat/3.png,dog,", "train/cat/4.png,dog,nan"], r"line 3: the weight 'nan' is no number"),
        (["train/cat/3.png,dog,half"], r"line 2: the weight 'half' is no number"),
    ],
)
def test_faulty_corrections_are_refused(folder: Path, tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=rf"corrected.csv: {message}"):
        read_image_folder(str(folder), labels=str(corrections(tmp_path, *rows, header="path,label,weight")))


def test_a_correction_changes_the_image_that_it_names(tmp_path: Path) -> None:
    """Two names of one look: composed and decomposed letters. Another program may have written either for one image."""
    composed_name, decomposed = "é.png", "e\u0301.png"
    root = put(tmp_path / "images", f"cat/{composed_name}", f"cat/{decomposed}", "cat/ö.png", "dog/0.png", "dog/1.png")
    (tmp_path / "new.csv").write_text(f"path,label\ncat/{decomposed},dog\ncat/o\u0308.png,dog\n", encoding="utf-8")
    contents = read_image_folder(str(root), labels=str(tmp_path / "new.csv"))
    assert labels(contents) == {
        f"cat/{composed_name}": "cat",
        f"cat/{decomposed}": "dog",
        "cat/ö.png": "dog",
        "dog/0.png": "dog",
        "dog/1.png": "dog",
    }


def test_labels_of_a_file_and_of_a_correction_do_not_mix(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("path,label\ntrain/dog/0.png,cat\n")
    (tmp_path / "noisy.csv").touch()
    words = [f"data.labels={tmp_path / 'new.csv'}", "noise=csv", f"noise.path={tmp_path / 'noisy.csv'}"]
    with pytest.raises(ConfigError, match=r"data\.labels: noise=csv has labels of its own; noise=real trains on"):
        check(compose([*composed(folder, *SMALL), *words]))


def test_corrections_need_image_files(tmp_path: Path) -> None:
    config: Any = compose(["data=digits", f"+data.labels={corrections(tmp_path, 'a,b,c')}"])
    with pytest.raises(ConfigError, match=r"data.labels: overrides the labels of your own data .*, not of digits"):
        check(config)


@pytest.mark.slow
def test_a_list_of_a_million_rows_is_read(tmp_path: Path) -> None:
    """Twelve images, each named a hundred thousand times by other annotators: a long list of few files."""
    rows = (f"img/{n % 12}.png,{('cat', 'dog')[n % 12 % 2]},{n // 12}" for n in range(1_000_000))
    contents = read(listed(tmp_path, *rows, header="path,label,annotator"))
    assert labels(contents) == {f"img/{n}.png": ("cat", "dog")[n % 2] for n in range(12)}
