"""slnlab embed: images become the features of a pretrained network, and keep their names, labels and splits."""

from __future__ import annotations

import csv
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from slnlab.arrays.contents import origin
from slnlab.embed import main
from slnlab.embedding import features_file
from slnlab.errors import DataError
from slnlab.inference.images import pictures_below

MODEL = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs of several sizes with three classes and a test split, and random weights."""
    import torchvision

    top = tmp_path_factory.mktemp("embed")
    rng = np.random.default_rng(0)
    for number in range(24):
        split, label = ("test", number % 2) if number >= 18 else ("train", number % 3)
        folder = top / "photos" / split / ("ape", "bee", "cat")[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(256, size=(8 + number, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    torch.manual_seed(0)
    torch.save({"state_dict": torchvision.models.shufflenet_v2_x0_5().state_dict()}, top / "weights.pth")
    return top


def embed(place: Path, out: Path, *more: str, images: str = "photos", model: str = MODEL) -> None:
    main([str(place / images), "--model", model, "--weights", str(place / "weights.pth"), "-o", str(out), *more])


@pytest.fixture(scope="module")
def embedded(place: Path) -> dict[str, Any]:
    embed(place, place / "features.npz", "--batch-size", "7", "--device", "cpu")
    with np.load(place / "features.npz") as archive:
        return dict(archive)


def test_features_are_the_input_of_the_networks_last_layer(place: Path, embedded: dict[str, Any]) -> None:
    import torchvision

    network = torchvision.models.shufflenet_v2_x0_5()
    network.load_state_dict(torch.load(place / "weights.pth")["state_dict"])
    network.fc = torch.nn.Identity()
    transform = torchvision.models.ShuffleNet_V2_X0_5_Weights.DEFAULT.transforms()
    for split, count in (("train", 18), ("test", 6)):
        paths = [path.decode() for path in embedded[f"{split}_paths"]]
        assert len(set(paths)) == count
        images = torch.stack([transform(Image.open(place / "photos" / path)) for path in paths])
        with torch.inference_mode():
            expected = network.eval()(images)
        np.testing.assert_allclose(embedded[f"{split}_features"], expected, rtol=1e-4, atol=1e-5)
        assert [path.split("/")[1] for path in paths] == embedded[f"{split}_labels"].tolist()


def test_a_stopped_embedding_goes_on(
    place: Path, embedded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, read = tmp_path / "features.npz", list[Path]()
    real = features_file.decoded

    def counted(items: Any, reader: Callable[[Path], Any], *rest: Any) -> Any:
        return real(items, lambda path: (read.append(path), reader(path))[1], *rest)

    monkeypatch.setattr(features_file, "decoded", counted)

    def stop() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(features_file, "stop_if_requested", stop)
        with pytest.raises(SystemExit, match=r"^130$"):
            embed(place, out, "--batch-size", "7", "--device", "cpu")
    assert not out.exists()
    with pytest.raises(SystemExit, match=r"features.npz.partial: exists with other contents \(background: white there"):
        embed(place, out, "data.background=black")
    read.clear()
    embed(place, out, "--batch-size", "7", "--device", "cpu")
    assert len(read) == 24 - 7, "images of the first call are not read again"
    with np.load(out) as archive:
        assert {name: value.tolist() for name, value in archive.items()} == {
            name: value.tolist() for name, value in embedded.items()
        }
    assert [path.name for path in tmp_path.iterdir()] == ["features.npz"]


def test_a_finished_embedding_says_so_and_is_never_overwritten(
    place: Path, embedded: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    embed(place, place / "features.npz")
    assert "already finished" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"features.npz: exists with other contents \(background: white there, black"):
        embed(place, place / "features.npz", "data.background=black")
    np.savez(tmp_path / "mine.npz", train_features=np.zeros(3))
    with pytest.raises(SystemExit, match=r"mine.npz: exists, and is no file of slnlab embed"):
        embed(place, tmp_path / "mine.npz")


def test_a_finished_embedding_with_other_labels_is_refused(
    place: Path, embedded: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "corrected.csv").write_text("path,label\ntrain/ape/0.png,cat\n")
    refused = r"features.npz: exists with other contents \(labels: \w{16} there, \w{16} now\)"
    with pytest.raises(SystemExit, match=refused):
        embed(place, place / "features.npz", f"data.labels={tmp_path / 'corrected.csv'}")


def test_features_of_an_older_version_are_refused(
    place: Path, embedded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slnlab.embed.VERSION", 3)
    with pytest.raises(SystemExit, match=r"features.npz: exists with other contents \(version: 2 there, 3 now\)"):
        embed(place, place / "features.npz")


@pytest.mark.parametrize("name", ["my (1), a=b #2 [x] ~y 'z'", "[photos]", "1e3"])
def test_paths_may_have_any_name(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that is printed at the end is read by the shell, then by Hydra."""
    from slnlab.config import compose

    monkeypatch.chdir(tmp_path)
    for label in ("ape", "bee"):
        shutil.copytree(place / "photos" / "train" / label, Path(name) / label)
    out = f"{name}.npz"
    main([name, "--model", MODEL, "--weights", str(place / "weights.pth"), "-o", out, "--device", "cpu"])
    typed = shlex.split(capsys.readouterr().out.strip().splitlines()[-1].split("train with ")[1])
    assert compose([*typed, "method=ce", "model=linear"]).data.source.root == out


