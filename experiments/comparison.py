"""Every method with values chosen on noisy labels, and the same number of trials for each.

    python experiments/comparison.py methods --runs runs/methods

does a study of `slnlab.tune` for each noise and method of `conf/experiment/methods.yaml`, over the values of
`experiments/methods/values.yaml`. The first seed on the first draw of noisy labels chooses; all seeds on all draws are
the final runs. The same command resumes, and a second process beside the first shares the work. `chosen.csv` below the
runs lists the trials. Further words are overrides of every run (`launcher=local`, `noise=sym`).

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

from slnlab.analysis.csv_files import write_csv
from slnlab.config import compose
from slnlab.config.composition import compose_with_hydra
from slnlab.errors import SlnlabError
from slnlab.study.plan import Plan, StudyRun, Values, typed
from slnlab.study.record import Study
from slnlab.study.runs import sweep, train_run
from slnlab.text.terminal import print_anywhere
from slnlab.tune import tune

VALUES = Path(__file__).parent / "methods" / "values.yaml"
DRAWS = "noise.seed="

log = logging.getLogger(__name__)


def questions(experiment: str, overrides: Sequence[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """The method, the overrides of its study, and the draws of labels of its final runs, for each noise and method.

    Args:
        experiment: name in `conf/experiment/`; its sweep has noises, methods, draws and seeds.
        overrides: of every run; those of the sweep replace its lists.
    """
    spaces: dict[str, dict[str, list[Any]]] = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    own = dict(text.split("=", 1) for text in overrides)
    lists = {**compose_with_hydra([f"experiment={experiment}"]).hydra.sweeper.params, **own}
    noises, methods, draws = (str(lists.pop(key)).split(",") for key in ("noise", "method", "noise.seed"))
    shared = [f"{key}={value}" for key, value in lists.items()]
    for noise in noises:
        for method in methods:
            space = [f"{key}={','.join(map(str, values))}" for key, values in spaces[method].items()]
            fixed = [f"experiment={experiment}", f"noise={noise}", f"method={method}", f"{DRAWS}{draws[0]}"]
            yield method, [*fixed, *shared, *space], draws


def on_draw(overrides: Sequence[str], draws: str) -> list[str]:
    """The overrides with other draws of noisy labels."""
    return [f"{DRAWS}{draws}" if text.startswith(DRAWS) else text for text in overrides]


def final_runs(plan: Plan, values: Values, draws: Sequence[str]) -> None:
    """Do the final runs on further draws of noisy labels."""
    if plan.launcher:
        sweep(plan, on_draw(plan.final_sweep(values), ",".join(draws)))
        return
    for draw in draws:
        for seed in plan.final_seeds:
            overrides = on_draw(plan.final(values, seed).overrides, draw)
            train_run(StudyRun(dict(values), overrides, compose(overrides)), wait=True)


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


def main(arguments: Sequence[str] | None = None) -> None:
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="in conf/experiment/: methods or methods_memorising")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of every run")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="where all runs and studies go")
    parser.add_argument("--dry-run", action="store_true", help="check every study, and train nothing")
    asked = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s", stream=sys.stderr)
    found: list[Mapping[str, object]] = []
    failed: list[str] = []
    for method, overrides, draws in questions(asked.experiment, [*asked.overrides, f"runs_dir={asked.runs}"]):
        try:
            plan = Plan(overrides)
            print(f"{plan.directory.name}: {len(plan.trial_runs)} trials", flush=True)
            if asked.dry_run:
                continue
            study = tune(plan)
            assert study.chosen is not None
            final_runs(plan, study.chosen, draws[1:])
            found += lines(study)
        except SlnlabError as error:  # the other methods go on
            log.error("%s: %s", method, error)
            failed.append(f"{method}: {error}")
    if found:
        write_csv(asked.runs / "chosen.csv", found)
    if failed:
        sys.exit("\n  ".join([f"error: {len(failed)} studies failed:", *failed]))


if __name__ == "__main__":
    main()
