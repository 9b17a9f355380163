"""Evaluation after every k-th epoch, and after each of the first and the last ten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result
from slnlab.record.run_directory import RunDirectory

TinyRun = Callable[..., tuple[Result, Path]]

OPTIONS = ("trainer.max_epochs=25", "data.train_size=40", "data.noisy_val=10", "method=sln")


@pytest.fixture
def sparse(tiny_run: TinyRun) -> tuple[Result, Path]:
    return tiny_run(*OPTIONS, "trainer.evaluate_every=4")


def test_evaluated_epochs_are_the_first_and_last_ten_and_multiples_of_k(
    sparse: tuple[Result, Path], tiny_run: TinyRun, tmp_path: Path
) -> None:
    result, path = sparse
    rows = read_metrics(path / "metrics.csv")
    expected = [*range(1, 11), 12, *range(16, 26)]
    for key in ("test/network/accuracy", "test/momentum/loss", "val/network/accuracy"):
        assert [int(row["epoch"]) for row in rows if key in row] == expected
    assert all("train/loss" in row for row in rows)

    dense, other = tiny_run(*OPTIONS, directory=tmp_path / "dense")
    evaluated = {int(row["epoch"]): row for row in read_metrics(other / "metrics.csv")}
    for row in rows:  # every value is that of its own epoch, and training does not notice evaluation
        assert {k: v for k, v in row.items() if not k.startswith(("seconds", "images"))}.items() <= evaluated[
            int(row["epoch"])
        ].items()
    test, reference = result.rows["network"].test_accuracy, dense.rows["network"].test_accuracy
    assert test
    assert reference
    assert (test.last, test.mean_last_10) == (reference.last, reference.mean_last_10)
    assert test.oracle.epoch in expected
    assert test.oracle.accuracy == max(evaluated[epoch]["test/network/accuracy"] for epoch in expected)
    weights = [torch.load(RunDirectory(run).checkpoint, weights_only=False)["state_dict"] for run in (path, other)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
