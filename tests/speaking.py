"""A child process that speaks: a module of its own, so that a new interpreter need not import torch for it."""

from __future__ import annotations

import os

from slnlab.processes.forkserver import Surroundings


def speak(around: Surroundings) -> None:
    """Take over, and write to both outputs."""
    around.take_over()
    print("heard", os.environ["SPOKEN"], flush=True)
    os.write(2, b"still open")
