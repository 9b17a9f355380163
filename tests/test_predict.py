"""Predictions of a finished run equal its own evaluation; unusable input is refused."""

from __future__ import annotations

import csv
import itertools
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor, nn

import slnlab
from slnlab import predict
from slnlab.config import compose
from slnlab.data.augment import Normalise
from slnlab.data.decoding import Decoder, Paths
from slnlab.data.digits import Digits
from slnlab.errors import ConfigError, DataError, SlnlabError
from slnlab.inference.preprocessing import Probabilities, pixels
from slnlab.record.checkpoints import best_weights
from slnlab.record.result import Preprocessing
from slnlab.train import train

TINY = ("data.train_size=300", "trainer.accelerator=cpu", "trainer.progress=false", "model.widths=[8,8,16,16]")

RUNS = {
    "sln": ("method=sln", "momentum.decay=0.9", "trainer.max_epochs=2"),
    "two": ("method=co_teaching", "momentum.enabled=true", "momentum.decay=0.9", "trainer.max_epochs=2"),
    "best": ("method=early_stopping", "data.noisy_val=50", "trainer.max_epochs=6", "optimizer.lr=0.5"),
}

Done = Callable[[str], Path]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The directory of a finished run on digits; each is done once."""
    made: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / "run"
            train(compose([*TINY, *RUNS[name]]), made[name])
        return made[name]

    return run


@pytest.fixture
def copied(done: Done, tmp_path: Path) -> Path:
    """A run of its own, to spoil."""
    return shutil.copytree(done("sln"), tmp_path / "copied")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of many shapes in two classes, half of them for testing."""
    folder, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number, (split, kind) in enumerate(itertools.product(("train", "test"), ("cat", "dog") * 8)):
        height, width = generator.integers(9, 40, 2)
        values = generator.integers(0, 256, (height, width, 3), dtype=np.uint8) // (2 if kind == "cat" else 1)
        path = folder / split / kind / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return folder


