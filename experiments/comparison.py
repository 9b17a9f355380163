"""Every method but `ni_erm` with a value chosen on noisy labels, and the same number of trials for each.

    python experiments/comparison.py methods --runs runs/methods seed=0,1

does a study of `slnlab.tune` for each method and noise of `conf/experiment/methods.yaml`, over the values of
`experiments/methods/values.yaml`. The first seed chooses, by the mean of the last evaluated epochs; all seeds are final
runs. Each seed has its own draw of noisy labels: draws are what ranks and paired differences count. Instance-dependent
noise (`dependent`) draws nothing, so there they count seeds. The same command resumes, with more seeds
(`seed=0,1,2,3,4`) it adds only their runs, and a second process beside the first shares the work. `chosen.csv` below
the runs lists the trials of the studies so far. Further words are overrides of every run (`noise=sym`,
`method=ce,gce`).

Early stopping holds out samples in its final runs too, as they are a part of the method.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from evidence import read

from slnlab.config.composition import compose_with_hydra
from slnlab.errors import SlnlabError
from slnlab.storage.tables import write_csv
from slnlab.study.plan import Plan, typed
from slnlab.study.record import Study
from slnlab.text.terminal import print_anywhere
from slnlab.tune import tune

VALUES = Path(__file__).parent / "methods" / "values.yaml"
LAST = 5
"""Number of last evaluated epochs whose mean accuracy chooses. One epoch of a small set says too little."""

log = logging.getLogger(__name__)


def studies(experiment: str, overrides: Sequence[str]) -> Iterator[list[str]]:
    """The overrides of the study of each method on each noise.

    Args:
        experiment: name in `conf/experiment/`; its sweep has noises, methods and seeds.
        overrides: of every run; those of the sweep replace its lists.
    """
    spaces: dict[str, dict[str, list[Any]]] = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    typed_lists = dict(text.split("=", 1) for text in overrides)
    lists = {**compose_with_hydra([f"experiment={experiment}"]).hydra.sweeper.params, **typed_lists}
    noises, methods = (str(lists.pop(key)).split(",") for key in ("noise", "method"))
    shared = [f"experiment={experiment}", *(f"{key}={value}" for key, value in lists.items())]
    for method in methods:
        space = [f"{key}={','.join(map(str, values))}" for key, values in spaces[method].items()]
        for noise in noises:
            seed = ["noise.seed=0"] if noise == "dependent" else []  # it draws nothing, and refuses another seed
            yield [f"noise={noise}", f"method={method}", *seed, *shared, *space]


def lines(study: Study) -> Iterator[Mapping[str, object]]:
    """The lines of chosen.csv: one per trial."""
    for trial in study.trials:
        yield {
            "data": study.data,
            "noise": study.noise,
            "method": study.method,
            "values": typed(trial.values),
            "state": trial.state,
            "noisy_val_percent": 100 * trial.accuracy if trial.accuracies else None,
            "chosen": trial.values == study.chosen,
        }


def with_earlier(found: Sequence[Mapping[str, object]], path: Path) -> list[Mapping[str, object]]:
    """These lines, after those of earlier stages in the file that are of other studies."""
    studied = {(line["data"], line["noise"], line["method"]) for line in found}
    return [*(each for each in read(path) if (each["data"], each["noise"], each["method"]) not in studied), *found]


def main(arguments: Sequence[str] | None = None) -> None:
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="in conf/experiment/: methods, methods_memorising or methods_human")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every run")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="where all runs and studies go")
    parser.add_argument("--dry-run", action="store_true", help="check every study, and train nothing")
    asked = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s", stream=sys.stderr)
    found: list[Mapping[str, object]] = []
    failed: list[str] = []
    for overrides in studies(asked.experiment, [*asked.overrides, f"runs_dir={asked.runs}"]):
        try:
            plan = Plan(overrides, last=LAST)
            print(f"{plan.directory.name}: {len(plan.trial_runs)} trials", flush=True)
            if not asked.dry_run:
                found += lines(tune(plan))
                write_csv(asked.runs / "chosen.csv", with_earlier(found, asked.runs / "chosen.csv"))
        except SlnlabError as error:  # the other methods go on
            log.error("%s: %s", " ".join(overrides[:2]), error)
            failed.append(f"{' '.join(overrides[:2])}: {error}")
    if failed:
        sys.exit("\n  ".join([f"error: {len(failed)} studies failed:", *failed]))


if __name__ == "__main__":
    main()
