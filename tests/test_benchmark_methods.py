"""The benchmark of the methods times what they do when they do it."""

from __future__ import annotations

from benchmarks.methods import STEADY, epoch_seconds

from slnlab.config import check, compose


def test_an_epoch_takes_time() -> None:
    assert epoch_seconds("ce", ["data.train_size=64", "trainer.accelerator=cpu"]) > 0


def test_its_overrides_are_understood() -> None:
    for name, overrides in STEADY.items():
        check(compose([f"method={name}", "trainer.max_epochs=4", *overrides]))
