"""The report on an image folder before training: unreadable files, duplicates, ignored files."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from folders import put
from PIL import Image

from slnlab.config import compose
from slnlab.config.container import container_of
from slnlab.errors import ConfigError, DataError
from slnlab.image_folder import check as image_check
from slnlab.image_folder import survey as image_survey
from slnlab.image_folder.check import problems
from slnlab.image_folder.decoding import NotDecoded
from slnlab.image_folder.listing import read_image_folder
from slnlab.image_folder.report import report
from slnlab.storage import cache
from slnlab.storage.hashes import file_hashes
from slnlab.training import assemble
from slnlab.training.settling import settle


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve different images of each of two classes, and two for the test of each; all are an hour old."""
    monkeypatch.setenv("SLNLAB_CACHE", str(tmp_path / "cache"))
    noise = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 2)):
        for kind in ("cat", "dog"):
            (tmp_path / "photos" / split / kind).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(noise.integers(0, 255, (16, 16, 3), dtype=np.uint8))
                image.save(tmp_path / "photos" / split / kind / f"{number}.png")
    return aged(tmp_path / "photos")


def aged(root: Path) -> Path:
    for path in root.rglob("*.*"):
        if path.is_file():
            os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    return root


def spoil(root: Path) -> dict[str, str]:
    """Files of every kind that cannot be read, and what is said of each."""
    whole = (root / "train" / "cat" / "0.png").read_bytes()
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(jpeg, "JPEG")
    contents = {
        "train/cat/short.png": (whole[:-40], "truncated"),
        "train/cat/half.jpg": (jpeg.getvalue()[:400], "runcated"),
        "train/cat/empty.png": (b"", "is empty"),
        "train/dog/page.jpg": (b"\n<!DOCTYPE html><title>404</title>", "is a web page"),
        "train/dog/text.webp": (b"not found", "is no readable image"),
        "test/dog/head.png": (whole[:20], ""),
    }
    for name, (content, _) in contents.items():
        (root / name).write_bytes(content)
    (root / "test/cat/gone.png").symlink_to(root / "nowhere.png")
    aged(root)
    return {**{name: message for name, (_, message) in contents.items()}, "test/cat/gone.png": "No such file"}


def told(root: Path, directory: Path, **options: str) -> None:
    contents = read_image_folder(str(root), **options)  # type: ignore[arg-type]
    report(str(root), contents, 0, directory / "unreadable.csv", directory / "duplicates.csv")


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_without_permission_is_named() -> None:
    """Asked as a user who may not read it; the administrator, who runs tests in containers, may read everything."""
    with tempfile.TemporaryDirectory() as made:
        root = put(Path(made) / "images", "train/cat/0.png", "train/dog/0.png")
        for path in (Path(made), root, root / "train"):
            path.chmod(0o755)
        (root / "train/dog").chmod(0)
        administrator = os.geteuid() == 0
        if administrator:
            os.seteuid(65534)
        try:
            with pytest.raises(DataError, match=r"images/train/dog: cannot be read: Permission denied"):
                read_image_folder(str(root))
        finally:
            if administrator:
                os.seteuid(0)
            (root / "train/dog").chmod(0o755)


def test_all_unreadable_files_are_named_at_once(folder: Path, tmp_path: Path) -> None:
    spoiled = spoil(folder)
    with pytest.raises(DataError, match=rf"^{folder}: 7 of 35 images cannot be read\. Rem.*unreadable=skip") as message:
        told(folder, tmp_path)
    assert "'test/cat/gone.png': No such file" in str(message.value)
    assert f"and 2 more; all are in {tmp_path}/unreadable.csv" in str(message.value)
    found = {row["path"]: row["problem"] for row in rows(tmp_path / "unreadable.csv")}
    assert found.keys() == spoiled.keys()
    for path, problem in spoiled.items():
        assert problem in found[path], path
        (folder / path).unlink()
    told(folder, tmp_path)
    assert not (tmp_path / "unreadable.csv").exists()


