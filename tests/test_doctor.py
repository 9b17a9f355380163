"""`slnlab doctor` names faults of an installation or a machine, and prints no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from slnlab import doctor
from slnlab.config import compose


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
    assert "there is no folder nowhere; the data would be downloaded" in shown
    for what in ("python", "torch", "GPUs", "cores", "W&B", "SLURM"):
        assert f" {what} " in shown
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_usable_folders_are_reported(tmp_path: Path) -> None:
    overrides = ["data=cifar10", f"data.source.root={tmp_path}", f"runs_dir={tmp_path / 'runs'}"]
    states = {finding.what: finding.state for finding in doctor.folders(compose(overrides), overrides)}
    assert states == {"runs_dir": "ok", "data": "ok"}
    assert not (tmp_path / "runs").exists()


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
