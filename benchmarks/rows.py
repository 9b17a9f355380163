"""The rows of the benchmarks, with their bounds and functions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row of the table: its comparison, its bound, and its function."""

    title: str
    bound: str
    module: str
    function: str


ROWS: dict[str, Row] = {
    "augmentation": Row(
        "Crop + flip + normalise on the device against PIL per sample, 1 thread", "≥ 50×", "steps", "augmentation"
    ),
    "overhead": Row(
        "One optimiser step of our default run against a bare loop, a model that costs nothing",
        "≤ +0.3 ms",
        "overhead",
        "overhead",
    ),
    "sln_step": Row(
        "SLN step against CE step, CNN 32/64/64, paired", "upper end of the 95 % interval ≤ 1.05", "steps", "sln_step"
    ),
    "momentum_update": Row(
        "Momentum update of WRN-28-2 against Lightning's EMAWeightAveraging", "≥ 5×", "steps", "momentum_update"
    ),
    "usual_loop_small": Row(
        "Whole epoch against the usual loop with the better of 0 and 2 workers, CNN 8/16/16",
        "≥ 3×",
        "whole_epochs",
        "usual_loop_small",
    ),
    "usual_loop_middle": Row(
        "Whole epoch against the usual loop with the better of 0 and 2 workers, CNN 32/64/64",
        "≥ 1.7×",
        "whole_epochs",
        "usual_loop_middle",
    ),
    "usual_loop_wrn": Row(
        "Whole epoch against the usual loop with the better of 0 and 2 workers, WRN-28-2",
        "≥ 1.1×",
        "whole_epochs",
        "usual_loop_wrn",
    ),
    "plain_lightning_small": Row(
        "Whole epoch against plain Lightning with the better of 0 and 2 workers, CNN 8/16/16",
        "≥ 2×",
        "contenders",
        "plain_lightning_small",
    ),
    "plain_lightning_wrn": Row(
        "Whole epoch against plain Lightning with the better of 0 and 2 workers, WRN-28-2; training against its passes",
        "≥ 1.35× · ≤ 1.1×",
        "contenders",
        "plain_lightning_wrn",
    ),
    "dividemix": Row(
        "DivideMix against its authors' loop with the better of 0 and 2 workers, CNN 8/16/16",
        "≥ 1.8×",
        "contenders",
        "dividemix",
    ),
    "label_correction": Row(
        "Label-correction epoch against a normal one, WRN-28-2", "≤ 1.2×", "whole_epochs", "label_correction"
    ),
    "evaluation": Row(
        "Evaluation of network and momentum model on 10,000 images, as part of a run of 2,500",
        "≤ 15 % with trainer.evaluate_every=20",
        "whole_epochs",
        "evaluation",
    ),
    "kept_memory": Row(
        "Epoch that returns freed memory to the system against ours that keeps it, CNN 32/64/64",
        "≥ 1.1×",
        "processes",
        "kept_memory",
    ),
    "side_by_side": Row(
        "Two runs side by side, 1 thread each, against one after the other with 2, CNN 8/16/16",
        "≤ 0.65×",
        "processes",
        "side_by_side",
    ),
    "two_commands": Row(
        "Two runs started by hand, together against alone, threads as slnlab chooses",
        "≤ 2.2×",
        "processes",
        "two_commands",
    ),
    "growth": Row(
        "Growth per image over N = 5k…50k and over C = 10, 100, 1,000",
        "flat · no worse than linear",
        "whole_epochs",
        "growth",
    ),
    "start_up": Row(
        "Start to first step on digits; a refused configuration",
        "≤ ⅓ of the import time · ≤ 1.5 CPU s beyond import torch · ≤ ½ of import torch",
        "processes",
        "start_up",
    ),
    "extra_run": Row(
        "An extra run of one epoch on digits in a warm process of launcher=local, beyond its training",
        "≤ ⅓ of importing torch and Lightning",
        "sweeps",
        "extra_run",
    ),
    "batched": Row(
        "A run of launcher=batched, SLN-MO-LC on 10,000 × 384 features, against a warm single run and a process",
        "linear ≥ 4× · ≥ 20×",
        "batched",
        "batched",
    ),
    "grouped_convolutions": Row(
        "Eight small CNNs on digits as one network of grouped convolutions",
        "none set",
        "batched",
        "grouped_convolutions",
    ),
    "thousand_runs": Row(
        "1,000 finished runs: status, report, locks; composing and checking 1,000; against one run of digits",
        "composing and checking ≤ 2×",
        "sweeps",
        "thousand_runs",
    ),
    "memory": Row(
        "Peak memory beyond the libraries, CIFAR-10-sized data, small CNN", "≤ 400 MiB", "processes", "memory"
    ),
}


GPU_ROWS: dict[str, Row] = {
    **{name: row for name, row in ROWS.items() if row.module not in ("processes", "sweeps", "batched", "contenders")},
    "step_against_floor": Row(
        "A step of WRN-28-2 against what the device could do", "none set", "floor", "step_against_floor"
    ),
}
"""Rows of `make bench-gpu`. Their bounds were set for a CPU."""
