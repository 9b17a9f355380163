"""A user's image folder: its files, its refusals, and a run that lists suspected labels."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from folders import SMALL, composed, put
from omegaconf import OmegaConf
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.errors import ConfigError, DataError
from slnlab.image_folder.listing import read_image_folder
from slnlab.train import train
from slnlab.training import assemble
from slnlab.training.settling import settle


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_equal_torchvisions_image_folder(folder: Path, split: str) -> None:
    reference = datasets.ImageFolder(str(folder / split))
    contents = read_image_folder(str(folder))
    assert contents.classes == reference.classes
    paths, labels = contents.splits[split]
    found = {str(folder / path): label for path, label in zip(paths, labels, strict=True)}
    assert found == dict(reference.samples)
    assert len(paths) == len(found)


def test_hidden_files_and_folders_are_ignored(folder: Path) -> None:
    before = read_image_folder(str(folder))
    put(folder, "train/.ipynb_checkpoints/a.png", "train/cat/._3.png", "train/cat/.thumbs/3.png")
    (folder / "train" / "cat" / "notes.txt").write_text("mostly cats")
    after = read_image_folder(str(folder))
    assert (after.classes, after.splits) == (before.classes, before.splits)
    assert after.left_out == {"hidden": 2, ".txt": 1}


def test_train_size_takes_the_same_random_sample_everywhere(tmp_path: Path) -> None:
    names = [f"{kind}/{n}.png" for kind in ("a", "b", "c") for n in range(40)]
    here = read_image_folder(str(put(tmp_path / "here", *names)))
    there = read_image_folder(str(put(tmp_path / "there", *reversed(names))))
    assert here._replace(top=there.top) == there
    counts = np.bincount(here.splits["train"].labels[:60], minlength=3)
    assert counts.min() >= 12, "20 of each are expected, with a standard deviation of 2.6"


def test_a_folder_without_splits_is_all_for_training(folder: Path) -> None:
    contents = read_image_folder(str(folder / "train"))
    assert [len(contents.splits[split].paths) for split in ("train", "val_clean", "test")] == [16, 0, 0]
    config = compose(composed(folder / "train"))
    check(config)
    assert (config.data.test, config.data.clean_val, config.data.num_train) == (False, False, 16)


def test_the_configuration_reads_the_folders_facts(folder: Path) -> None:
    config = container_of(compose(composed(folder)))
    data = config["data"]
    assert (data["num_classes"], data["classes"], data["num_train"]) == (2, ["cat", "dog"], 16)
    assert (data["test"], data["clean_val"]) == (True, False)
    assert config["model"]["num_classes"] == 2
    own = ["data=folder", f"data.source.root={folder}", "model=cnn"]
    large, small = (compose([*own, f"data.image_size={size}"]) for size in (224, 32))
    assert (large.data.padding, small.data.padding) == (16, 2)
    put(folder, "val/cat/1.png")
    assert container_of(compose(composed(folder)))["data"]["clean_val"] is True


def test_moving_an_image_changes_the_identity_moving_the_folder_does_not(folder: Path, tmp_path: Path) -> None:
    for inside in folder.rglob("*/"):
        os.utime(inside, (0, 0))  # a file system may tell the time in steps
    before = settle(compose(composed(folder))).group
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert settle(compose(composed(moved))).group == before
    (folder / "train" / "cat" / "old" / "9.JPG").rename(folder / "train" / "dog" / "9.JPG")
    put(folder, "train/cat/old/8.JPG")
    assert settle(compose(composed(folder))).group != before
    (folder / "train" / "dog" / "9.JPG").rename(folder / "train" / "cat" / "old" / "9.JPG")
    (folder / "train" / "cat" / "old" / "8.JPG").unlink()
    assert settle(compose(composed(folder))).group == before


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    """Grey of 12 bits and more in 16: training images of 1000 to 2275, test images of 1000 and 3550."""
    for name in ("train/ill/a", "train/well/a", "test/ill/a", "test/well/a"):
        path = tmp_path / "xrays" / f"{name}.png"
        path.parent.mkdir(parents=True)
        grey = np.repeat([1000, 1510 if "ill" in name else 2275 if "train" in name else 3550], 50)
        Image.fromarray(np.repeat(grey[:, None], 100, 1).astype(np.uint16)).save(path)
    return tmp_path / "xrays"


def test_the_range_of_deep_images_is_that_of_training(xrays: Path) -> None:
    """The configuration holds it for evaluation, resumed runs and predictions."""
    config = compose(composed(xrays, *SMALL, "data.mean=[0,0,0]", "data.std=[1,1,1]", "data.eval_batch_size=2"))
    assert container_of(config)["data"]["pixel_range"] == [1000, 2275]
    assert settle(config).identity["data"]["pixel_range"] == [1000, 2275]
    datamodule = assemble.datamodule(OmegaConf.create(container_of(config)))
    datamodule.setup()
    darks, brights = [], []
    for batch in datamodule.evaluation_batches("test"):
        darks += [round(dark * 255, 3) for dark in batch.image[:, 0, 0, 0].tolist()]
        brights += [round(bright * 255, 3) for bright in batch.image[:, 0, -1, -1].tolist()]
    assert darks == [0, 0]
    assert brights == [102, 255], "the same value as in training, and what is brighter than anything there"


def test_the_range_of_deep_images_can_be_configured(xrays: Path, folder: Path) -> None:
    said = composed(xrays, *SMALL, "data.pixel_range=[0,4095]")
    assert settle(compose(said)).identity["data"]["pixel_range"] == [0, 4095]
    assert settle(compose(said)).group != settle(compose(composed(xrays, *SMALL))).group
    put(xrays, "train/ill/8_bits.png")
    with pytest.raises(ConfigError, match=r"data.pixel_range: the images have different .*8_bits.png has 8 bits"):
        container_of(compose(composed(xrays, *SMALL)))
    check(compose(said))
    assert container_of(compose(composed(folder)))["data"]["pixel_range"] is None
    for wrong in ("[5,1]", "[1]", "[0,inf]", "[0,1,2]"):
        with pytest.raises(ConfigError, match=r"^data.pixel_range: .*must be \[BLACK, WHITE\], two numbers"):
            check(compose(composed(folder, f"data.pixel_range={wrong}")))


def test_background_changes_the_identity_and_time_limits_do_not(folder: Path) -> None:
    before = settle(compose(composed(folder))).group
    assert settle(compose(composed(folder, "data.read_timeout=null"))).group == before
    assert settle(compose(composed(folder, "data.background=black"))).group != before
    with pytest.raises(ConfigError, match=r"^data.background: 'red' is not allowed: .*'white', 'grey' or 'black'"):
        check(compose(composed(folder, "data.background=red")))


def test_images_added_during_training_are_ignored(folder: Path, tmp_path: Path) -> None:
    config = compose(composed(folder, *SMALL, "trainer.max_epochs=2"))
    before = settle(config).identity

    def watch(row: dict[str, float]) -> None:
        put(folder, "train/cat/new.png", "train/owl/1.png")

    result = train(config, tmp_path / "run", watch=watch)
    assert result.identity == before
    assert settle(config).identity["data"]["num_classes"] == 3, "they are another run's"


def test_images_replaced_during_training_are_noticed(folder: Path, tmp_path: Path) -> None:
    """Its epochs have seen both, so its result would be of neither."""

    def watch(row: dict[str, float]) -> None:
        Image.new("RGB", (1, 1), (9, 9, 9)).save(folder / "train" / "cat" / "0.png")

    with pytest.raises(DataError, match=r"'train/cat/0.png' changed while the run trained, .* force=true"):
        train(compose(composed(folder, *SMALL, "trainer.max_epochs=2")), tmp_path / "run", watch=watch)
    assert not (tmp_path / "run" / "result.json").exists()


def test_images_added_before_training_are_noticed(folder: Path, tmp_path: Path) -> None:
    """While a run that it needs first was made, say."""
    config = settle(compose(composed(folder, *SMALL)))
    (folder / "train" / "cat" / "0.png").unlink()
    with pytest.raises(DataError, match=f"^data.source: {folder} has changed since this run was configured"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(("key", "name"), [("clean_val", "val"), ("test", "test")])
def test_a_missing_split_is_named(folder: Path, tmp_path: Path, key: str, name: str) -> None:
    shutil.rmtree(folder / "test")
    with pytest.raises(DataError, match=f"^data.{key}: {folder} has no {name} images; data.{key}=false"):
        train(compose(composed(folder, *SMALL, f"data.{key}=true")), tmp_path / "run")


def test_links_are_followed_without_cycles(folder: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "1.png", "2.png")
    (folder / "train" / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    assert len(read_image_folder(str(folder)).splits["train"].paths) == 16 + 2
    (folder / "train" / "cat" / "up").symlink_to(folder / "train" / "cat")
    with pytest.raises(DataError, match=r"cat/up: is a link back to .*cat, which it lies in"):
        read_image_folder(str(folder))


def test_a_first_stage_can_use_other_images(folder: Path, tmp_path: Path) -> None:
    other = put(tmp_path / "other", *(f"{kind}/{n}.png" for kind in ("cat", "dog") for n in range(11)))
    both = composed(folder, "method=sigua", "method.forget_rate=0.2", "init.from=sln")
    (same,) = settle(compose(both)).sources
    assert same.identity["data"] == settle(compose(both)).identity["data"]
    (its_own,) = settle(compose([*both, f'init.overrides=["data.source.root={other}"]'])).sources
    assert its_own.spec is not None
    assert its_own.spec.config.data.num_train == 22
    assert its_own.spec.config.data.source.root == str(other)
    assert its_own.identity["data"]["source"] != same.identity["data"]["source"]


def test_settings_that_need_the_label_counts_are_refused(folder: Path) -> None:
    balanced = composed(folder, "method=elr_plus", "data.sampling=balanced")
    with pytest.raises(ConfigError, match=r"^method.ramp_steps: None is not allowed: must be given, or data.per_class"):
        check(compose(balanced))
    config = compose([*balanced, "data.per_class=5", "data.batch_size=4"])
    check(config)
    assert config.method.ramp_steps == int(0.57 * 20 * 3), "10 images are 3 batches"


def test_a_balanced_epoch_without_a_class_is_refused(folder: Path) -> None:
    """A class with one image, which may be held out."""
    first, *others = sorted(path for path in (folder / "train" / "cat").rglob("*") if path.is_file())
    for other in others:
        other.unlink()
    words = composed(folder, "data.sampling=balanced", "data.noisy_val=3", "data.batch_size=2")
    messages = []
    for seed in range(8):
        data = assemble.datamodule(compose([*words, f"data.split_seed={seed}"]))
        try:
            data.setup()
        except ConfigError as error:
            messages.append(str(error))
    assert messages, f"{first} is never held out, or this test shows nothing"
    assert len(messages) < 8
    assert set(messages) == {
        "data.sampling: balanced, but no training image of folder has the label cat; choose standard"
    }


def test_file_names_outside_utf8_can_be_corrected(folder: Path, tmp_path: Path) -> None:
    """The file is what `slnlab diagnose --write` makes."""
    image = sorted((folder / "train" / "cat").iterdir())[0]
    odd = image.with_name(os.fsdecode(b"im\xff0.png"))
    image.rename(odd)
    file = tmp_path / "corrected.csv"
    file.write_bytes(b"path,label\n" + os.fsencode(odd.relative_to(folder)) + b",dog\n")
    data = assemble.datamodule(compose(composed(folder, f"data.labels={file}")))
    data.setup()
    assert list(data.corrections()) == [str(odd.relative_to(folder))]


def test_a_folder_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^data.source.root: must be given"):
        container_of(compose(["data=folder"]))


def test_a_run_lists_suspected_labels(tmp_path: Path) -> None:
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
    assert result.rows["momentum"].test_accuracy.last > 0.9  # type: ignore[union-attr]
    with (tmp_path / "run" / "label_issues.csv").open(newline="", encoding="utf-8") as file:
        ranked = list(csv.DictReader(file))
    assert {row["path"] for row in ranked} == set(read_image_folder(str(root)).splits["train"][0]), "all, once"
    assert len(ranked) == 600
    issues = [row for row in ranked if row["is_label_issue"] == "True"]
    first = {row["path"] for row in ranked[: len(wrong)]}
    assert len(first & wrong) / len(wrong) > 0.8, "wrong ones first"
    assert result.label_issues is not None
    assert result.label_issues.model_dump(include={"judge", "samples", "suspected", "verdict"}) == {
        "judge": "momentum",
        "samples": 600,
        "suspected": len(issues),
        "verdict": "usable",
    }
    listed = [issue["path"] for issue in issues]
    assert len(set(listed) & wrong) / len(wrong) > 0.8, "found"
    assert len(set(listed) & wrong) / len(listed) > 0.8, "and few that are right"
    assert [issue["given_label"] for issue in issues] == [Path(path).parts[1] for path in listed]
    past = [float(row["mean_probability"]) for row in ranked]
    assert past == sorted(past)
    with np.load(tmp_path / "run" / "samples.npz") as samples:
        assert {os.fsdecode(samples["path"][int(issue["index"])]) for issue in issues} == set(listed)
        assert len(samples["path"]) == 600


def test_a_users_data_set_can_subclass_the_folder(folder: Path, tmp_path: Path) -> None:
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
        config, reference = (
            container_of(compose([*data, f"method={method}"])) for data in (mine, composed(folder)[:2])
        )
        assert config["method"] == reference["method"]
    config = compose([*mine, "method=sln"])
    check(config)
    config.data.sampling = "random"
    with pytest.raises(ConfigError, match=r"data.sampling: 'random' is not allowed: input should be 'standard' or"):
        check(config)
