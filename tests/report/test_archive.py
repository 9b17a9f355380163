"""The archive of finished runs: the same tables after its runs have been removed, and no run is repeated."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from slnlab.errors import DataError
from slnlab.record.result import Result
from slnlab.report import report
from slnlab.tables.runs import find_runs
from slnlab.training.settling import settle


def unpack(archive: Path, to: Path) -> None:
    with tarfile.open(archive) as file:
        file.extractall(to, filter="data")


def test_tables_and_curves_of_unpacked_runs_are_those_of_the_runs(
    make_run: Callable[..., Path], tmp_path: Path, read_csv: Callable[[Path], list[dict[str, str]]]
) -> None:
    for seed in (0, 1):
        make_run(f"runs/ce{seed}", [0.5, 0.6 + seed / 100], seed=seed)
        make_run(f"runs/mine/sln{seed}", [0.5, 0.7 + seed / 50], method="sln", sigma=0.5, seed=seed)
    archive = tmp_path / "runs.tar.xz"
    before, _ = report([tmp_path / "runs"], tmp_path / "before", reference="ce", archive=archive)
    shutil.rmtree(tmp_path / "runs")
    unpack(archive, tmp_path / "again")
    after, _ = report([tmp_path / "again"], tmp_path / "after", reference="ce")
    assert after == before
    lines = read_csv(tmp_path / "after/results.csv")
    places = [Path(line.pop("directory")).relative_to(tmp_path / "again") for line in lines]
    assert {place.parts[:3] for place in places} == {("digits", "sym-0.4", "ce"), ("digits", "sym-0.4", "sln")}
    assert lines == [
        {k: v for k, v in line.items() if k != "directory"} for line in read_csv(tmp_path / "before/results.csv")
    ]
    assert (tmp_path / "after/curves.png").exists()


def test_the_same_runs_give_the_same_bytes_wherever_they_lie(make_run: Callable[..., Path], tmp_path: Path) -> None:
    make_run("runs/b", seed=1)
    make_run("runs/a", seed=0)
    shutil.copytree(tmp_path / "runs", tmp_path / "copied/of")
    first, second = tmp_path / "first.tar.xz", tmp_path / "second.tar.xz"
    report([tmp_path / "runs"], archive=first)
    report([tmp_path / "copied"], archive=second)
    assert first.read_bytes() == second.read_bytes()


def test_an_archive_holds_the_runs_that_fit_and_no_large_file(make_run: Callable[..., Path], tmp_path: Path) -> None:
    for seed in (0, 1):
        (make_run(f"runs/{seed}", seed=seed) / "samples.npz").write_bytes(b"large")
    report([tmp_path / "runs"], where=["seed=1"], archive=tmp_path / "one.tar.xz")
    unpack(tmp_path / "one.tar.xz", tmp_path / "again")
    (run,) = find_runs([tmp_path / "again"]).runs
    assert run.result.seed == 1
    assert sorted(path.name for path in run.directory.path.iterdir()) == ["config.yaml", "metrics.csv", "result.json"]


def test_an_unpacked_run_is_not_repeated(tiny_run: Callable[..., tuple[Result, Path]], tmp_path: Path) -> None:
    result, directory = tiny_run("sln.sigma=0.5")
    report([directory], archive=tmp_path / "runs.tar.xz")
    unpack(tmp_path / "runs.tar.xz", tmp_path / "runs")
    place = settle(OmegaConf.create((directory / "config.yaml").read_text("utf-8"))).directory
    assert place.is_relative_to(tmp_path / "runs")
    again, _ = tiny_run("sln.sigma=0.5", directory=place)
    assert again == result
    assert not (place / "checkpoints").exists()


def test_another_suffix_or_a_missing_folder_is_refused(make_run: Callable[..., Path], tmp_path: Path) -> None:
    make_run("runs/a")
    with pytest.raises(DataError, match=r"runs\.zip: an archive of runs ends with \.tar\.xz"):
        report([tmp_path / "runs"], archive=tmp_path / "runs.zip")
    with pytest.raises(DataError, match=r"runs\.tar\.xz: cannot be written"):
        report([tmp_path / "runs"], archive=tmp_path / "no/runs.tar.xz")
