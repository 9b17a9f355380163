"""Label-noise models: pure functions of (labels, images or class probabilities, generator).

Labels are int64 CPU tensors of shape (N,). Every function leaves its arguments alone (the generator's state
apart) and imports nothing of slnlab but its errors and plain helpers, so it serves in any PyTorch program:

    >>> import torch
    >>> from slnlab.noise import symmetric
    >>> labels = torch.arange(10).repeat(5000)
    >>> given = symmetric(labels, rate=0.4, num_classes=10, generator=torch.Generator().manual_seed(0))
    >>> round((given != labels).double().mean().item(), 2)
    0.4
"""

from __future__ import annotations

from slnlab.noise.asymmetric import asymmetric, next_class
from slnlab.noise.clean import clean
from slnlab.noise.from_record import from_record
from slnlab.noise.human import human
from slnlab.noise.instance_dependent import instance_dependent
from slnlab.noise.label_csv import from_csv, to_csv
from slnlab.noise.open_set import Replacement, open_set
from slnlab.noise.part_dependent import part_dependent
from slnlab.noise.record import NoiseRecord
from slnlab.noise.symmetric import symmetric

__all__ = [
    "NoiseRecord",
    "Replacement",
    "asymmetric",
    "clean",
    "from_csv",
    "from_record",
    "human",
    "instance_dependent",
    "next_class",
    "open_set",
    "part_dependent",
    "symmetric",
    "to_csv",
]
