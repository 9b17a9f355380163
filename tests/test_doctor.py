"""`slnlab doctor` names faults of an installation or a machine, and prints no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from slnlab import doctor
from slnlab.config import compose
from slnlab.data.__main__ import main as check_data


def test_doctor_names_what_to_fix_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="error: 1 thing to fix"):
        doctor.main(["runs_dir=file/runs", "data=cifar10", "data.source.root=nowhere"])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("wrong")] == [
        "wrong  runs_dir    file/runs: cannot be written: Not a directory"
    ]
    shown = "\n".join(lines)
    assert "there is no nowhere; the data would be downloaded" in shown
    for what in ("python", "torch", "GPUs", "cores", "W&B", "SLURM"):
        assert f" {what} " in shown
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_usable_folders_are_reported(tmp_path: Path) -> None:
    overrides = ["data=cifar10", f"data.source.root={tmp_path}", f"runs_dir={tmp_path / 'runs'}"]
    states = {finding.what: finding.state for finding in doctor.folders(compose(overrides), overrides)}
    assert states == {"runs_dir": "ok", "data": "ok"}
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("data", "file"), [
    ("cifar10", "cifar-10-batches-py/data_batch_1"), ("fashion_mnist", "FashionMNIST/raw/train-labels-idx1-ubyte"),
])  # fmt: skip
def test_files_that_are_not_the_published_ones_are_wrong(tmp_path: Path, data: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("other")
    for words, state in (([], "wrong"), (["data.source.verify=false"], "ok")):
        overrides = [f"data={data}", f"data.source.root={tmp_path}", *words]
        (found,) = (each for each in doctor.folders(compose(overrides), overrides) if each.what == "data")
        assert found.state == state
    assert found.says == f"{data}: looked for in {tmp_path}"


def test_data_check_names_the_expected_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2 things to fix"):
        check_data(["check", "animal10n", str(tmp_path)])
    found, train, test, origin = capsys.readouterr().out.splitlines()
    assert found == f"ok     animal10n: ANIMAL-10N, looked for in {tmp_path}"
    assert train == "wrong  training or train: 50,000 images <label>_img_<n>.jpg, or folders <label>/; it is missing"
    assert test == "wrong  testing or test: 5,000 images; it is missing"
    assert origin.startswith("note   Its authors give raw_image_ver.zip out on request")
    with pytest.raises(SystemExit, match="data=cifar10 is not checked file by file"):
        check_data(["check", "cifar10", str(tmp_path)])


def test_data_check_compares_counts_and_forgives_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three of ten classes, and of one folder a file that no run would use."""
    for split in ("training", "testing"):
        for label in (0, 1, 2):
            (tmp_path / split).mkdir(exist_ok=True)
            (tmp_path / split / f"{label}_img_{label}.jpg").touch()
    asked = ["check", "animal10n", str(tmp_path), "data.num_train=3"]
    with pytest.raises(SystemExit, match="2 things to fix"):
        check_data(asked)
    assert capsys.readouterr().out.count("in 3 classes (1 to 1 of a class); data.num_classes=10 expects another") == 2
    check_data([*asked, "data.num_classes=3", "data.classes=null"])
    assert "wrong" not in capsys.readouterr().out


def test_missing_imagenet_weights_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    config = compose(["model=resnet50", "model.pretrained=true", "data=cifar10"])
    (missing,) = doctor.pretrained_weights(config)
    file = tmp_path / "checkpoints" / "resnet50-0676ba61.pth"
    assert (missing.state, missing.what) == ("note", "weights")
    assert missing.says.endswith(f"/resnet50-0676ba61.pth to {file}, once")
    file.parent.mkdir()
    file.touch()
    (there,) = doctor.pretrained_weights(config)
    assert there.state == "ok"
    assert not list(doctor.pretrained_weights(compose(["model=resnet50"])))


def test_doctor_checks_every_data_set_unless_one_is_named() -> None:
    said = [finding.says for finding in doctor.folders(compose([]), [])]
    assert any(text.startswith("folder: data.source.root must be given") for text in said)
    assert any(text.startswith("digits: inside a package") for text in said)