def test_skipping_unreadable_files_equals_removing_them(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoiled = spoil(folder)
    overrides = ["data=folder", f"data.source.root={folder}", "model=cnn"]
    skipping = compose([*overrides, "data.unreadable=skip"])
    assert container_of(skipping)["data"]["num_train"] == 24
    told(folder, tmp_path, unreadable="skip")
    assert "7 of 35 images cannot be read and are left out" in caplog.text
    assert len(rows(tmp_path / "unreadable.csv")) == 7
    skipped = settle(skipping).group
    for path in spoiled:
        (folder / path).unlink()
    assert settle(compose(overrides)).group == settle(compose([*overrides, "data.unreadable=skip"])).group == skipped


def test_a_class_without_readable_images_is_refused(folder: Path) -> None:
    for image in (folder / "train" / "dog").iterdir():
        image.write_text("404")
    with pytest.raises(DataError, match=r"train: no image of 'dog' can be read \(is no readable image"):
        read_image_folder(str(folder), "skip")


def test_unreadable_files_are_either_refused_or_skipped(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.unreadable: 'ignore' is not allowed: refuse or skip"):
        container_of(compose(["data=folder", f"data.source.root={folder}", "data.unreadable=ignore"]))


def look_at(folder: Path, workers: int | None = 0) -> dict[str, str]:
    paths = read_image_folder(str(folder)).splits["train"].paths
    return problems(folder, file_hashes(folder, paths, fresh=True), workers)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that are decoded to be checked."""
    decoded: list[str] = []
    really = image_check.judge
    monkeypatch.setattr(image_check, "judge", lambda path: (decoded.append(path), really(path))[1])
    return decoded


def test_an_unchanged_image_is_read_once(folder: Path, tmp_path: Path, seen: list[str]) -> None:
    assert look_at(folder) == {}
    paths = [str(folder / path) for path in read_image_folder(str(folder)).splits["train"].paths]
    assert sorted(seen) == sorted(paths)
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "cat" / "moved.png")
    assert look_at(folder) == {}
    assert len(seen) == len(paths), "by what they hold, wherever they are"
    changed = folder / "train" / "cat" / "1.png"
    changed.write_bytes(b"x" * changed.stat().st_size)
    assert list(look_at(folder)) == ["train/cat/1.png"]
    assert seen[len(paths) :] == [str(changed)], "its size is the same"
    (kept,) = (tmp_path / "cache" / "slnlab" / "images").rglob("*.json")
    kept.write_text('{"reader": 1, "verdicts": 3')
    look_at(folder)
    assert len(seen) == 2 * len(paths) + 1, "a damaged cache costs another look"
    content = json.loads(kept.read_text())
    kept.write_text(json.dumps(content | {"reader": "Pillow 1.0"}))
    look_at(folder)
    assert len(seen) == 3 * len(paths) + 1, "another Pillow may read other images"
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".png"}, "nothing in the user's folder"


def test_temporary_errors_are_not_cached(folder: Path, monkeypatch: pytest.MonkeyPatch, seen: list[str]) -> None:
    """Too little memory, too many open files, a disk that does not answer: of the image nothing is wrong."""
    really, refused = image_check.load, folder / "train" / "cat" / "0.png"

    def short_of_memory(path: str) -> Image.Image:
        if path == str(refused):
            raise NotDecoded(f"{path}: cannot be read: too little memory")
        return really(path)

    (folder / "train" / "dog" / "0.png").write_bytes(b"x")
    broken = {"train/dog/0.png": "is no readable image (unknown format)"}
    monkeypatch.setattr(image_check, "load", short_of_memory)
    assert look_at(folder) == broken | {"train/cat/0.png": "cannot be read: too little memory"}
    monkeypatch.setattr(image_check, "load", really)
    decoded = len(seen)
    assert look_at(folder) == broken
    assert seen[decoded:] == [str(refused)]


def test_an_interrupted_survey_keeps_its_findings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really, decoded = image_check.judge, []

    def stopped(path: str) -> image_check.Verdict:
        decoded.append(path)
        return really(path)

    def stop_at_the_tenth() -> None:
        if kept and len(decoded) >= 10:
            raise KeyboardInterrupt

    kept = True
    monkeypatch.setattr(image_check, "judge", stopped)
    monkeypatch.setattr(image_check, "CHUNK", 1)
    monkeypatch.setattr(image_check, "stop_if_requested", stop_at_the_tenth)
    with pytest.raises(KeyboardInterrupt):
        look_at(folder)
    kept = False
    look_at(folder)
    assert len(decoded) == 24 + 1, "the tenth was not kept"


def test_an_unwritable_home_costs_only_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[str]
) -> None:
    monkeypatch.setenv("SLNLAB_CACHE", "/dev/null/nowhere")
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    (folder / "train" / "cat" / "0.png").write_bytes(b"")
    before = look_at(folder)
    assert list((tmp_path / "tmp").rglob("*.json"))
    decoded = len(seen)
    assert look_at(folder) == before != {}
    assert len(seen) == decoded
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: "/dev/null")
    assert look_at(folder) == before
    assert len(seen) == 2 * decoded


def test_several_threads_find_what_one_finds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(80):
        (folder / "train" / "cat" / f"copy{number}.png").write_bytes(b"" if number % 3 else bytes([number]))
    alone = look_at(folder)
    assert len(alone) == 80
    monkeypatch.setenv("SLNLAB_CACHE", str(folder.parent / "other cache"))
    assert look_at(folder, workers=4) == alone


@pytest.mark.parametrize(
    ("odd", "others", "value"), [("test/cat/1.png", "8 bits", 3000), ("train/dog/7.png", "16 or 32 bits", 3)]
)
def test_depths_missing_from_the_sample_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[str], odd: str, others: str, value: int
) -> None:
    """Found once, and kept; a range that somebody has typed allows them."""
    if others != "8 bits":
        for number, path in enumerate(sorted(folder.rglob("*.png"))):
            Image.fromarray(np.array([[1000, 2000 + number]], np.uint16)).save(path)
    told(folder, tmp_path)
    Image.fromarray(np.array([[value, 0]], np.uint8 if others != "8 bits" else np.uint16)).save(folder / odd)
    aged(folder)
    monkeypatch.setattr(image_survey, "SAMPLE", 1)
    overrides = ["data=folder", f"data.source.root={folder}", "model=cnn", "data.workers=0"]
    found = assemble.datamodule(settle(compose(overrides)).config)
    seen.clear()
    for _ in range(2):
        with pytest.raises(DataError, match=r"^data.pixel_range: .* different depths .*=\[BLACK,WHITE\]") as error:
            found.inspect(tmp_path)
        assert f"{folder / odd} has {'8' if others != '8 bits' else '16 or 32'} bits" in str(error.value)
        assert f".png has {others}" in str(error.value)
    assert seen == [str(folder / odd)]
    typed = settle(compose([*overrides, "data.pixel_range=[0,4095]"]))
    assemble.datamodule(typed.config).inspect(tmp_path)
    assert (
        typed.identity == settle(compose([*overrides, "data.pixel_range=[0,4095]", "data.mixed_depths=false"])).identity
    )
    if others == "8 bits":
        with pytest.raises(DataError, match=r"^data.pixel_range: .* different depths"):
            assemble.datamodule(settle(compose([*overrides, "data.pixel_range=null"])).config).inspect(tmp_path)


def test_duplicates_across_splits_are_listed_first(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told(folder, tmp_path)
    assert not (tmp_path / "duplicates.csv").exists()
    assert "copies of" not in caplog.text
    train = folder / "train"
    shutil.copy(train / "cat" / "0.png", train / "cat" / "again.png")
    shutil.copy(train / "cat" / "1.png", train / "cat" / "1 again.png")
    shutil.copy(train / "cat" / "1.png", train / "dog" / "cat.png")
    shutil.copy(train / "dog" / "2.png", folder / "test" / "dog" / "leak.png")
    (folder / "val" / "cat").mkdir(parents=True)
    shutil.copy(folder / "test" / "cat" / "0.png", folder / "val" / "cat" / "same.png")
    told(folder, tmp_path)
    for said in (
        r"1 of 5 images of test/ are copies of images of train/, so the accuracy there is too high "
        "('test/dog/leak.png', 'train/dog/2.png')",
        "1 of 5 images of test/ are copies of images of val/, so the choice favours them",
        "1 image(s) lie in several classes, and at most one is right ('train/cat/1 again.png', 'train/dog/cat.png')",
        "1 image(s) are copies of others of their class ('train/cat/0.png', 'train/cat/again.png')",
    ):
        assert said in caplog.text
    listed = rows(tmp_path / "duplicates.csv")
    assert [row["kind"] for row in listed] == ["several splits"] * 4 + ["several classes"] * 3 + ["same class"] * 2
    assert {(row["split"], row["label"]) for row in listed if row["path"] == "test/dog/leak.png"} == {("test", "dog")}


def test_the_report_counts_used_and_ignored_files(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number in range(3):
        (folder / "train" / "cat" / f"{number}.heic").write_text("of a phone")
        shutil.move(folder / "train" / "dog" / f"{number}.png", folder / "train" / f"{number}.png")
    shutil.rmtree(folder / "test" / "cat")
    told(folder, tmp_path)
    for said in (
        "2 classes; train 21 images (9 to 12 of a class), no val, test 2",
        "files left out, as they are no images: 3 .heic",
        "3 image(s) outside the folders of the classes are left out: 'train/0.png', 'train/1.png', 'train/2.png'",
        "fewer than 10 training images (the fewest: 9) in 'dog'",
        "test/ has no image of 'cat'",
    ):
        assert said in caplog.text
