"""The paper's figures from finished runs: `python -m slnlab.analyze KIND RUNS --out DIR`.

Only the module of the chosen kind is imported.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from slnlab.text.terminal import command

KINDS = {
    "curves": "Fig. 1: test accuracy and loss on correct and on wrong labels, by epoch",
    "landscape": "Fig. 2: the training loss around the trained weights; surfaces on one z-axis, and contours",
    "density": "Fig. 3: predicted probability of the given label, correct against wrong labels",
    "dissection": "Figs. 4, 9: samples sorted by loss: given label and prediction correct or wrong",
    "sgd_noise": "Fig. 5: test accuracy by epoch with noise on parameters, on logits, and on labels",
    "sigma": "Fig. 6: test accuracy against sigma",
    "tsne": "Fig. 7: t-SNE of the features before the last layer, by true class",
    "cost": "Fig. 8: test accuracy against training cost as a multiple of cross entropy's",
    "pareto": "test accuracy against training cost, and the methods that no other beats in both",
    "rank": "average rank of each method over draws of noisy labels, with the critical difference",
    "correction": "Fig. 10: test accuracy in the epochs of label correction, for both weightings",
    "flatness": "Claim 1: largest Hessian eigenvalue and SAM sharpness of the training loss",
    "propositions": "Propositions 1-3: predicted and measured standard deviation of the gradient noise",
}
"""Kind of figure, with its module in `slnlab.figures` → description."""


@command
def main(arguments: Sequence[str] | None = None, program: str = "python -m slnlab.analyze") -> None:
    """Run the command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    kinds = argparse.ArgumentParser(
        program,
        usage=f"{program} KIND RUNS [RUNS ...] --out DIR",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Draw a figure of the paper from finished runs.\n\nkinds:\n"
        + "\n".join(f"  {name:{max(map(len, KINDS)) + 2}}{shows}" for name, shows in KINDS.items()),
        epilog=f"`{program} KIND --help` lists the options of a kind.",
    )
    kinds.add_argument("kind", metavar="KIND", choices=KINDS, help="the figure")
    kind = kinds.parse_args(words[:1]).kind

    module = importlib.import_module(f"slnlab.figures.{kind}")
    parser = argparse.ArgumentParser(f"{program} {kind}", description=f"{KINDS[kind]}.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="searched recursively for result.json")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help=f"write {kind}.png, {kind}.svg and {kind}.csv there"
    )
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only such runs: noise=sym, …; repeatable"
    )
    if hasattr(module, "add_arguments"):
        module.add_arguments(parser)
    options = vars(parser.parse_args(words[1:]))
    runs, out = options.pop("runs"), options.pop("out")
    remarks = module.figure(runs, out, **options)
    print("\n".join([f"{out / kind}.png, .svg and .csv written", *remarks]))


if __name__ == "__main__":
    main()
