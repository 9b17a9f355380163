"""No batch has a single sample, and no sample is left out: one process or several, whatever the method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from slnlab.config import check, compose
from slnlab.processes import distributed
from slnlab.processes.batching import batch_sizes
from slnlab.processes.distributed import shard
from slnlab.record.run_directory import RunDirectory
from slnlab.training import assemble
from slnlab.training.settling import settle


@pytest.mark.parametrize("batch_size", [2, 3, 64])
def test_every_sample_is_in_a_batch_of_two_or_more(batch_size: int) -> None:
    for samples in range(2, 200):
        sizes = batch_sizes(samples, batch_size)
        assert sum(sizes) == samples
        assert min(sizes) >= 2
        assert max(sizes) <= batch_size + 1
        assert sizes[:-1] == [batch_size] * (len(sizes) - 1)


def test_the_published_last_batch_is_kept() -> None:
    """CIFAR's of 80, and digits' of 17."""
    assert batch_sizes(50_000, 128) == [128] * 390 + [80]
    assert batch_sizes(1297, 64)[-1] == 17
    assert batch_sizes(128, 64) == [64, 64]
    assert batch_sizes(0, 64) == batch_sizes(1, 64) == []


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_no_process_gets_a_single_row_of_a_batch(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    for total in range(40):
        parts = []
        for rank in range(processes):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            parts.append(shard(total))
        assert torch.cat([part.of(torch.arange(total)) for part in parts]).tolist() == list(range(total))
        sizes = [len(part) for part in parts]
        if total != 1:
            assert 1 not in sizes
        if total >= 2 * processes:
            assert max(sizes) - min(sizes) <= 1, "as even as can be"


@pytest.mark.parametrize(("samples", "steps"), [(65, 1), (66, 2), (129, 2)])
def test_steps_counted_by_the_configuration_match_the_data(samples: int, steps: int) -> None:
    config = compose([f"data.train_size={samples}", "trainer.max_epochs=10"])
    data = assemble.datamodule(config)
    data.prepare_data()
    data.setup()
    assert len(list(data.epoch(0))) == data.steps_per_epoch == steps
    fashion = ["data=fashion_mnist", "data.batch_size=64", f"data.train_size={samples}", "trainer.max_epochs=10"]
    assert compose(["method=elr_plus", *fashion]).method.ramp_steps == int(0.57 * 10 * steps), "slnlab.part_of_steps"


@pytest.mark.parametrize("split", [["data.train_size=21"], ["data.train_size=37", "data.noisy_val=16"]])
def test_one_sample_in_the_last_batch_does_not_break_batch_norm(split: list[str], tmp_path: Path) -> None:
    """ResNets do on digits, and batch norm would raise."""
    options = ["data.batch_size=10", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress=false"]
    config = compose(["method=ce", "model=resnet18", *split, *options])
    check(config)
    method = assemble.method(config)
    trainer = assemble.trainer(settle(config), RunDirectory(tmp_path), [])[0]
    data = assemble.datamodule(config)
    trainer.fit(method, data)
    assert method.steps == 2
    assert (method.table["loss"][data.train_index] > 0).all(), "every sample was visited"
