"""Noise of a transition matrix of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from slnlab.config import check, compose
from slnlab.errors import ConfigError, DataError
from slnlab.noise import transition
from slnlab.record.result import Result
from slnlab.tables.runs import find_runs
from slnlab.train import train

MATRIX = [[0.7, 0.3, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.9, 0.1]]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def written(folder: Path, rows: list[list[float]]) -> Path:
    path = folder / "pairs.csv"
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("ending", [".csv", ".npy"])
def test_given_labels_follow_the_row_of_the_true_one(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, MATRIX)
    if ending == ".npy":
        np.save(path.with_suffix(".npy"), np.array(MATRIX))
    labels = torch.arange(4).repeat(20_000)
    given = transition(labels, path.with_suffix(ending), 4, generator())
    for true_class, row in enumerate(MATRIX):
        counts = torch.bincount(given[labels == true_class], minlength=4).numpy()
        possible = np.array(row) > 0
        assert counts[~possible].sum() == 0, "never drawn"
        if possible.sum() > 1:
            assert chisquare(counts[possible], 20_000 * np.array(row)[possible]).pvalue > 1e-3


def test_rows_that_rounding_leaves_below_1_draw_no_class_that_is_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, [[0.33333, 0.33333, 0.33333, 0.0]] * 4)
    assert set(transition(torch.zeros(200_000, dtype=torch.int64), path, 4, generator()).tolist()) == {0, 1, 2}


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    path, labels = written(tmp_path, MATRIX), torch.arange(4).repeat(100)
    one, same, other = (transition(labels, path, 4, generator(seed)) for seed in (1, 1, 2))
    assert one.equal(same)
    assert not one.equal(other)
    assert labels.equal(torch.arange(4).repeat(100)), "the labels stay"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0.9, 0.2], [0.0, 1.0]], "row 0 sums to 1.1"),
        ([[0.9, 0.6], [0.1, 0.4]], "is it transposed"),
        ([[1.2, -0.2], [0.0, 1.0]], "no probability"),
        ([[1.0, 0.0]], r"shape \(1, 2\)"),
        (torch.eye(3).tolist(), "has 3 classes, the data have 2"),
    ],
)
def test_what_is_no_matrix_of_the_classes_is_refused(tmp_path: Path, rows: list[list[float]], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"noise\.path: .*pairs\.csv.*{said}"):
        transition(torch.tensor([0, 1]), written(tmp_path, rows), 2, generator())


@pytest.mark.parametrize("content", ["a,b\nc,d\n", "0.5,0.5\n1\n"])
def test_a_file_without_numbers_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(DataError, match=r"noise\.path: .*pairs\.csv cannot be read as a matrix"):
        transition(torch.tensor([0, 1]), tmp_path / "pairs.csv", 2, generator())
    np.save(tmp_path / "text.npy", np.array([["a", "b"], ["c", "d"]]))
    with pytest.raises(DataError, match=r"text\.npy cannot be read as a matrix"):
        transition(torch.tensor([0, 1]), tmp_path / "text.npy", 2, generator())


def test_a_run_records_the_matrix_it_has_got(tmp_path: Path) -> None:
    """Two matrices make two runs, whose titles name their files; `noise.like` chooses the values of methods."""
    ten = (0.8 * torch.eye(10) + 0.2 * torch.eye(10).roll(1, 1)).tolist()
    path = written(tmp_path, ten)
    tiny = ["data.train_size=200", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false"]
    run = ["noise=transition", f"noise.path={path}", f"runs_dir={tmp_path / 'runs'}", "method=ce", *tiny]
    result: Result = train(compose(run))
    wrong = result.label_noise["realised_rate"]
    assert 0.1 < wrong < 0.3
    found = np.array(result.label_noise["transition_matrix"])
    assert np.all((found > 0) <= (np.array(ten) > 0))
    np.savetxt(path, np.eye(10), delimiter=",")
    assert train(compose(run)).label_noise["realised_rate"] == 0
    runs = find_runs([tmp_path / "runs"]).runs
    assert [each.noise for each in runs] == ["transition pairs"] * 2
    assert len({each.configuration for each in runs}) == 2


def test_runs_that_read_the_noise_of_two_matrices_are_two_configurations(tmp_path: Path) -> None:
    tiny = ["data.train_size=200", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false"]
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        matrix = (0.8 * torch.eye(10) + 0.2 * torch.eye(10).roll(1 + seed, 1)).tolist()
        path = written(tmp_path / str(seed), matrix)
        first = ["noise=transition", f"noise.path={path}", f"noise.seed={seed}"]
        train(compose([*first, "method=ce", *tiny]), tmp_path / f"first{seed}")
        again = ["noise=run", f"noise.path={tmp_path / f'first{seed}'}", f"runs_dir={tmp_path / 'runs'}", "method=ce"]
        train(compose([*again, *tiny]))
    assert len({run.configuration for run in find_runs([tmp_path / "runs"]).runs}) == 2


def test_a_spreadsheets_byte_order_mark_is_no_number(tmp_path: Path) -> None:
    path = written(tmp_path, MATRIX)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert transition(torch.zeros(9, dtype=torch.int64), path, 4, generator()).max() <= 1


def test_a_method_that_needs_the_rate_says_so(tmp_path: Path) -> None:
    chosen = ["noise=transition", f"noise.path={written(tmp_path, MATRIX)}"]
    with pytest.raises(ConfigError, match=r"method\.forget_rate: noise=transition does not state how many"):
        check(compose([*chosen, "method=co_teaching"]))
    assert compose([*chosen, "data=cifar10", "noise.like=sym", "method=sln"]).sln.sigma == 1
