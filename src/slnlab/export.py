"""Write a finished run's model for other programs: `python -m slnlab.export RUN --format onnx -o model.onnx`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from slnlab.text.terminal import command

FORMATS = {
    "torch": "the weights alone, a state_dict",
    "torchscript": "TorchScript, for torch.jit.load and C++",
    "pt2": "a program of torch.export, the successor of TorchScript",
    "onnx": "ONNX, for onnxruntime and others; needs pip install 'slnlab[export]'",
}


def _arguments(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        program,
        description="Write the model of a finished run for other programs. FILE.json beside it describes input and "
        "output. The written model must reproduce the run's predictions before it replaces an existing file.",
        epilog="Formats: " + "; ".join(f"{name}: {what}" for name, what in FORMATS.items()) + ".",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a finished run")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", required=True)
    parser.add_argument(
        "--weights", metavar="NAME", help="network, momentum, ensemble, ...; default: those of label_issues.csv"
    )
    return parser.parse_args(arguments)


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.export") -> None:
    """Run the command line. A user's error is one message and exit code 1."""
    asked = _arguments(arguments, program)
    from slnlab.inference.exporting import export
    from slnlab.inference.trained_run import load

    difference = export(load(asked.run, asked.weights), asked.format, asked.out)
    print(f"{asked.out}, and {asked.out}.json beside it; probabilities differ from the run's by {difference:.1g}")


if __name__ == "__main__":
    main()
