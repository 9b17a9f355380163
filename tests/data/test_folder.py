"""A folder of images of one's own: what is read, what is refused, and a run that lists the wrong labels."""

from __future__ import annotations

import csv
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from slnlab import assemble
from slnlab.config import check, compose
from slnlab.data import IndexedDataModule
from slnlab.errors import ConfigError, DataError
from slnlab.identity import group_hash, identity
from slnlab.image_folder import read_image_folder
from slnlab.plain import plain
from slnlab.probability_run import clean_run
from slnlab.source_runs import source_runs
from slnlab.train import train


def put(root: Path, *names: str) -> Path:
    """Images of one pixel each."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1, 1), (number % 256, 0, 0)).save(root / name)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with ten and six images, one of them in a folder of its own, and a test set."""
    cats = [f"train/cat/{n}.png" for n in range(9)] + ["train/cat/old/9.JPG"]
    dogs = [f"train/dog/{n}.png" for n in range(6)]
    return put(tmp_path / "images", *cats, *dogs, "test/cat/a.png", "test/dog/a.png", "test/dog/b.png")


def composed(folder: Path, *overrides: str) -> list[str]:
    return ["data=folder", f"data.source.root={folder}", "method=sln", *overrides]


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_labels_are_torchvisions(folder: Path, split: str) -> None:
    reference = datasets.ImageFolder(str(folder / split))
    contents = read_image_folder(str(folder))
    assert contents.classes == reference.classes
    paths, labels = contents.splits[split]
    found = {str(folder / path): label for path, label in zip(paths, labels, strict=True)}
    assert found == dict(reference.samples)
    assert len(paths) == len(found)


def test_what_is_hidden_is_no_image_and_no_class(folder: Path) -> None:
    before = read_image_folder(str(folder))
    put(folder, "train/.ipynb_checkpoints/a.png", "train/cat/._3.png", "train/cat/.thumbs/3.png")
    (folder / "train" / "cat" / "notes.txt").write_text("mostly cats")
    after = read_image_folder(str(folder))
    assert (after.classes, after.splits, after.digest) == (before.classes, before.splits, before.digest)
    assert after.left_out == {"hidden": 1, ".txt": 1}


def test_the_first_images_are_a_sample_of_all_and_the_same_everywhere(tmp_path: Path) -> None:
    names = [f"{kind}/{n}.png" for kind in ("a", "b", "c") for n in range(40)]
    here = read_image_folder(str(put(tmp_path / "here", *names)))
    there = read_image_folder(str(put(tmp_path / "there", *reversed(names))))
    assert here == there
    counts = np.bincount(here.splits["train"].labels[:60], minlength=3)
    assert counts.min() >= 12, "20 of each are expected, with a standard deviation of 2.6"


def test_without_train_all_of_it_is_for_training(folder: Path) -> None:
    contents = read_image_folder(str(folder / "train"))
    assert [len(contents.splits[split].paths) for split in ("train", "val_clean", "test")] == [16, 0, 0]
    config = compose(composed(folder / "train"))
    check(config)
    assert (config.data.test, config.data.clean_val, config.data.num_train) == (False, False, 16)


def test_the_configuration_knows_what_is_there(folder: Path) -> None:
    config = plain(compose(composed(folder)))
    data = config["data"]
    assert (data["num_classes"], data["classes"], data["num_train"]) == (2, ["cat", "dog"], 16)
    assert (data["test"], data["clean_val"]) == (True, False)
    assert config["model"]["num_classes"] == 2
    put(folder, "val/cat/1.png")
    assert plain(compose(composed(folder)))["data"]["clean_val"] is True


