"""The benchmark of methods times every phase of a method."""

from __future__ import annotations

from benchmarks.methods import epoch_seconds


def test_an_epoch_of_a_method_with_phases_takes_time() -> None:
    assert epoch_seconds("truncated_gce", ["data.train_size=64", "trainer.accelerator=cpu"]) > 0
