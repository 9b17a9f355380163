"""A method trained as a whole, and stopped and gone on with, must be the same bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from slnlab.callbacks.run_record import RunRecord
from slnlab.config import check, compose
from slnlab.methods import Method
from slnlab.record.run_directory import RunDirectory
from slnlab.training import assemble
from slnlab.training.settling import settle

SMALL = (
    "data.train_size=110",
    "data.batch_size=12",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "model.widths=[4,4,8,8]",
    "seed=3",
)


class StopAfter(pl.Callback):
    """Ends the training after so many epochs, as a signal would."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


def trained(
    folder: Path,
    *overrides: str,
    stop_after: int | None = None,
    ckpt: Path | None = None,
    extra: tuple[pl.Callback, ...] = (),
) -> tuple[pl.Trainer, Any, RunRecord]:
    """A small run in `folder`: trainer, method, record."""
    config = compose([*SMALL, *overrides])
    check(config)
    folder.mkdir(exist_ok=True)
    trainer, record = assemble.trainer(settle(config), RunDirectory(folder), [])
    trainer.callbacks.extend(extra)  # type: ignore[attr-defined]
    if stop_after:
        trainer.callbacks.append(StopAfter(stop_after))  # type: ignore[attr-defined]
    method = assemble.method(config)
    trainer.fit(method, assemble.datamodule(config), ckpt_path=ckpt, weights_only=True)
    return trainer, method, record


def assert_resumes_bit_exactly(folder: Path, *overrides: str, stop_after: int) -> Method:
    """Train whole, train a part and the rest; everything that is saved must agree. The whole run's method."""
    _, whole, record = trained(folder / "whole", *overrides)
    first, part, _ = trained(folder / "part", *overrides, stop_after=stop_after)
    assert part.steps < whole.steps
    first.save_checkpoint(folder / "part.ckpt")
    _, second, record_2 = trained(folder / "rest", *overrides, ckpt=folder / "part.ckpt")
    assert second.steps == whole.steps
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    assert second.table.columns.keys() == whole.table.columns.keys()
    for name, column in whole.table.columns.items():
        assert torch.equal(second.table[name], column), name
    timing = ("seconds", "images_per_second")
    rows, rows_2 = (
        [{k: repr(v) for k, v in row.items() if k not in timing} for row in r.rows] for r in (record, record_2)
    )
    assert rows == rows_2
    assert isinstance(whole, Method)
    return whole