def test_another_label_is_another_run_and_another_place_is_not(folder: Path, tmp_path: Path) -> None:
    for inside in folder.rglob("*/"):
        os.utime(inside, (0, 0))  # a file system may tell the time in steps
    before = group_hash(compose(composed(folder)))
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert group_hash(compose(composed(moved))) == before
    (folder / "train" / "cat" / "old" / "9.JPG").rename(folder / "train" / "dog" / "9.JPG")
    put(folder, "train/cat/old/8.JPG")
    assert group_hash(compose(composed(folder))) != before
    (folder / "train" / "dog" / "9.JPG").rename(folder / "train" / "cat" / "old" / "9.JPG")
    (folder / "train" / "cat" / "old" / "8.JPG").unlink()
    assert group_hash(compose(composed(folder))) == before


SMALL = ("model=cnn", "data.image_size=8", "data.padding=1", "data.workers=0", "trainer.accelerator=cpu")
SMALL += ("trainer.progress=false", "optimizer.lr=0.02")


def test_images_that_come_while_it_trains_are_not_its_own(folder: Path, tmp_path: Path) -> None:
    config = compose(composed(folder, *SMALL, "trainer.max_epochs=2"))
    before = identity(config)

    def watch(row: dict[str, float]) -> None:
        put(folder, "train/cat/new.png", "train/owl/1.png")

    result = train(config, tmp_path / "run", watch=watch)
    assert result.identity == before
    assert identity(config)["data"]["num_classes"] == 3, "they are another run's"


def test_images_that_come_before_it_trains_are_noticed(folder: Path, tmp_path: Path) -> None:
    """While a run that it needs first was made, say."""
    config = OmegaConf.create(plain(compose(composed(folder, *SMALL))))
    (folder / "train" / "cat" / "0.png").unlink()
    with pytest.raises(DataError, match=f"^{folder}: images have come, gone or been moved since this run was config"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(("key", "name"), [("clean_val", "val"), ("test", "test")])
def test_a_split_that_is_not_there_is_named(folder: Path, tmp_path: Path, key: str, name: str) -> None:
    shutil.rmtree(folder / "test")
    with pytest.raises(DataError, match=f"^data.{key}: {folder} has no {name}/; data.{key}=false"):
        train(compose(composed(folder, *SMALL, f"data.{key}=true")), tmp_path / "run")


def test_links_are_followed_but_not_in_circles(folder: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "1.png", "2.png")
    (folder / "train" / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    assert len(read_image_folder(str(folder)).splits["train"].paths) == 16 + 2
    (folder / "train" / "cat" / "up").symlink_to(folder / "train" / "cat")
    with pytest.raises(DataError, match=r"cat/up: is a link back to .*cat, which it lies in"):
        read_image_folder(str(folder))


def test_a_first_stage_may_have_images_of_its_own(folder: Path, tmp_path: Path) -> None:
    other = put(tmp_path / "other", *(f"{kind}/{n}.png" for kind in ("cat", "dog") for n in range(11)))
    both = composed(folder, "method=sigua", "method.forget_rate=0.2", "init.from=sln")
    (same,) = source_runs(compose(both))
    assert same.identity["data"] == identity(compose(both))["data"]
    (its_own,) = source_runs(compose([*both, f'init.overrides=["data.source.root={other}"]']))
    assert its_own.config is not None
    assert its_own.config.data.num_train == 22
    assert its_own.config.data.source.contents == read_image_folder(str(other)).digest


def test_steps_of_an_epoch_that_only_the_labels_know_are_refused(folder: Path) -> None:
    balanced = composed(folder, "method=elr_plus", "data.sampling=balanced")
    with pytest.raises(ConfigError, match=r"^method.ramp_steps: None is not allowed: must be given, or data.per_class"):
        check(compose(balanced))
    config = compose([*balanced, "data.per_class=5", "data.batch_size=4"])
    check(config)
    assert config.method.ramp_steps == int(0.57 * 20 * 3), "10 images are 3 batches"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "' is no folder"),
        (["train/cat/1.png"], "/train: wants a folder for each class, at least 2, and has 1"),
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
        (["photos/cat/1.png", "photos/dog/1.png"], ": wants .* at least 2, and has 1; did you mean .*photos"),
        (["val/a/1.png", "cat/1.png", "dog/1.png"], " has val/ but no train/. If it is a class, put all classes into"),
        (["a/1.png", "b/1.png", "b /1.png"], ": the folders 'b ' and 'b' have one name but for its encoding or blanks"),
        (["train/A/1.png", "train/a/1.png", "test/ä/1.png"], "/test: 'ä' is no class"),
    ],
)
def test_what_cannot_be_used_is_said_while_the_configuration_is_composed(
    tmp_path: Path, names: list[str], message: str
) -> None:
    put(tmp_path / "images", *names)
    where = f"(data.source.root: )?'?{tmp_path}/images"
    with pytest.raises(ConfigError, match=f"^{where}{message}"):
        plain(compose(composed(tmp_path / "images")))


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


