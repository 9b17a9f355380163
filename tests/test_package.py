"""The wheel is complete and works in an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(folder.glob("*.tar.gz"))) == 1, "an sdist, from which the wheel was built"
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_contains_package_and_configuration(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    configuration = {f"slnlab/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert len(configuration) > 20
    assert sources | configuration <= names
    assert not any(name.startswith("tests/") for name in names)
    parts = {f"slnlab/{path.relative_to(ROOT)}" for path in (ROOT / "docs" / "parts" / "methods").glob("*.md")}
    assert parts, "what slnlab show says of a method"
    assert parts <= names


def test_the_extra_all_contains_every_extra_and_one_command_is_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        about = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    named = re.findall(r"^Requires-Dist: ([\w-]+).*; extra == '(\w+)'", about["METADATA"], re.MULTILINE)
    assert {"ray", "optuna", "onnx"} <= {name for name, extra in named if extra == "all"}
    assert {name for name, extra in named if extra == "all"} == {
        name for name, extra in named if extra not in ("all", "dev", "docs")
    }
    scripts = re.findall(r"^(\S+) = (\S+)$", about["entry_points.txt"], re.MULTILINE)
    assert scripts == [("slnlab", "slnlab.__main__:main")]


def test_the_command_works_from_the_wheel_in_an_empty_directory(wheel: Path, tmp_path: Path) -> None:
    """Installed into a folder of the user's own project: neither its configuration nor its commit is slnlab's."""
    installed, empty = tmp_path / "lib", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(installed)
    for folder in (empty, tmp_path / "conf"):
        folder.mkdir()
    (tmp_path / "pyproject.toml").touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=User", "-c", "user.email=user@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "theirs"], check=True)
    tiny = ["data.train_size=100", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false"]
    done = subprocess.run(
        [sys.executable, "-m", "slnlab", "train", "noise=asym", "sln.sigma=0.5", *tiny],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (result,) = empty.rglob("result.json")
    assert '"git": null' in result.read_text(), "this ran from the wheel, not from the checkout"