def test_rotated_and_16_bit_images_are_read_as_in_training(place: Path, tmp_path: Path) -> None:
    grey = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 100
    for name, pixels, turn in (("a", grey, 1), ("b", grey, 1), ("a", np.rot90(grey), 6), ("b", grey, 1)):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        exif = Image.Exif()
        exif[0x0112] = turn  # 6: turn clockwise to see it upright
        (tmp_path / "deep" / name).mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "deep" / name / f"{turn}{name}.png", exif=exif)
    out = tmp_path / "deep.npz"
    main([str(tmp_path / "deep"), "--model", MODEL, "--weights", str(place / "weights.pth"), "-o", str(out)])
    with np.load(out) as archive:
        features = archive["train_features"]
        assert '"pixel_range": [0.0, 59900.0]' in str(archive["about"])
    np.testing.assert_allclose(features, features[[0]].repeat(3, 0), rtol=1e-4, atol=1e-5)


def test_a_list_keeps_true_labels_and_the_order_of_numbered_classes(place: Path, tmp_path: Path) -> None:
    names = ["train/ape/0.png", "train/bee/1.png", "train/cat/2.png"]
    rows = [f"{name},{given},{true}" for name, given, true in zip(names, (2, 10, 2), (2, 10, 10), strict=True)]
    listed = place / "photos" / "list.csv"
    listed.write_text("\n".join(["path,label,true_label", *rows]))
    embed(place, tmp_path / "listed.npz", images="photos/list.csv")
    listed.unlink()
    with np.load(tmp_path / "listed.npz") as archive:
        of = dict(
            zip(
                archive["train_paths"].tolist(),
                zip(*(archive[f"train_{kind}labels"].tolist() for kind in ("", "true_")), strict=True),
                strict=True,
            )
        )
    assert of == {b"train/ape/0.png": (2, 2), b"train/bee/1.png": (10, 10), b"train/cat/2.png": (2, 10)}


def test_a_run_on_features_names_the_image_files(place: Path, embedded: dict[str, Any], tmp_path: Path) -> None:
    from slnlab.config import compose
    from slnlab.diagnose import main as diagnose
    from slnlab.train import train

    choices = ["data=features", f"data.source.root={place / 'features.npz'}", "method=ce", "model=linear"]
    quick = ["trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.progress=false"]
    train(compose([*choices, *quick]), tmp_path / "run")
    diagnose([str(tmp_path / "run"), "--write", str(tmp_path / "corrected.csv"), "--policy", "drop", "--top", "2"])
    for file in ("label_issues.csv", "diagnosis/issues.csv"):
        with (tmp_path / "run" / file).open(newline="") as opened:
            assert {row["path"] for row in csv.DictReader(opened)} == {p.decode() for p in embedded["train_paths"]}
    for images, pictures, note in ((place / "photos", 18, ""), (tmp_path, 0, "Without 18 picture(s), the first")):
        diagnose([str(tmp_path / "run"), "--html", "--images", str(images)])
        page = (tmp_path / "run" / "diagnosis" / "review.html").read_text()
        assert page.count("data:image/") == pictures
        assert note in page
    result = train(compose([*choices, *quick, f"data.labels={tmp_path / 'corrected.csv'}"]), tmp_path / "again")
    assert result.label_noise["corrections"] == {"changed": 0, "left_out": 2, "weighted": 0}
    assert result.label_noise["num_samples"] == 16


def test_the_review_page_shows_images_as_they_were_embedded(place: Path, tmp_path: Path) -> None:
    assert origin(place / "features.npz")["background"] == "white"
    Image.new("RGBA", (4, 4), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    (shown,) = pictures_below(tmp_path, ["clear.png"], {"pixel_range": None, "background": "black"})
    assert not isinstance(shown, DataError)
    assert shown.getextrema() == ((0, 0),) * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "resnet18"], "--model: 'resnet18' is not allowed: torchvision:NAME or timm:NAME"),
        (["--model", "torchvision:resnet19"], r"torchvision has no 'resnet19' \(did you mean resnet18\?\)"),
        (["--model", "torchvision:squeezenet1_0"], "SqueezeNet has no torch.nn.Linear as its last layer"),
        (["--model", "torchvision:resnet18"], "weights.pth: does not fit the network: it lacks 'conv1.weight'"),
        (["--weights", "gone.pth"], "gone.pth: there is no such file of weights"),
        (["--weights", "harmful.pth"], "harmful.pth: is no file of weights, or holds Python objects"),
        (["--weights", "list.csv"], "list.csv: is no file of weights|list.csv: is damaged or no file of weights"),
        (["-o", "features.npy"], "features.npy must end with .npz"),
        (["-o", "gone/features.npz"], "there is no folder gone"),
        (["sln.sigma=1"], "sln.sigma=1: is no key of embed, which takes data.unreadable, data.labels"),
    ],
)
def test_wrong_words_are_one_message(
    words: list[str], message: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.csv").write_text("path,label\n")

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (Path("touched"),)

    torch.save({"state_dict": Harmful()}, "harmful.pth")
    with pytest.raises(SystemExit, match=message):
        embed(place, Path("out.npz"), *words)
    assert not Path("touched").exists()
    assert not Path("out.npz").exists()


def test_a_folder_without_images_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(SystemExit, match="has no image of 'a', 'b'"):
        main([str(tmp_path), "--model", MODEL, "--weights", str(place / "weights.pth"), "-o", str(tmp_path / "x.npz")])