@pytest.mark.parametrize("names", [("train", "car", "bus"), ("test", "control"), ("dev", "val", "prod")])
def test_a_class_may_be_called_as_a_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    """CIFAR-100 has the class train."""
    contents = read_image_folder(str(put(tmp_path / "images", *(f"{name}/1.png" for name in names))))
    assert contents.classes == sorted(names)
    inside = read_image_folder(str(put(tmp_path / "split", *(f"train/{name}/1.png" for name in names))))
    assert inside.classes == sorted(names)


def test_what_is_an_image_is_seen_where_its_name_does_not_say(tmp_path: Path) -> None:
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
def test_names_of_a_class_that_look_alike_are_one_class(tmp_path: Path, train: str, test: str) -> None:
    root = put(tmp_path / "images", f"train/{train}/1.png", "train/dog/1.png", f"test/{test}/1.png", "test/dog/1.png")
    contents = read_image_folder(str(root))
    assert unicodedata.normalize("NFC", train).strip() in contents.classes
    assert sorted(contents.splits["test"].labels) == [0, 1]


def test_a_name_that_may_be_either_of_two_classes_is_refused(tmp_path: Path) -> None:
    root = put(tmp_path / "images", "train/A/1.png", "train/a/1.png", "test/a /1.png")
    assert read_image_folder(str(root)).remarks == [
        "the classes 'A', 'a' differ by case only",
        "test/ has no image of 'A'",
    ]
    put(root, "test/a/1.png")
    with pytest.raises(DataError, match=r"test: 'a ' and 'a' are both the class 'a'|test: 'a' and 'a ' are both"):
        read_image_folder(str(root))


def test_a_name_that_is_no_utf8_is_a_class_that_can_be_written_down(folder: Path) -> None:
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


def test_a_folder_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^data.source.root: must be given"):
        plain(compose(["data=folder"]))


@pytest.mark.parametrize("noise", ["part_dependent", "open_set", "human"])
def test_noise_that_needs_the_images_is_refused(folder: Path, noise: str) -> None:
    options = {"open_set": ["+noise.donor._target_=x"], "human": [f"noise.path={folder}", "noise.annotation=worse"]}
    with pytest.raises(ConfigError, match=f"{noise} .* those of folder stay in their files"):
        check(compose(composed(folder, f"noise={noise}", *options.get(noise, []))))


def streamed(folder: Path, *overrides: str) -> IndexedDataModule:
    """The data of a run, as it would train on them."""
    config = OmegaConf.create(plain(compose(composed(folder, *SMALL, *overrides))))
    check(config)
    datamodule = assemble.datamodule(config)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


def test_labels_that_are_true_may_be_spoiled(folder: Path) -> None:
    clean = streamed(folder, "noise=none")
    assert clean.noise_record is not None
    assert clean.noise_summary()["num_wrong"] == 0
    assert clean.table["true"].tolist() == read_image_folder(str(folder)).splits["train"].labels
    for noise, rate in ((["noise=sym", "noise.rate=0.5"], 0.5), (["noise=asym", "noise.class_map={cat: dog}"], 0.25)):
        spoiled = streamed(folder, *noise)
        assert spoiled.noise_record is not None
        assert torch.equal(spoiled.table["true"], clean.table["true"])
        assert torch.equal(spoiled.table["wrong"], spoiled.table["given"] != spoiled.table["true"])
        assert abs(spoiled.noise_record.realised_rate - rate) < 0.2
    again = folder / "noise.npz"
    spoiled.noise_record.save(again)
    assert torch.equal(streamed(folder, "noise=run", f"noise.path={again}").table["given"], spoiled.table["given"])


