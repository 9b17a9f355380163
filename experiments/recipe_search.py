"""What could be added to `method=slnlab`, or replace a part of it: trials on held-out noisy labels.

    python experiments/recipe_search.py experiment=recipe_digits data.noisy_val=260 seed=0,1,2 runs_dir=runs/search

does the trials of `slnlab.tune` for each study of `experiments/recipe/search.yaml`, under symmetric and asymmetric
noise. Each seed has its own draw of noisy labels. The momentum model's accuracy counts, and no run reads the test set.
`search.csv` in `--out` gets a line for each run beside those of other data sets, `search.md` the tables. The same
command resumes; a second process beside the first shares the work.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from evidence import Line, read, table

from slnlab.errors import ConfigError, SlnlabError
from slnlab.record.result import Result
from slnlab.record.run_directory import RunDirectory
from slnlab.storage.locks import FolderLock
from slnlab.storage.tables import write_csv
from slnlab.study.grid_search import search
from slnlab.study.plan import Plan, typed
from slnlab.study.record import Study
from slnlab.tables.statistics import paired
from slnlab.text.terminal import print_anywhere

FOLDER = Path(__file__).parent / "recipe"
NOISES = ("sym", "asym")
OWN = "slnlab"
"""Stands for the recipe as it is, in the column `study`."""
LAST = 5
"""Number of last evaluated epochs whose mean accuracy counts."""


def spaces() -> dict[str, dict[str, list[Any]]]:
    """The studies by name: key → values."""
    found: dict[str, dict[str, list[Any]]] = yaml.safe_load((FOLDER / "search.yaml").read_text(encoding="utf-8"))
    return found


def plan(space: Mapping[str, list[Any]], noise: str, overrides: Sequence[str]) -> Plan:
    """The plan of a study under a noise. All seeds are trial seeds.

    Args:
        space: key → values.
        noise: option of `conf/noise/`.
        overrides: of all runs, with `seed=`.

    Raises:
        ConfigError: see `Plan`; or there is no `seed=`.
    """
    seeds = next((text.removeprefix("seed=") for text in overrides if text.startswith("seed=")), None)
    if seeds is None:
        raise ConfigError("seed: must be given, as seed=0,1,2: each seed is a run of every trial")
    keys = [f"{key}={','.join(map(str, values))}" for key, values in space.items()]
    method = [] if "method" in space else ["method=slnlab"]
    return Plan(
        [f"noise={noise}", "noise.seed=${seed}", *method, *overrides, *keys],
        weights="momentum",
        last=LAST,
        trial_seeds=[int(seed) for seed in seeds.split(",")],
    )


def lines(name: str, study: Study, own: Iterable[str]) -> Iterator[dict[str, object]]:
    """The lines of search.csv, one per run.

    Args:
        name: of the study.
        study: with its trials.
        own: directories of the runs of the recipe as it is.
    """
    for trial in study.trials:
        for place, (seed, directory) in enumerate(zip(study.trial_seeds, trial.directories, strict=True)):
            finished = place < len(trial.accuracies)
            timing = Result.load(RunDirectory(Path(directory)).result).timing if finished else None
            yield {
                "data": study.data,
                "noise": study.noise,
                "study": OWN if directory in own else name,
                "values": "" if directory in own else typed(trial.values),
                "seed": str(seed),
                "state": "finished" if finished else trial.state,
                "noisy_val_percent": 100 * trial.accuracies[place] if finished else None,
                "training_seconds": timing.total_seconds if timing else None,
            }


def add(folder: Path, found: Iterable[dict[str, Any]]) -> None:
    """Add lines to search.csv, where they replace those of the same run, and make search.md anew."""
    key, path = ("data", "noise", "study", "values", "seed"), folder / "search.csv"
    every: dict[tuple[Any, ...], dict[str, Any]] = {tuple(line[k] for k in key): {**line} for line in read(path)}
    write_csv(path, [*(every | {tuple(line[k] for k in key): line for line in found}).values()])
    (folder / "search.md").write_text(page(read(path)) + "\n", encoding="utf-8")


def page(found: Sequence[Line]) -> str:
    """The tables of search.csv in Markdown, one per data set, the best mean over both noises first."""
    return "\n\n".join(
        f"**{data}**\n\n{_table([line for line in found if line['data'] == data])}"
        for data in dict.fromkeys(line["data"] for line in found)
    )


def _table(found: Sequence[Line]) -> str:
    own = {(line["noise"], line["seed"]): line for line in found if line["study"] == OWN}
    noises = dict.fromkeys(line["noise"] for line in found)
    rows: list[tuple[float, list[str]]] = []
    for study, values in dict.fromkeys((line["study"], line["values"]) for line in found):
        trial = [line for line in found if (line["study"], line["values"]) == (study, values)]
        plain = values.replace("\\", "")  # Hydra's escapes
        its = [own.get((line["noise"], line["seed"]), {"state": "not run", "noise": ""}) for line in trial]
        states = [line["state"] for line in (*trial, *its) if line["state"] != "finished"]
        if states or {line["noise"] for line in trial} != {*noises}:
            rows.append((float("-inf"), [study, plain, *("–" for _ in noises), (states or ["begun"])[0], "–", "–"]))
            continue
        means = [fmean(_accuracies(line for line in trial if line["noise"] == noise)) for noise in noises]
        gain = "–" if study == OWN else _gain(_accuracies(trial), _accuracies(its))
        seconds, own_seconds = (sum(float(line["training_seconds"]) for line in each) for each in (trial, its))
        numbers = [f"{number:.2f}" for number in (*means, fmean(means))]
        rows.append((fmean(means), [study, plain, *numbers, gain, f"{seconds / own_seconds:.2f}"]))
    header = ["study", "values", *noises, "mean", "gain over slnlab", "time"]
    return table(header, [row for _, row in sorted(rows, key=lambda row: -row[0])], frozenset(header[2:]))


def _gain(ours: Sequence[float], theirs: Sequence[float]) -> str:
    found = paired([a - b for a, b in zip(ours, theirs, strict=True)])
    interval = f" [{found.low:+.2f}, {found.high:+.2f}]" if found else ""
    return f"{fmean(ours) - fmean(theirs):+.2f}{interval}"


def _accuracies(found: Iterable[Line]) -> list[float]:
    return [float(line["noisy_val_percent"]) for line in found]


def main(arguments: Sequence[str] | None = None) -> None:
    print_anywhere()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="of every run, with seed=")
    parser.add_argument("--studies", metavar="A,B", help="of search.yaml; default: all")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="for search.csv and search.md")
    asked = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s", stream=sys.stderr)
    names = asked.studies.split(",") if asked.studies else [*spaces()]
    if unknown := [name for name in names if name not in spaces()]:
        sys.exit(f"error: --studies: there is no {unknown[0]!r}; the studies are {', '.join(spaces())}")
    for name in names:
        for noise in NOISES:
            try:
                own = plan({"correction.enabled": [True, False]}, noise, asked.overrides)
                runs = {str(own.trial({"correction.enabled": "True"}, seed).directory) for seed in own.trial_seeds}
                its_plan = plan(spaces()[name], noise, asked.overrides)
                study = Study.begin(its_plan)
                search(its_plan, study)
                lock = FolderLock(Path(its_plan.example.config.runs_dir), "another process adds lines of")
                lock.acquire(timeout=60)
            except SlnlabError as error:
                sys.exit(f"error: {name}, noise={noise}: {error}")
            try:
                add(asked.out, lines(name, study, runs))
            finally:
                lock.release()


if __name__ == "__main__":
    main()