@pytest.fixture(scope="module")
def streamed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on them: images stream from disk."""
    small = ["model=cnn", "data.image_size=8", "data.padding=1", "data.workers=0", "optimizer.lr=0.02"]
    quiet = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false", "method=sln"]
    directory = tmp_path_factory.mktemp("streamed") / "run"
    train(compose(["data=folder", f"data.source.root={photos}", *small, *quiet]), directory)
    return directory


def accuracy(labels: list[str], true: Tensor) -> float:
    return sum(label == str(number) for label, number in zip(labels, true.tolist(), strict=True)) / len(labels)


# The same numbers


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("sln", ["network", "momentum"]),
        ("two", ["network", "network_2", "ensemble", "momentum", "momentum_2"]),
        ("best", ["network", "best"]),
    ],
)
def test_predictions_equal_those_of_the_runs_evaluation(name: str, choices: list[str], done: Done) -> None:
    test, training = Digits().load("test"), Digits().load("train")
    for weights in choices:
        run = slnlab.load(done(name), weights)
        assert list(run.choices) == choices
        evaluated = run.result.rows[weights].test_accuracy
        assert evaluated is not None
        labels, probabilities = run.predict(test.images)
        assert accuracy(labels, test.labels) == evaluated.last
        assert labels == [run.classes[number] for number in probabilities.argmax(1)]
        rows = run.samples["index"]
        _, probabilities = run.predict(training.images[rows])
        assert (probabilities.argmax(1) == run.samples[f"{weights}_prediction"]).all()
        own = np.arange(len(rows)), run.samples["given"]
        given = probabilities[own]
        probabilities[own] = 0
        expected = given / (given + probabilities.max(1))
        np.testing.assert_allclose(expected, run.samples["label_quality"], rtol=1e-3)


@pytest.mark.parametrize(("name", "weights"), [("sln", "momentum"), ("two", "ensemble"), ("best", "best")])
def test_the_default_weights_are_those_of_label_issues(name: str, weights: str, done: Done) -> None:
    run = slnlab.load(done(name))
    assert run.weights == weights
    with (done(name) / "label_issues.csv").open() as file:
        listed = {int(row["index"]): row for row in csv.DictReader(file)}
    table = run.samples
    assert listed
    for index, quality, prediction in zip(
        table["index"], table["label_quality"], table[f"{weights}_prediction"], strict=True
    ):
        if index in listed:
            assert float(listed[index]["label_quality"]) == pytest.approx(quality, rel=1e-3)
            assert listed[index]["predicted_label"] == run.classes[prediction]


def test_best_and_last_weights_differ(done: Done) -> None:
    best, last = (slnlab.load(done("best"), weights).model.state_dict() for weights in ("best", "network"))
    stored = best_weights(torch.load(done("best") / "checkpoints" / "last.ckpt", weights_only=True))
    assert all(torch.equal(best[name], stored[name]) for name in stored)
    assert any(not torch.equal(best[name], last[name]) for name in stored)


@pytest.mark.parametrize("name", ["sln", "two"])
def test_the_model_is_a_plain_module(name: str, done: Done) -> None:
    run = slnlab.load(done(name))
    assert isinstance(run.model, nn.Module)
    assert not any(isinstance(module, pl.LightningModule) or module.training for module in run.model.modules())
    assert all(parameter.requires_grad for parameter in run.model.parameters()), "to be trained further"
    images = Digits().load("test").images[:7]
    logits = run.model(Normalise(run.config.data.mean, run.config.data.std)(images))
    np.testing.assert_array_equal(logits.softmax(1).detach().numpy(), run.predict(images).probabilities)


def test_streamed_files_are_preprocessed_as_in_evaluation(streamed: Path, photos: Path) -> None:
    run = slnlab.load(streamed)
    paths = sorted(photos.glob("test/*/*.png"))
    labels, _ = run.predict(paths)
    right = np.mean([path.parent.name == label for path, label in zip(paths, labels, strict=True)])
    evaluated = run.result.rows[run.weights].test_accuracy
    assert evaluated is not None
    assert right == evaluated.last
    assert run.preprocessing == Preprocessing(
        resize=(10, 10), crop=(8, 8), mean=list(run.config.data.mean), std=list(run.config.data.std)
    )
    assert set(run.samples["path"]) == {str(path.relative_to(photos)) for path in photos.glob("train/*/*.png")}


@pytest.mark.parametrize(
    "size", [(10, 10), (11, 10), (30, 17), (17, 30), (3, 3), (1, 1), (1, 200), (200, 1), (999, 500)]
)
def test_a_file_has_the_pixels_of_training(size: tuple[int, int], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    expected = Decoder(Paths(tmp_path, ["a.png"]), 10)(0)
    assert torch.equal(pixels(tmp_path / "a.png", Preprocessing(resize=(10, 10), crop=(8, 8), **RGB)), expected)


RGB = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def test_every_pixel_is_normalised_as_in_training() -> None:
    """Bit for bit, of every value; and the middle is cut out of an even and of an odd margin."""
    values = torch.arange(256, dtype=torch.uint8).repeat(3)[: 3 * 16 * 16].view(1, 3, 16, 16)
    for side in (16, 14, 13):
        seen = []
        network = nn.Module()
        network.forward = lambda image, seen=seen: seen.append(image) or image.flatten(1)  # type: ignore[method-assign]
        Probabilities(network, Preprocessing(resize=(16, 16), crop=(side, side), **RGB))(values)
        first = (16 - side) // 2
        middle = values[:, :, first : first + side, first : first + side]
        assert torch.equal(seen[0], Normalise(RGB["mean"], RGB["std"])(middle))


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "jpg"), ("L", "tif"), ("I;16", "png"), ("I;16", "tif"), ("F", "tif"), ("RGBA", "png")]
)
def test_a_pillow_image_has_the_pixels_of_its_file(
    mode: str, suffix: str, orientation: int, loaded: bool, tmp_path: Path
) -> None:
    """Orientation, depth and transparency too."""
    values = np.random.default_rng(0).integers(0, 256, (9, 14, {"RGB": 3, "RGBA": 4}.get(mode, 1)), dtype=np.uint8)
    kind = {"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8)
    exif, path = Image.Exif(), tmp_path / f"x.{suffix}"
    exif[0x0112] = orientation
    Image.fromarray(values.astype(kind).squeeze()).save(path, exif=exif)
    how = Preprocessing(resize=(8, 8), crop=(8, 8), pixel_range=[20, 200], background="grey", **RGB)
    expected = pixels(path, how)
    with Image.open(path) as image:
        assert image.mode == mode
        if loaded and not (suffix == "tif" and orientation == 6):  # Pillow itself spoils these: see `image_files.load`
            image.load()
        assert torch.equal(pixels(image, how), expected)
        assert torch.equal(pixels(image, how), expected), "the image is as it was"


def test_an_unreadable_pillow_image_is_named(tmp_path: Path) -> None:
    how = Preprocessing(resize=(8, 8), crop=(8, 8), **RGB)
    path = tmp_path / "x.png"
    Image.fromarray(np.arange(10_000, dtype=np.uint16).reshape(100, 100)).save(path)
    with Image.open(path) as image, pytest.raises(DataError, match=rf"^{path}: has more than 8 bits"):
        pixels(image, how)
    path.write_bytes(path.read_bytes()[:200])
    with Image.open(path) as image, pytest.raises(DataError, match=rf"^{path}: is no readable image"):
        pixels(image, how)


# What may be given


def test_every_form_of_an_image_gives_one_prediction(done: Done, tmp_path: Path) -> None:
    run, image = slnlab.load(done("sln")), Digits().load("test").images[3]
    grey = Image.fromarray(image[0].numpy())
    forms = {"grey": grey, "colour": grey.convert("RGB"), "palette": grey.convert("P")}
    for name, form in forms.items():
        form.save(tmp_path / f"{name}.png")
    given = [
        image[None],
        image[None].numpy(),
        image.permute(1, 2, 0)[None],
        image.numpy(),  # (N, H, W) of one
        grey,
        [grey],
        iter([grey]),
        *(form for form in forms.values()),
        *(tmp_path / f"{name}.png" for name in forms),
        str(tmp_path / "grey.png"),
        np.array([str(tmp_path / "grey.png")]),
        np.array([tmp_path / "grey.png"], dtype=object),
        image[None].numpy()[..., ::-1].copy()[..., ::-1],  # of negative strides
        np.frombuffer(image.numpy().tobytes(), np.uint8).reshape(1, 1, 8, 8),  # not writable
    ]
    expected = run.predict(image[None])
    for form in given:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            labels, probabilities = run.predict(form)
        assert labels == expected.labels
        np.testing.assert_array_equal(probabilities, expected.probabilities)


def test_an_array_of_another_size_is_resized_as_a_file_is(streamed: Path, photos: Path) -> None:
    run, path = slnlab.load(streamed), next(photos.glob("test/*/*.png"))
    array = np.array(Image.open(path))[None]
    for form in (array, array.transpose(0, 3, 1, 2)):
        np.testing.assert_array_equal(run.predict(form).probabilities, run.predict(path).probabilities)


@pytest.mark.parametrize("size", [1, np.int64(7), 500])
def test_the_batch_size_changes_nothing_but_rounding(size: int, done: Done) -> None:
    run, images = slnlab.load(done("two")), Digits().load("test").images[:20]
    np.testing.assert_allclose(
        run.predict(images, batch_size=size).probabilities, run.predict(images).probabilities, atol=1e-6
    )


def test_an_empty_input_gives_an_empty_prediction(done: Done) -> None:
    for nothing in ([], np.zeros((0, 1, 8, 8), np.uint8)):
        labels, probabilities = slnlab.load(done("sln")).predict(nothing)
        assert labels == []
        assert probabilities.shape == (0, 10)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 1, 8, 8), "must be uint8, from 0 to 255, not torch.float32"),
        (np.zeros((2, 3, 8, 8), np.uint8), "must be (N, 1, height, width) or (N, height, width, 1), not (2, 3, 8, 8)"),
        (np.zeros((8, 8), np.uint8), "not (8, 8)"),
        (np.zeros((28, 28, 3), np.uint8), "(28, 28, 3) looks like one image (height, width, channels)"),
        (np.zeros((28, 28, 1), np.uint8), "(28, 28, 1) looks like one image (height, width, channels)"),
        (np.array([b"grey.png"]), "must be paths, Pillow images, or one array of all, not bytes"),
        (np.zeros((2, 1, 0, 8), np.uint8), "not (2, 1, 0, 8)"),
        ([np.zeros((8, 8), np.uint8)], "must be paths, Pillow images, or one array of all, not ndarray"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images: object, message: str, done: Done) -> None:
    with pytest.raises(ConfigError) as error:
        slnlab.load(done("sln")).predict(images)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_an_unreadable_file_raises_in_python(done: Done, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    run = slnlab.load(done("sln"))
    for name, reason in (("bad.png", "is no readable image"), ("gone.png", "no such file")):
        with pytest.raises(DataError, match=f"{name}: {reason}"):
            run.predict([tmp_path / name])
    with pytest.raises(ConfigError, match="batch_size: must be at least 1, not 0"):
        run.predict([], batch_size=0)


# What cannot be loaded


def spoil(run: Path, how: str) -> None:
    last = run / "checkpoints" / "last.ckpt"
    if how == "unfinished":
        (run / "result.json").unlink()
    elif how == "removed":
        last.unlink()
    elif how == "truncated":
        last.write_bytes(last.read_bytes()[:1000])
    elif how == "earlier":
        last.with_name("previous.ckpt").replace(last)
    elif how == "another":
        content = torch.load(last, weights_only=True)
        content["slnlab"]["identity"] = "0" * 10
        torch.save(content, last)
    elif how == "network":
        config = OmegaConf.load(run / "config.yaml")
        config.model.widths = [4, 4, 4, 4]
        OmegaConf.save(config, run / "config.yaml")
    elif how == "no yaml":
        (run / "config.yaml").write_text("{")
    elif how == "elsewhere":
        config = OmegaConf.load(run / "config.yaml")
        config.method._target_ = "their_own.Method"
        OmegaConf.save(config, run / "config.yaml")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("unfinished", r"copied: is not finished; the command that began it continues it"),
        ("removed", r"copied: has lost its weights: checkpoints/last.ckpt is missing"),
        ("truncated", r"last.ckpt: is truncated, damaged, or no checkpoint at all"),
        ("earlier", r"last.ckpt: holds epoch 1, but the result is of epoch 2"),
        ("another", r"last.ckpt: belongs to another configuration"),
        ("network", r"last.ckpt: does not hold the weights of config.yaml: .*size mismatch"),
        ("no yaml", r"config.yaml: cannot be read"),
        ("elsewhere", r"method._target_: their_own.Method cannot be imported"),
    ],
)
def test_an_unusable_run_is_refused_with_the_reason(how: str, message: str, copied: Path) -> None:
    slnlab.load(copied)  # before
    spoil(copied, how)
    with pytest.raises(SlnlabError, match=f"(?s){message}"):
        slnlab.load(copied)


def test_a_directory_without_a_run_is_refused(copied: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, message in (
        (tmp_path / "gone", "is no directory of a run"),
        (copied / "result.json", "is no directory of a run"),
        (empty, "holds no run; no config.yaml"),
        (tmp_path, f"holds no run; there are runs in {copied}"),
    ):
        with pytest.raises(DataError) as error:
            slnlab.load(path)
        assert f"{path}: {message}" == str(error.value)


def test_unknown_weights_and_devices_are_refused(done: Done) -> None:
    with pytest.raises(ConfigError, match=r"^weights: .* has no 'ensemble'; it has network, momentum$"):
        slnlab.load(done("sln"), weights="ensemble")
    for device in ("gpu", "cuda:99"):
        with pytest.raises(ConfigError, match=f"^device: {device} cannot be used"):
            slnlab.load(done("sln"), device=device)


def test_a_compiled_gpu_run_loads_on_a_cpu(copied: Path) -> None:
    images, config = Digits().load("test").images, OmegaConf.load(copied / "config.yaml")
    before = slnlab.load(copied).predict(images)
    config.trainer.accelerator, config.trainer.devices, config.trainer.compile = "gpu", 8, True
    OmegaConf.save(config, copied / "config.yaml")
    np.testing.assert_array_equal(slnlab.load(copied).predict(images).probabilities, before.probabilities)


class Executed:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


def test_loading_a_checkpoint_executes_no_code(copied: Path, tmp_path: Path) -> None:
    trace, last = tmp_path / "trace", copied / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    torch.save({**torch.load(last, weights_only=True), "more": Executed(trace)}, last)
    with pytest.raises(DataError, match="holds more than tensors and plain values, and is not executed"):
        slnlab.load(copied)
    last.write_bytes(whole)
    config = OmegaConf.load(copied / "config.yaml")
    for section in ("model", "method"):
        other = config.copy()
        other[section] = {"_target_": "subprocess.Popen", "args": ["touch", str(trace)], "name": "x", "title": "x"}
        OmegaConf.save(other, copied / "config.yaml")
        with pytest.raises(ConfigError, match=rf"^{section}._target_: subprocess.Popen is no "):
            slnlab.load(copied)
    assert not trace.exists()


# The command


def run_command(*words: object) -> int:
    try:
        predict.main([str(word) for word in words])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    return 0


@pytest.fixture
def pile(tmp_path: Path) -> Path:
    """A folder with what a folder holds."""
    folder, images = tmp_path / "pile", Digits().load("test").images
    names = ["b.png", "a.PNG", "deep/er/c.bmp", 'odd, "name".png', os.fsdecode(b"latin-\xe9.png"), ".hidden.png"]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number, 0].numpy()).save(folder / name)
    (folder / ".thumbs").mkdir()
    shutil.copy(folder / "b.png", folder / ".thumbs" / "b.png")
    (folder / "notes.txt").write_text("no image, and does not say so")
    (folder / "up").symlink_to(folder)
    return folder


def test_predictions_of_a_folder_are_one_table(
    done: Done, pile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.csv"
    (pile / "deep" / "broken.jpg").write_bytes(b"no image")
    (pile / "empty.png").touch()
    os.mkfifo(pile / "pipe.png")
    code = run_command(done("sln"), pile, "-o", out, "--all", "--batch-size", 2, "--device", "cpu")
    assert code == predict.SOME_UNREADABLE
    with out.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [os.path.relpath(row["path"], pile) for row in rows]
    assert found == ["a.PNG", "b.png", "deep/er/c.bmp", os.fsdecode(b"latin-\xe9.png"), 'odd, "name".png']
    run = slnlab.load(done("sln"))
    labels, probabilities = run.predict([row["path"] for row in rows])
    for row, label, each in zip(rows, labels, probabilities, strict=True):
        assert row["predicted_label"] == label
        assert float(row["probability"]) == pytest.approx(each.max(), rel=1e-4)
        assert [float(row[f"probability_{name}"]) for name in run.classes] == pytest.approx(list(each), rel=1e-4)
    said = capsys.readouterr().err
    assert f"5 images classified by SLN-MO (momentum): {out}" in said
    assert "left out of the folders, as they are no images: 1 " in said
    assert "3 could not be read:" in said
    assert "1 .txt" in said
    assert "1 no regular file" in said
    for what in ("broken.jpg: is no readable image", "empty.png: is no readable image", "up: is a link back to"):
        assert what in said


def test_without_a_file_the_table_goes_to_stdout(
    done: Done, pile: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(done("sln"), pile / "b.png", "--weights", "network") == 0
    head, line = capfdbinary.readouterr().out.decode().splitlines()
    assert head == "path,predicted_label,probability"
    assert line.startswith(f"{pile / 'b.png'},")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("RUN", "gone.png"), "gone.png: cannot be read: No such file or directory"),
        (("RUN", "nothing"), "nothing: no image"),
        (("RUN", "b.png", "-o", "gone/p.csv"), "gone/p.csv: cannot be written"),
        (("RUN", "b.png", "-o", "nothing"), "nothing: cannot be written: it is a folder"),
        (("nothing", "b.png"), "nothing: holds no run"),
        (("RUN", "b.png", "--weights", "best"), "has no 'best'"),
    ],
)
def test_an_error_is_one_message_and_leaves_no_file(
    words: tuple[str, ...], message: str, done: Done, pile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pile)
    (pile / "nothing").mkdir()
    before = set(pile.rglob("*"))
    out = [] if "-o" in words else ["-o", "p.csv"]
    with pytest.raises(SystemExit) as end:
        predict.main([str(done("sln")) if word == "RUN" else word for word in (*words, *out)])
    assert str(end.value.code).startswith("error: ")
    assert message in str(end.value.code)
    assert set(pile.rglob("*")) == before


def test_prediction_starts_before_all_files_are_found(done: Done, pile: Path) -> None:
    """Of files without end, the first batch; a few more are read ahead."""
    asked = itertools.count()
    endless = (pile / "b.png" for _ in asked)
    paths, probabilities, wrong = next(slnlab.load(done("sln")).stream(endless, batch_size=4))
    assert (len(paths), probabilities.shape, wrong) == (4, (4, 10), [])
    assert next(asked) < 30


def test_help_and_mistakes_do_not_import_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "slnlab.inference.trained_run", None)  # to import it would raise
    assert run_command("--help") == 0
    assert run_command() == 2
    assert run_command("run", "gone.png") == 1