def test_given_labels_may_be_in_a_csv_file_by_path(folder: Path, tmp_path: Path) -> None:
    paths, true = read_image_folder(str(folder)).splits["train"]
    file = tmp_path / "labels.csv"

    def table(rows: list[str], header: str = "label,path,note") -> Path:
        file.write_text("\n".join([header, *rows]) + "\n")
        return file

    names = [
        "dog" if path.endswith("3.png") else ("cat", "dog")[label] for path, label in zip(paths, true, strict=True)
    ]
    rows = [f"{name},./{path},x" for name, path in zip(names, paths, strict=True)]
    table([*sorted(rows), "cat,test/cat/a.png,"])
    found = streamed(folder, "noise=csv", f"noise.path={file}")
    assert found.table["given"].tolist() == [("cat", "dog").index(name) for name in names]
    assert int(found.table["wrong"].sum()) == 1
    by_number = table([("0" if row.startswith("cat") else "1") + row[3:] for row in rows])
    again = streamed(folder, "noise=csv", f"noise.path={by_number}", "data.train_size=12")
    assert again.table["given"].tolist() == found.table["given"].tolist()[:12]
    owl = ["owl" + rows[0][3:], *rows[1:]]
    for bad, header, message in (
        (
            rows[1:],
            "label,path,note",
            f"no row of 1 of 16 training images, such as '{paths[0]}'; the column path holds",
        ),
        ([*rows, rows[0]], "label,path,note", f"line 18: a second row of '{paths[0]}'"),
        (owl, "label,path,note", r"line 2: there is no class 'owl'; the classes are 'cat', 'dog'"),
        (rows, "label,label_noisy", r"line 1 must be a header with the columns 'path' and 'label', as these"),
        (["cat"], "label,path,note", r"line 2: must have 3 columns, has 1"),
    ):
        with pytest.raises(DataError, match=message):
            streamed(folder, "noise=csv", f"noise.path={table(bad, header)}")


def test_noise_that_depends_on_the_images_is_made_by_the_same_network_on_the_same_images(
    folder: Path, tmp_path: Path
) -> None:
    put(folder, *(f"train/{kind}/more{n}.png" for kind in ("cat", "dog") for n in range(20)))
    chosen = ["noise=dependent", "noise.rate=0.25", "trainer.max_epochs=1", f"runs_dir={tmp_path}"]
    config = compose(composed(folder, *SMALL, *chosen, "method=ce"))
    config.noise.clean_run.append("trainer.max_epochs=1")
    clean = clean_run(config)
    assert (clean.model.name, clean.data.image_size, clean.data.padding) == ("cnn", 8, 1)
    result = train(config)
    assert result.label_noise["num_wrong"] == int(0.25 * 56)
    assert result.evaluators["network"].labels.memorised is not None


