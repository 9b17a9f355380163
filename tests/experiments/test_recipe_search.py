"""The search around `method=slnlab`: its studies begin at the recipe, and its tables follow from its lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

import pytest
import recipe_search
from evidence import Line, read
from recipe_search import FOLDER, page, plan, spaces

from slnlab.config import compose
from slnlab.training.settling import settle

TYPED = ["experiment=recipe_digits", "data.noisy_val=260", "seed=0", "runs_dir=runs"]


@pytest.mark.parametrize("name", spaces())
def test_every_study_can_train_and_begins_at_the_recipe(name: str) -> None:
    study = plan(spaces()[name], "asym", TYPED)
    assert study.weights == "momentum"
    first = study.trial(next(study.grid()), 0).directory
    own = settle(compose(["method=slnlab", "noise=asym", "noise.seed=0", "data.test=false", *TYPED])).directory
    assert (first == own) == (name != "core without correction"), "which begins at the recipe without it"


def lines(study: str, values: str, *accuracies: float | None, seconds: float = 2.0) -> Iterator[Line]:
    """Lines of search.csv: two seeds of symmetric noise, then two of asymmetric noise; None: diverged."""
    for place, accuracy in enumerate(accuracies):
        yield {
            "data": "digits",
            "noise": ("sym 0.4", "asym 0.4")[place // 2],
            "study": study,
            "values": values,
            "seed": str(place % 2),
            "state": "diverged" if accuracy is None else "finished",
            "noisy_val_percent": "" if accuracy is None else str(accuracy),
            "training_seconds": str(seconds),
        }


def test_the_table_of_three_trials() -> None:
    """Differences of 1, 3, 1 and 3 points have the mean 2 and the standard error 1/√3; t(3) is 3.182."""
    found = [
        *lines("slnlab", "", 60, 62, 70, 72),
        *lines("schedule", "scheduler=cosine", 61, 65, 71, 75, seconds=3),
        *lines("loss", "loss=gce", 90, 90, 90, None),
        *lines("loss", "loss=sce", 90, 90),
    ]
    assert page(found).splitlines() == [
        "**digits**",
        "",
        "| study | values | sym 0.4 | asym 0.4 | mean | gain over slnlab | time |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| schedule | scheduler=cosine | 63.00 | 73.00 | 68.00 | +2.00 [+0.16, +3.84] | 1.50 |",
        "| slnlab |  | 61.00 | 71.00 | 66.00 | – | 1.00 |",
        "| loss | loss=gce | – | – | diverged | – | – |",
        "| loss | loss=sce | – | – | begun | – | – |",
    ]
    assert "| not run |" in page(found[4:8]), "the recipe has not run there"


def test_a_search_of_tiny_runs(tmp_path: Path) -> None:
    """A study, then another one on the same runs of the recipe: `search.csv` keeps the lines of the first."""
    typed = ["data=digits", "data.train_size=60", "data.noisy_val=20", "trainer.max_epochs=5", "seed=0"]
    typed += ["preset.correction_epochs=1", f"runs_dir={tmp_path / 'runs'}", "--out", str(tmp_path)]
    for name in ("weighting of correction", "prediction of correction"):
        recipe_search.main([*typed, "--studies", name])
    studies = [line["study"] for line in read(tmp_path / "search.csv")]
    assert sorted(studies) == [*["prediction of correction"] * 2, *["slnlab"] * 2, *["weighting of correction"] * 2]
    assert (tmp_path / "search.md").read_text("utf-8").count("| slnlab |") == 1
    with pytest.raises(SystemExit, match=r"^error: loss, noise=sym: .*data\.noisy_val"):
        recipe_search.main([*typed, "--studies", "loss", "data.noisy_val=70"])


def test_the_committed_tables_follow_from_their_runs() -> None:
    found = read(FOLDER / "search.csv")
    assert found
    assert (FOLDER / "search.md").read_text("utf-8") == page(found) + "\n"


NOISES = {
    "symmetric": "sym", "asymmetric": "asym", "instance-dependent": "dependent", "part-dependent": "part_dependent",
    "open-set": "open_set",
}  # fmt: skip
PARTS = {"without class balance": "class_balance.strength=0", "without label correction": "correction.enabled=false",
         "without ELR": "method.strength=0"}  # fmt: skip


def cell(found: list[Line]) -> str:
    accuracies = [100 * float(line["test_last"]) for line in found]
    assert [line["seed"] for line in found] == ["5", "6", "7", "8", "9"]
    return f"{fmean(accuracies):.1f} ± {stdev(accuracies):.1f}"


def table_of(mark: str) -> list[list[str]]:
    """The cells of the table of the page whose header begins with these words."""
    text = (FOLDER / "README.md").read_text("utf-8").partition(mark)[2].partition("\n\n")[0]
    return [[each.strip(" *") for each in line.strip("|").split("|")] for line in f"{mark}{text}".splitlines()]


def test_the_confirmation_follows_from_its_runs() -> None:
    (_, *labels), _, *rows = table_of("| noise | CE |")
    runs = read(FOLDER / "results.csv")
    assert len(rows) == len(NOISES)
    for name, *cells in rows:
        of_noise = [line for line in runs if line["noise"] == NOISES[name] and line["test_last"]]
        assert cells == [cell([line for line in of_noise if line["label"] == label]) for label in labels]


def test_the_ablation_follows_from_its_runs() -> None:
    (_, *noises), _, (whole, *cells), *rows = table_of("| | symmetric | asymmetric | instance-dependent |")
    for noise, text in zip(noises, cells, strict=True):
        runs = [line for line in read(FOLDER / "results.csv") if line["noise"] == NOISES[noise]]
        assert text == cell([line for line in runs if line["label"] == whole])
        runs = [line for line in read(FOLDER / "parts/results.csv") if line["noise"] == NOISES[noise]]
        for name, *texts in rows:
            key = PARTS[name.partition(" (")[0]]
            its = [line for line in runs if line["label"] == "slnlab" and key in line["setting"].split(", ")]
            assert texts[noises.index(noise)] == cell(its), name