@pytest.mark.parametrize("where", ["environment", "netrc"])
def test_a_wandb_key_is_found_but_not_shown(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(file))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    (before,) = doctor.wandb_login()
    assert before.state == "note"
    if where == "environment":
        monkeypatch.setenv("WANDB_API_KEY", "0123secret")
    else:
        file.write_text("machine api.wandb.ai\n  login user\n  password 0123secret\n")
        file.chmod(0o600)
    (found,) = doctor.wandb_login()
    assert found.state == "ok"
    assert "0123secret" not in str(found)


@pytest.mark.parametrize(
    ("needs", "states"),
    [
        (["numpy"], ["ok"]),
        (["numpy>=999", "omegaconf"], ["wrong"]),
        (["no-such-package"], ["wrong"]),
        (["no-such-package; extra == 'ray'", "numpy"], ["ok"]),
        ([], ["note"]),
    ],
)
def test_unmet_requirements_are_errors(needs: list[str], states: list[str]) -> None:
    assert [finding.state for finding in doctor.packages([*map(Requirement, needs)])] == states


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ({"python": "3.14.0", "hydra-core": "1.3.2"}, 1),
        ({"python": "3.13.9", "hydra-core": "1.3.2"}, 0),
        ({"pytorch-lightning": "2.6.3"}, 1),
        ({"pytorch-lightning": "2.6.4"}, 0),
        ({"tensorboard": "2.20.0", "setuptools": "82.0"}, 1),
        ({"tensorboard": "2.20.0"}, 0),
    ],
)
def test_versions_known_to_break_are_errors(
    installed: dict[str, str], found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {name: Version(text) for name, text in installed.items()}
    monkeypatch.setattr(doctor, "_installed", versions.get)
    assert len(list(doctor.known_to_break())) == found


def test_slurm_is_found_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho slurm 24.05\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [(finding.state, finding.says) for finding in doctor.slurm()] == [("ok", "slurm 24.05")]
    sbatch.unlink()
    assert [finding.state for finding in doctor.slurm()] == ["note"]


def test_doctor_prints_the_tree_of_a_published_data_set_and_what_is_missing(tmp_path: Path) -> None:
    """Also what a run does not use is left alone: with data.test=false ILSVRC12 is not needed."""
    overrides = ["data=mini_webvision", f"data.source.root={tmp_path}", "data.num_classes=2", "data.classes=null"]
    overrides += ["data.num_train=3", "data.test=false"]

    def found() -> list[doctor.Finding]:
        return [each for each in doctor.folders(compose(overrides), overrides) if each.what == "data"]

    before = found()
    wrong = [each.says for each in before if each.state == "wrong"]
    assert len(wrong) == 5
    assert wrong[-1] == "val_images_256: the validation images; it is missing"
    assert "non-commercial research" in before[-1].says
    for folder in ("info", "google/q0001", "val_images_256"):
        (tmp_path / folder).mkdir(parents=True)
    train = [f"google/q0001/{number}.jpg {number % 2}" for number in range(3)]
    (tmp_path / "info" / "train_filelist_google.txt").write_text("\n".join([*train, "google/q0001/9.jpg 2"]))
    (tmp_path / "info" / "val_filelist.txt").write_text("a.jpg 0\nb.jpg 1\n")
    (tmp_path / "info" / "synsets.txt").write_text("n01440764 tench\nn01443537 goldfish\n")
    for name in ("val_images_256/a.jpg", "val_images_256/b.jpg", "google/q0001/0.jpg", "google/q0001/1.jpg"):
        (tmp_path / name).touch()
    wrong = [each.says for each in found() if each.state == "wrong"]
    assert wrong == [
        "train: 2 images in 2 classes (1 to 1 of a class); 1 of 3 listed ones are missing, such as "
        "'google/q0001/2.jpg'; data.num_train=3 expects another number"
    ]
    (tmp_path / "google" / "q0001" / "2.jpg").touch()
    assert [each.says for each in found() if each.state == "ok"][-2:] == [
        "train: 3 images in 2 classes (1 to 2 of a class)",
        "val_clean: 2 images in 2 classes (1 to 1 of a class)",
    ]
