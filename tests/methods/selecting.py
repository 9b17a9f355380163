"""What the processes of test_selection_in_two_processes.py do."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from slnlab import assemble
from slnlab.config import check, compose
from slnlab.distributed import rank
from slnlab.run_directory import RunDirectory

COMMON = (
    "data.train_size=47",
    "data.noisy_val=7",  # 40 to train on: batches of 16, 16 and 8
    "data.batch_size=16",
    "data.eval_batch_size=6",
    "data.test=false",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "model._target_=selecting.Float64Network",
)


class Float64Network(nn.Module):
    """Without batch norm, so that a sample does not see the others of its process, and with little rounding."""

    def __init__(self, in_channels: int, num_classes: int, widths: list[int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, num_classes))
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images.double())
        return logits


def train_all(folder: Path, cases: dict[str, tuple[str, ...]], devices: int) -> None:
    """Train each case, and write what came of it as `<case>.<rank>.pt`."""
    for name, overrides in cases.items():
        config = compose([*COMMON, *overrides, f"trainer.devices={devices}"])
        check(config)
        directory = folder / f"{name}.{rank()}"
        directory.mkdir()
        trainer, record = assemble.trainer(config, RunDirectory(directory), [])
        method = assemble.method(config)
        trainer.fit(method, assemble.datamodule(config))
        rows = [{key: value for key, value in row.items() if "second" not in key} for row in record.rows]
        found = {"state": method.state_dict(), "table": method.table.state_dict(), "rows": rows, "steps": method.steps}
        torch.save(found, folder / f"{name}.{rank()}.pt")
