"""Published data sets with real noise, each on a small made copy with the traps of its layout."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from folders import put
from PIL import Image

from slnlab.config import check, compose
from slnlab.data import DecodedDataModule, StreamedDataModule
from slnlab.data.animal10n import Animal10N
from slnlab.data.decoding import Paths
from slnlab.data.food101n import Food101N
from slnlab.data.mini_imagenet import NoisyMiniImageNet
from slnlab.data.noisy_imagenette import NoisyImagenette
from slnlab.data.source import Split
from slnlab.data.tiny_imagenet import TinyImageNet
from slnlab.data.webvision import WebVision
from slnlab.diagnose import main as diagnose
from slnlab.errors import ConfigError, DataError
from slnlab.train import train

REAL = {"_target_": "slnlab.noise.clean", "name": "real", "rate": 0.0, "seed": 0}
DEFAULTS = {"batch_size": 4, "eval_batch_size": 4, "mean": [0.0] * 3, "std": [1.0] * 3}


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def names(paths: Paths) -> list[str]:
    return [paths.relative(row) for row in range(len(paths))]


def labels_of(source: Any, split: Split = "train") -> dict[str, int]:
    """Path → label."""
    paths, labels = source.load(split)
    assert labels.dtype == torch.int64
    return dict(zip(names(paths), labels.tolist(), strict=True))


def datamodule_of(source: Any, num_classes: int = 2) -> DecodedDataModule:
    data = DecodedDataModule(source, REAL, num_classes=num_classes, image_size=4, **DEFAULTS)
    data.prepare_data()
    data.setup()
    return data


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
    diagnose([str(tmp_path / "run")])
    assert ",training/" in (tmp_path / "run" / "diagnosis" / "issues.csv").read_text().splitlines()[1]
    with pytest.raises(SystemExit, match="--write: animal10n trains on its published labels only"):
        diagnose([str(tmp_path / "run"), "--write", str(tmp_path / "corrected.csv")])


# mini-WebVision


SYNSETS = ["n03000000", "n01000000", "n02000000", "n00500000"]
"""Not sorted: their order in info/synsets.txt is that of the labels."""


@pytest.fixture
def webvision(tmp_path: Path) -> Path:
    """Three of its four classes are used, with two training images each, and one for validation in each set."""
    root = tmp_path / "webvision"
    train = [f"google/q{n % 4:04d}/{n}.jpg" for n in range(8)]
    val = [f"val{n:06d}.jpg" for n in range(1, 5)]
    write(root / "info" / "synsets.txt", *(f"{synset} some names, of it" for synset in SYNSETS))
    write(root / "info" / "train_filelist_google.txt", *(f"{path} {n % 4}" for n, path in enumerate(train)))
    write(root / "info" / "val_filelist.txt", *(f"{path} {n % 4}" for n, path in enumerate(val)))
    put(root, *train, *(f"val_images_256/{path}" for path in val))
    put(root / "imagenet" / "val", *(f"{synset}/ILSVRC2012_val_{synset}.JPEG" for synset in SYNSETS))
    return root


def test_webvision_reads_the_first_classes_of_its_lists(webvision: Path) -> None:
    source = WebVision(str(webvision), classes=3)
    assert labels_of(source) == {f"google/q{n % 4:04d}/{n}.jpg": n % 4 for n in range(8) if n % 4 < 3}
    assert labels_of(source, "val_clean") == {f"val_images_256/val{n + 1:06d}.jpg": n for n in range(3)}


def test_ilsvrc12_gets_its_labels_from_the_list_of_synsets(webvision: Path) -> None:
    """In the order of the folders, n00500000 would be class 0."""
    found = labels_of(WebVision(str(webvision), classes=3), "test")
    assert {Path(path).parent.name: label for path, label in found.items()} == {
        "n03000000": 0,
        "n01000000": 1,
        "n02000000": 2,
    }


def test_missing_webvision_images_are_counted_before_training(webvision: Path) -> None:
    (webvision / "google" / "q0001" / "5.jpg").unlink()
    with pytest.raises(DataError) as error:
        WebVision(str(webvision), classes=3).load("train")
    assert "1 of 6 listed train images are missing, such as 'google/q0001/5.jpg'" in str(error.value)
    assert "data.source.missing=skip data.num_train=5" in str(error.value)
    assert len(labels_of(WebVision(str(webvision), classes=3, missing="skip"))) == 5
    with pytest.raises(ConfigError, match=r"data\.source\.missing"):
        check(compose(["data=mini_webvision", "data.source.missing=ignore"]))


def test_webvision_without_ilsvrc12_says_how_to_go_on(webvision: Path) -> None:
    """Its archive unpacks to one flat folder."""
    for folder in (webvision / "imagenet" / "val").iterdir():
        for image in folder.iterdir():
            image.rename(webvision / "imagenet" / "val" / image.name)
    source = WebVision(str(webvision), classes=3)
    with pytest.raises(DataError, match=r"n03000000: has no image of label 0.*folders of their synsets.*data\.test="):
        source.load("test")
    options = DEFAULTS | {"num_classes": 3, "image_size": 8, "padding": 1, "workers": 0}
    data = StreamedDataModule(source, REAL, test=False, **options)
    data.prepare_data()
    data.setup()
    assert data.evaluation_splits == ["val_clean"]


def test_corrupt_webvision_lists_are_named(webvision: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"WebVision 1\.0: it has no info/train_filelist.*non-commercial.*image-net"):
        WebVision(str(tmp_path), classes=3).prepare()
    info = webvision / "info"
    write(info / "synsets.txt", "tench", *SYNSETS)
    with pytest.raises(DataError, match=r"synsets\.txt: 'tench' is no synset"):
        WebVision(str(webvision), classes=3).load("test")
    write(info / "val_filelist.txt", "val000001.jpg 0", "val000002.jpg")
    with pytest.raises(DataError, match=r"val_filelist\.txt: line 2: must have 2 columns, has 1"):
        WebVision(str(webvision), classes=3).load("val_clean")
    write(info / "train_filelist_google.txt", "google/q0000/0.jpg zero")
    with pytest.raises(DataError, match=r"line 1: the label must be a number, found 'zero'"):
        WebVision(str(webvision), classes=3).load("train")


def test_the_class_names_of_mini_webvision_are_those_of_imagenet() -> None:
    from torchvision.models import ResNet50_Weights

    config = compose(["data=mini_webvision"])
    assert config.data.classes == ResNet50_Weights.IMAGENET1K_V1.meta["categories"][:50]
    assert not config.model.pretrained, "its weights would know the classes"


# Food-101N


DISHES = ["waffles", "apple_pie"]
"""Not sorted; the header of classes.txt must not become class 0."""


@pytest.fixture
def food(tmp_path: Path) -> Path:
    """Six images of each dish; people judged three of waffles, and one that the list has under another dish."""
    noisy, clean = tmp_path / "Food-101N_release", tmp_path / "food-101"
    images = [f"{dish}/{dish[0]}{n}.jpg" for dish in DISHES for n in range(6)]
    write(noisy / "meta" / "classes.txt", "class_name", *DISHES)
    write(noisy / "meta" / "imagelist.tsv", "class_name/key", *images)
    head = "class_name/key\tverification_label"
    write(noisy / "meta" / "verified_train.tsv", head, "waffles/w0.jpg\t1", "waffles/w1.jpg\t0", "waffles/a0.jpg\t1")
    write(noisy / "meta" / "verified_val.tsv", head, "waffles/w2.jpg\t0")
    write(clean / "meta" / "test.txt", "waffles/100", "apple_pie/200")
    write(clean / "meta" / "train.txt", "waffles/300")
    put(noisy / "images", *images)
    put(clean / "images", "waffles/100.jpg", "apple_pie/200.jpg", "waffles/300.jpg")
    return tmp_path


def test_food101n_skips_headers_and_adds_the_suffix_of_the_test_images(food: Path) -> None:
    source = Food101N(str(food), DISHES)
    found = labels_of(source)
    assert len(found) == 12
    assert {Path(path).parent.name: label for path, label in found.items()} == {"waffles": 0, "apple_pie": 1}
    test = {"food-101/images/waffles/100.jpg": 0, "food-101/images/apple_pie/200.jpg": 1}
    assert labels_of(source, "test") == test, "and none of Food-101's own training images"
    with pytest.raises(DataError, match=r"Food-101N has no clean validation images; data\.clean_val=false"):
        source.load("val_clean")


def test_verdicts_on_food101n_leave_out_the_image_that_is_not_listed(food: Path) -> None:
    where = "Food-101N_release/images/waffles"
    expected = {f"{where}/w0.jpg": True, f"{where}/w1.jpg": False, f"{where}/w2.jpg": False}
    assert Food101N(str(food), DISHES).verdicts() == expected


def test_other_classes_of_food101n_are_refused(food: Path) -> None:
    with pytest.raises(DataError, match=r"classes\.txt: 'apple_pie', 'pizza' must be in both"):
        Food101N(str(food), ["waffles", "pizza"]).load("train")
    write(food / "Food-101N_release" / "meta" / "imagelist.tsv", "class_name/key", "pizza/0.jpg")
    with pytest.raises(DataError, match=r"line 2: must be <class>/<image> of a class, found 'pizza/0\.jpg'"):
        Food101N(str(food), DISHES).load("train")
    classes = compose(["data=food101n"]).data.classes
    assert (len(classes), len(set(classes))) == (101, 101)


# Tiny-ImageNet


def test_tiny_imagenet_numbers_the_sorted_synsets(tmp_path: Path) -> None:
    """wnids.txt is unsorted, an image is grey, and the annotations say where the validation images belong."""
    write(tmp_path / "wnids.txt", "n09", "n01", "n05")
    put(tmp_path, *(f"train/{name}/images/{name}_{n}.JPEG" for name in ("n09", "n01", "n05") for n in range(2)))
    put(tmp_path / "val" / "images", "val_0.JPEG", "val_1.JPEG", "val_2.JPEG")
    put(tmp_path / "test" / "images", "test_0.JPEG")
    write(tmp_path / "train" / "n01" / "n01_boxes.txt", "n01_0.JPEG 0 0 9 9")
    Image.new("L", (1, 1), 9).save(tmp_path / "train" / "n01" / "images" / "n01_0.JPEG")
    boxes = [f"val_{n}.JPEG\t{name}\t0\t32\t44\t62" for n, name in enumerate(("n05", "n01", "n09"))]
    write(tmp_path / "val" / "val_annotations.txt", *boxes)
    source = TinyImageNet(str(tmp_path))
    assert {Path(path).name[:3]: label for path, label in labels_of(source).items()} == {"n01": 0, "n05": 1, "n09": 2}
    assert len(labels_of(source)) == 6
    assert labels_of(source, "test") == {f"val/images/val_{n}.JPEG": label for n, label in enumerate((1, 0, 2))}
    data = datamodule_of(source, 3)
    row = data.paths(torch.arange(6)).index("train/n01/images/n01_0.JPEG")
    assert data.reading([torch.tensor([row])])(0).pixels().unique().tolist() == [9]
    write(tmp_path / "val" / "val_annotations.txt", "val_0.JPEG\tn07\t0\t32\t44\t62")
    with pytest.raises(DataError, match=r"line 1: 'n07' is not in wnids\.txt"):
        source.load("test")


# Noisy Imagenette


@pytest.fixture
def imagenette(tmp_path: Path) -> Path:
    columns = ["path", *(f"noisy_labels_{percent}" for percent in (0, 1, 5, 25, 50)), "is_valid"]
    rows = [("train/n1/a.JPEG", "n1", "n1", "n2"), ("train/n2/b.JPEG", "n2", "n2", "n2")]
    lines = [f"{path},{true},{true},{true},{some},{half},False" for path, true, some, half in rows]
    lines.append("val/n2/c.JPEG,n2,n2,n2,n2,n1,True")
    write(tmp_path / "noisy_imagenette.csv", ",".join(columns), *lines)
    return put(tmp_path, "train/n1/a.JPEG", "train/n2/b.JPEG", "val/n2/c.JPEG")


def test_noisy_imagenette_trains_on_a_column_and_knows_the_truth(imagenette: Path) -> None:
    source = NoisyImagenette(str(imagenette), percent=50)
    assert labels_of(source) == {"train/n1/a.JPEG": 1, "train/n2/b.JPEG": 1}
    assert labels_of(NoisyImagenette(str(imagenette), percent=25)) == {"train/n1/a.JPEG": 0, "train/n2/b.JPEG": 1}
    assert labels_of(source, "test") == {"val/n2/c.JPEG": 1}, "the true label, whatever the noisy columns say"
    true = dict(zip(names(source.load("train").paths), source.true_labels().tolist(), strict=True))
    assert true == {"train/n1/a.JPEG": 0, "train/n2/b.JPEG": 1}
    with pytest.raises(ConfigError, match=r"data\.source\.percent"):
        check(compose(["data=noisy_imagenette", "data.source.percent=10"]))


@pytest.mark.parametrize("data", ["noisy_imagenette", "tiny_imagenet"])
def test_corrected_labels_of_a_published_set_train_the_next_run(data: str, tmp_path: Path) -> None:
    """Streamed images, and images decoded into memory."""
    from slnlab import load
    from slnlab.diagnose import main
    from slnlab.training import assemble

    overrides = [f"data={data}", f"data.source.root={tmp_path}", "data.num_classes=2", "data.num_train=8"]
    overrides += ["data.image_size=8", "model=cnn", "model.widths=[2,2,2,2]", "data.workers=0", "data.batch_size=4"]
    files = [f"train/n{n % 2}/images/n{n % 2}_{n}.JPEG" for n in range(8)]
    if data == "noisy_imagenette":
        header = ",".join(["path", *(f"noisy_labels_{percent}" for percent in (0, 1, 5, 25, 50)), "is_valid"])
        labels = [",".join([file, *[f"n{n % 2}"] * 5, "False"]) for n, file in enumerate(files)]
        write(tmp_path / "noisy_imagenette.csv", header, *labels, "val/v.JPEG,n0,n0,n0,n0,n0,True")
        overrides.append("data.classes=[n0,n1]")
        put(tmp_path, "val/v.JPEG")
    else:
        overrides = [each for each in overrides if "workers" not in each]
        write(tmp_path / "wnids.txt", "n0", "n1")
        write(tmp_path / "val" / "val_annotations.txt", "v.JPEG\tn0\t0\t32\t44\t62")
        put(tmp_path, "val/images/v.JPEG")
    put(tmp_path, *files)
    plain = ["method=ce", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false"]
    train(compose([*overrides, *plain, "noise=sym", "noise.rate=0.5"]), tmp_path / "run")
    main([str(tmp_path / "run"), "--write", str(file := tmp_path / "corrected.csv"), "--top", "3"])
    next_run = assemble.datamodule(compose([*overrides, *plain, "noise=csv", f"noise.path={file}"]))
    next_run.prepare_data()
    next_run.setup()
    before = load(tmp_path / "run").samples
    assert next_run.paths(torch.arange(8)) == before["path"].tolist()
    assert (next_run.labels.given.numpy() != before["given"]).sum() == 3


def test_imagewoof_has_a_file_of_another_name(imagenette: Path) -> None:
    (imagenette / "noisy_imagenette.csv").rename(imagenette / "noisy_imagewoof.csv")
    assert len(labels_of(NoisyImagenette(str(imagenette)))) == 2
    (imagenette / "noisy_imagewoof.csv").unlink()
    with pytest.raises(DataError, match=r"it has no noisy_imagenette\.csv or noisy_imagewoof\.csv.*fastai"):
        NoisyImagenette(str(imagenette)).prepare()


# Red and blue mini-ImageNet


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """Ten images of ImageNet. Red: four web images in place of four; blue .4: labels of two changed."""
    clean = {f"n{n:03d}.jpg": n % 2 for n in range(10)}
    web = {f"{n}abc.jpg": n % 2 for n in range(4)}
    red = dict(list(clean.items())[4:]) | web
    blue = {name: 1 - label if name in ("n000.jpg", "n005.jpg") else label for name, label in clean.items()}
    lists = {"red_noise_nl_0.0": clean, "red_noise_nl_0.4": red, "blue_noise_nl_0.0": clean, "blue_noise_nl_0.4": blue}
    for name, pairs in lists.items():
        write(tmp_path / "split" / name, *(f"{image} {label}" for image, label in pairs.items()))
    write(tmp_path / "split" / "clean_validation", "v0.jpg 0", "v1.jpg 1")
    return put(tmp_path, *(f"all_images/{name}" for name in clean | web), "validation/v0.jpg", "validation/v1.jpg")


def test_web_images_of_red_mini_imagenet_are_wrong_and_have_no_true_class(mini: Path) -> None:
    data = datamodule_of(NoisyMiniImageNet(str(mini), "red", 0.4))
    wrong = data.labels.wrong
    assert wrong is not None
    found = [path for path, is_wrong in zip(data.paths(torch.arange(10)), wrong.tolist(), strict=True) if is_wrong]
    assert sorted(found) == [f"all_images/{n}abc.jpg" for n in range(4)]
    assert data.noise_record is not None
    assert data.noise_record.realised_rate == 0.4


def test_blue_noise_is_less_than_its_level_says(mini: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        data = datamodule_of(NoisyMiniImageNet(str(mini), "blue", 0.4))
    assert data.noise_record is not None
    assert data.noise_record.realised_rate == 0.2
    assert "blue noise of level 0.4: 20.0 % of the labels are wrong" in caplog.text


def test_validation_images_of_mini_imagenet_may_lie_in_folders(mini: Path) -> None:
    source = NoisyMiniImageNet(str(mini))
    assert labels_of(source, "test") == {"validation/v0.jpg": 0, "validation/v1.jpg": 1}
    for label in (0, 1):
        (mini / "validation" / str(label)).mkdir()
        (mini / "validation" / f"v{label}.jpg").rename(mini / "validation" / str(label) / f"v{label}.jpg")
    assert labels_of(source, "test") == {"validation/0/v0.jpg": 0, "validation/1/v1.jpg": 1}
    with pytest.raises(DataError, match=r"data\.source\.level: there is no .*red_noise_nl_0\.7.*there are 0\.0, 0\.4"):
        NoisyMiniImageNet(str(mini), level=0.7).load("train")
    sizes = [compose(["data=red_mini_imagenet", f"data.source.level={level}"]).data.num_train for level in (0.2, 0.3)]
    assert sizes == [50000, 49985]


def test_the_diagnosis_of_food101n_is_scored_on_the_human_verdicts(food: Path, tmp_path: Path) -> None:
    from sklearn.metrics import roc_auc_score

    from slnlab import load
    from slnlab.diagnose import lines
    from slnlab.inference.diagnosis import diagnose

    overrides = ["data=food101n", f"data.source.root={food}", "data.num_classes=2", "data.classes=[waffles,apple_pie]"]
    overrides += ["data.num_train=12", "data.workers=0", "data.batch_size=4", "data.image_size=8", "data.padding=1"]
    overrides += ["model=cnn", "model.widths=[2,2,2,2]", "method=ce", "trainer.max_epochs=2", "trainer.accelerator=cpu"]
    train(compose([*overrides, "trainer.progress=false"]), tmp_path / "run")
    found = diagnose(load(tmp_path / "run"), images=False)
    judged = zip(found.columns["path"], found.columns["verdict"], strict=True)
    known = {Path(path).name: int(value) for path, value in judged if value >= 0}
    assert known == {"w0.jpg": 0, "w1.jpg": 1, "w2.jpg": 1}
    rows = [row for row, value in enumerate(found.columns["verdict"]) if value >= 0]
    wrong = [found.columns["verdict"][row] == 1 for row in rows]
    scores = found.suspicions["ema_loss"][rows]
    assert found.qualities()["ema_loss"].auroc == pytest.approx(roc_auc_score(wrong, scores))
    assert "people judged 3 of these labels: 66.7 % are wrong" in "\n".join(lines(found))
    (food / "Food-101N_release" / "meta" / "verified_val.tsv").unlink()
    without = diagnose(load(tmp_path / "run"), images=False)
    assert without.qualities() == {}
    assert any("without human verdicts" in remark for remark in without.remarks)


def test_a_run_on_red_mini_imagenet_is_diagnosed_against_its_web_images(mini: Path, tmp_path: Path) -> None:
    """The run's record of replaced images names no donors: the images are the data set's own."""
    from slnlab import load
    from slnlab.inference.images import run_images, training_probabilities

    overrides = ["data=red_mini_imagenet", f"data.source.root={mini}", "data.num_classes=2", "data.num_train=10"]
    overrides += ["data.batch_size=4", "data.image_size=8", "data.mean=[0.5,0.5,0.5]", "data.std=[1,1,1]", "method=ce"]
    overrides += ["model=cnn", "model.widths=[2,2,2,2]", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    result = train(compose([*overrides, "trainer.progress=false"]), tmp_path / "run")
    assert (result.label_noise["num_replaced"], result.label_noise["realised_rate"]) == (4, 0.4)
    run = load(tmp_path / "run")
    assert training_probabilities(run).shape == (10, 2)
    true = run_images(run).true
    assert true is not None
    assert (true == -1).tolist() == run.samples["wrong"].tolist()


def test_noise_by_a_clean_run_sees_small_images_at_their_size() -> None:
    from slnlab.training.probability_run import needed
    from slnlab.training.settling import settle

    (clean,) = needed(settle(compose(["data=tiny_imagenet", "noise=dependent", "data.image_size=32"])))
    assert (clean.spec.config.data.image_size, clean.spec.config.data.padding) == (32, 4)


def test_one_of_several_processes_decodes_without_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun: the first process prepares the run while the others wait for it, and they would not answer."""
    from slnlab.data.decoded import DecodedFiles
    from slnlab.data.decoding import Paths
    from slnlab.processes import distributed

    def answer(*_: object, **__: object) -> None:
        raise AssertionError("waits for the other processes")

    monkeypatch.setattr(distributed, "_together", object())
    monkeypatch.setattr(distributed.dist, "all_reduce", answer)
    put(tmp_path, "0.png", "1.png")
    files: Any = SimpleNamespace(name="two", load=lambda split: (Paths(tmp_path, ["0.png", "1.png"]), torch.arange(2)))
    assert DecodedFiles(files, 4).load("test").images.shape == (2, 3, 4, 4)


@pytest.mark.parametrize(("threads", "granted", "used"), [(1, 8, 1), (8, 2, 2)])
def test_images_are_decoded_by_the_threads_of_the_run(
    threads: int, granted: int, used: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs side by side share the cores."""
    from slnlab.data import decoded
    from slnlab.data.decoding import Paths

    pools: list[int] = []
    pool = decoded.ThreadPoolExecutor
    monkeypatch.setattr(decoded, "ThreadPoolExecutor", lambda number: (pools.append(number), pool(number))[1])
    monkeypatch.setattr(decoded, "cores", lambda: granted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    put(tmp_path, "0.png")
    files: Any = SimpleNamespace(name="one", load=lambda split: (Paths(tmp_path, ["0.png"]), torch.arange(1)))
    decoded.DecodedFiles(files, 4).load("test")
    assert pools == [used]