@pytest.mark.parametrize(
    ("overrides", "epochs", "milestones", "decay", "last"),
    [
        (["model=cnn"], 60, [30, 45], round(1 - 1 / int(0.05 * 60 * 13), 4), 10),
        (["model=cnn", "trainer.max_epochs=6"], 6, [3, 4], round(1 - 1 / int(0.05 * 6 * 13), 4), 1),
        (["model=cnn", "trainer.max_epochs=1"], 1, [1, 1], 0.0, 1),
        (["model=cnn", "trainer.max_epochs=9000"], 9000, [4500, 6750], 0.999, 1530),
        (["model.pretrained=false"], 60, [30, 45], round(1 - 1 / int(0.05 * 60 * 13), 4), 10),
        ([], 20, [10], round(1 - 1 / int(0.05 * 20 * 13), 4), 10),
        (["trainer.max_epochs=8"], 8, [4], 0.8, 4),
    ],
)
def test_the_schedule_is_of_how_the_network_starts_and_of_how_long_the_run_is(
    folder: Path, overrides: list[str], epochs: int, milestones: list[int], decay: float, last: int
) -> None:
    put(folder, *(f"train/cat/more{n}.png" for n in range(400 - 16)))
    config = compose(composed(folder, "method=sln_mo_lc", *overrides))
    check(config)
    found = plain(config)
    assert (found["trainer"]["max_epochs"], found["scheduler"]["milestones"]) == (epochs, milestones)
    assert (found["momentum"]["decay"], found["correction"]["last_epochs"]) == (decay, last)
    assert found["optimizer"]["lr"] == (0.001 if len(milestones) == 1 else 0.02)


def test_a_run_lists_the_labels_that_are_wrong(tmp_path: Path) -> None:
    """Images of the digits 0 to 3, of which a fifth lie in another one's folder."""
    images, digits = load_digits(n_class=4, return_X_y=True)
    rng = np.random.default_rng(0)
    wrong, root = set(), tmp_path / "images"
    for number, (pixels, digit) in enumerate(zip(images, digits, strict=True)):
        split = "train" if number < 600 else "test"
        misfiled = split == "train" and rng.random() < 0.2
        label = (digit + rng.integers(1, 4)) % 4 if misfiled else digit
        path = root / split / ["zero", "one", "two", "three"][label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels.reshape(8, 8) * 15).astype(np.uint8)).save(path)
        if misfiled:
            wrong.add(str(path.relative_to(root)))
    small = [*SMALL, "data.flip=false", "trainer.max_epochs=10", "momentum.decay=0.9"]
    config = compose(composed(root, *small, "method=sln_mo_lc", "correction.last_epochs=2"))
    result = train(config, tmp_path / "run")
    assert result.evaluators["momentum"].test_accuracy.last > 0.9  # type: ignore[union-attr]
    with (tmp_path / "run" / "label_issues.csv").open(newline="") as file:
        issues = list(csv.DictReader(file))
    listed = [issue["path"] for issue in issues]
    assert len(set(listed) & wrong) / len(wrong) > 0.8, "found"
    assert len(set(listed) & wrong) / len(listed) > 0.8, "and few that are right"
    assert [issue["given_label"] for issue in issues] == [Path(path).parts[1] for path in listed]
    qualities = [float(issue["label_quality"]) for issue in issues]
    assert qualities == sorted(qualities)
    with np.load(tmp_path / "run" / "samples.npz") as samples:
        assert {os.fsdecode(samples["path"][int(issue["index"])]) for issue in issues} == set(listed)
        assert len(samples["path"]) == 600


def test_a_data_set_of_ones_own_may_be_made_from_it(folder: Path, tmp_path: Path) -> None:
    """Under its own name: its keys are those of the class that reads it."""
    conf = tmp_path / "conf" / "data"
    conf.mkdir(parents=True)
    (conf / "pets.yaml").write_text(
        "# @package _global_\n"
        "defaults: [folder, _self_]\n"
        f"data: {{name: pets, image_size: 64, source: {{root: '{folder}'}}}}\n"
    )
    mine = ["hydra.searchpath=[" + str(tmp_path / "conf") + "]", "data=pets"]
    for method in ("pes_semi", "dividemix", "co_teaching_plus", "cores2"):  # which have values of their own for folder
        config, reference = (plain(compose([*data, f"method={method}"])) for data in (mine, composed(folder)[:2]))
        assert config["method"] == reference["method"]
    config = compose([*mine, "method=sln"])
    check(config)
    config.data.sampling = "random"
    with pytest.raises(ConfigError, match=r"data.sampling: 'random' is not allowed: input should be 'standard' or"):
        check(config)
