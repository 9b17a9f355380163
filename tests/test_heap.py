"""The memory that a process keeps."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from slnlab.models import SmallCNN
from slnlab.processes.heap import keep_freed_memory

FAULTS = """
import resource
from slnlab.processes.heap import keep_freed_memory

def steps():
    for _ in range(10):
        blocks = [bytearray(4 << 20) for _ in range(3)]
        del blocks

steps()
keep_freed_memory()
steps()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
steps()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**variables: str) -> int:
    """Pages that the system hands out anew during ten steps."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS]
    return int(subprocess.run(command, env={**clean, **variables}, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_steps_reuse_their_memory_unless_the_environment_decides() -> None:
    assert faults() < 100
    assert faults(MALLOC_TRIM_THRESHOLD_="1000000") > 10_000


def test_kept_memory_changes_no_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(64, 1, 28, 28, generator=generator), torch.arange(64) % 10
    network = SmallCNN(1, 10)

    def gradients() -> list[Tensor]:
        network.zero_grad()
        cross_entropy(network(images), labels).backward()
        return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    before = gradients()
    keep_freed_memory()
    assert all(map(torch.equal, before, gradients()))
    assert all(map(torch.equal, before, gradients()))  # with memory that was used before
