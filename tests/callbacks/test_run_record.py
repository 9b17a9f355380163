"""What a run has written down when it was stopped at an awkward moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slnlab.callbacks.memorisation import MemorisationMonitor
from slnlab.errors import Diverged
from slnlab.methods.base import Method
from slnlab.result import Result

TinyRun = Callable[..., tuple[Result, Path]]


def test_stopped_between_the_last_epoch_and_the_result(tiny_run: TinyRun) -> None:
    """All that is left to do is to judge the weights; no epoch is trained again."""
    first, path = tiny_run("method=sln", "trainer.progress=true")
    rows = (path / "metrics.csv").read_text()
    (path / "result.json").unlink()
    (path / "samples.npz").unlink()
    again, _ = tiny_run("method=sln", "trainer.progress=true")
    assert again.evaluators == first.evaluators
    assert set(again.evaluators) == {"network", "momentum"}
    assert (path / "metrics.csv").read_text() == rows
    assert (path / "samples.npz").exists()


def test_the_rows_of_before_stay_as_they_were_written(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the third epoch and taken up again: the first two rows are the same text."""
    measured = MemorisationMonitor.on_train_epoch_end

    def stop(self: MemorisationMonitor, trainer: Any, module: Any) -> None:
        measured(self, trainer, module)
        if trainer.current_epoch == 2:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(MemorisationMonitor, "on_train_epoch_end", stop)
        with pytest.raises(RuntimeError, match="power cut"):
            tiny_run("trainer.max_epochs=3")
    metrics = tmp_path / "run" / "metrics.csv"
    before = metrics.read_text().splitlines()
    assert len(before) == 3, "a header and two epochs"
    tiny_run("trainer.max_epochs=3")
    after = metrics.read_text().splitlines()
    assert after[:3] == before
    assert [row.split(",")[0] for row in after] == ["epoch", "1", "2", "3"]


@pytest.mark.parametrize(("method", "network"), [("ce", "network"), ("sln", "momentum"), ("co_teaching", "network_2")])
def test_weights_that_the_last_step_of_an_epoch_has_spoiled_are_not_saved(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, method: str, network: str
) -> None:
    """The losses of the epoch are all finite still; a checkpoint of it would be the one to go on from."""
    train = Method.training_step

    def spoil(self: Method, batches: Any, number: int) -> None:
        train(self, batches, number)
        if self.current_epoch == 1 and self.trainer.is_last_batch:
            next(self.evaluators[network].parameters()).data.view(-1)[0] = float("nan")

    run = (f"method={method}", "trainer.max_epochs=3")
    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", spoil)
        with pytest.raises(Diverged, match=r"some weights are not finite after epoch 2 \(step \d+, learning rate"):
            tiny_run(*run)
    tiny_run(*run)  # goes on after the first epoch
