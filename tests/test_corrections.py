"""Corrected labels: policies, cuts, a person's decisions, and corrections of corrections, on image files."""

from __future__ import annotations

import copy
import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_photos import EARLIER, photos, trained, written

import slnlab
from slnlab.diagnose import main
from slnlab.errors import ConfigError, DataError
from slnlab.image_folder.listing import read_image_folder
from slnlab.inference.corrections import (
    Policy,
    _last_of_their_class,
    check_request,
    check_target,
    corrected,
    usage,
    write_corrected,
)
from slnlab.inference.decisions import decisions_of, read_decisions
from slnlab.inference.diagnosis import Diagnosis, diagnose


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def found(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    return diagnose(slnlab.load(trained(folder, tmp_path_factory.mktemp("runs"))), images=False)


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def decided(tmp_path: Path, *lines: str, header: str = "path,decision,label") -> Path:
    (tmp_path / "decisions.csv").write_text("\n".join([header, *lines]) + "\n")
    return tmp_path / "decisions.csv"


def ranking(found: Diagnosis) -> list[int]:
    """The rows of images that no earlier correction changed, the likeliest wrong label first."""
    return [row for row in found.order.tolist() if found.columns["path"][row] not in EARLIER]


def name(found: Diagnosis, rank: int) -> str:
    """The image at a place of this ranking, from 0."""
    return str(found.columns["path"][ranking(found)[rank]])


def test_images_left_out_stay_out(folder: Path, found: Diagnosis, tmp_path: Path) -> None:
    """A file written from a run that trained with corrections contains these corrections."""
    labels = corrected(found, top=1)
    write_corrected(labels, tmp_path / "second.csv")
    assert str(labels) == "1 of 40 training samples relabelled, 0 left out, 1 weighted, 2 left out before"
    before, after = rows(found.run.directory.parent / "earlier.csv"), rows(tmp_path / "second.csv")
    assert len(after) == 40
    assert [after[path]["label"] for path in before if path != name(found, 0)] == [
        EARLIER[path] for path in before if path != name(found, 0)
    ]
    assert {path: row["weight"] for path, row in after.items() if row["weight"] != "1"} == {"zero/6.png": "0.5"}
    contents = read_image_folder(str(folder), labels=str(tmp_path / "second.csv"))
    assert set(EARLIER) - set(contents.splits["train"].paths) == {"one/4.png", "zero/5.png"}


def test_the_result_counts_the_corrections_of_the_run(found: Diagnosis) -> None:
    assert found.run.result.label_noise["corrections"] == {"changed": 1, "left_out": 2, "weighted": 1}


@pytest.mark.parametrize("policy", ["relabel", "drop", "weight"])
def test_policies_treat_the_likeliest_wrong_labels(found: Diagnosis, tmp_path: Path, policy: Policy) -> None:
    labels = corrected(found, policy, top=3)
    write_corrected(labels, tmp_path / "new.csv")
    assert labels.data.weights() == {"zero/6.png": 0.5}, "the weights of the run stay as they are"
    after = rows(tmp_path / "new.csv")
    for rank, row in enumerate(ranking(found)[:4]):
        given, suggested = (found.run.classes[of[row]] for of in (found.columns["given"], found.suggested))
        label = given if rank == 3 or policy == "weight" else {"relabel": suggested, "drop": ""}[policy]
        assert after[name(found, rank)]["label"] == label
        if policy == "weight":
            weight = 1 - found.estimate.wrong[row] if rank < 3 else 1
            assert float(after[name(found, rank)]["weight"]) == pytest.approx(weight, abs=1e-4)


def test_decisions_win_over_the_ranking(found: Diagnosis, tmp_path: Path) -> None:
    first, second, third, last = (name(found, rank) for rank in (0, 1, 2, -1))
    given = {path: found.run.classes[found.columns["given"][row]] for row, path in enumerate(found.columns["path"])}
    other = {"zero": "one", "one": "zero"}
    file = decided(
        tmp_path, f"{first},keep,", f"{second},drop,", f"{last},relabel,{other[given[last]]}", "one/4.png,keep,one"
    )
    labels = corrected(found, top=1, decisions=decisions_of(found.run, file))
    write_corrected(labels, tmp_path / "new.csv")
    after = {path: row["label"] for path, row in rows(tmp_path / "new.csv").items()}
    assert after[first] == given[first]
    assert after[second] == ""
    assert after[third] == other[given[third]], "the policy treats the others"
    assert after[last] == other[given[last]], "a decision needs no suspicion"
    assert after["one/4.png"] == "one", "a decision brings an image back"
    assert (labels.relabelled, labels.left_out, labels.earlier) == (3, 1, 1)


def test_earlier_corrections_and_reviewed_images_are_settled(found: Diagnosis, tmp_path: Path) -> None:
    """No policy reverts an earlier correction, and `--top 2` treats two images that nobody has looked at."""
    assert corrected(found, top=38).labels["one/3.png"] == found.run.classes.index("zero")
    keep = decisions_of(found.run, decided(tmp_path, *(f"{name(found, rank)},keep," for rank in range(3))))
    labels = corrected(found, top=2, decisions=keep)
    changed = {path for path, row in zip(found.columns["path"], found.columns["given"], strict=True)
               if labels.labels[path] != row}  # fmt: skip
    assert changed == {name(found, 3), name(found, 4)}


def test_a_policy_leaves_the_last_image_of_a_class(found: Diagnosis) -> None:
    labels = corrected(found, "drop", top=38)
    ones = [row for row in ranking(found) if found.run.classes[found.columns["given"][row]] == "one"]
    left = {path for path, label in labels.labels.items() if label is not None}
    assert left == {"one/3.png", str(found.columns["path"][ones[-1]])}, "the least suspicious one"
    assert "36 left out, 1 kept as the last of their class" in str(labels)


def test_a_sample_that_stays_may_empty_the_class_that_it_was_to_get() -> None:
    """The only a was to become b, and all b become c: then a b stays too."""
    before: dict[str, int | None] = {"a": 0, "b1": 1, "b2": 1, "c": 2}
    after: dict[str, int | None] = {"a": 1, "b1": 2, "b2": 2, "c": 2}
    assert _last_of_their_class(before, after, ["b2", "a", "b1"]) == {"a": 0, "b2": 1}
    assert _last_of_their_class(before, {**after, "a": 0}, ["b2", "b1"]) == {"b2": 1}
    assert _last_of_their_class(before, {**after, "a": None}, []) == {}, "a person has left it out"


def test_only_decisions_count_with_keep(found: Diagnosis, tmp_path: Path) -> None:
    labels = corrected(found, "keep", decisions=decisions_of(found.run, decided(tmp_path, f"{name(found, 0)},drop,")))
    assert (labels.relabelled, labels.left_out) == (0, 1)
    again = corrected(found, "keep")
    assert (again.relabelled, again.left_out, again.earlier) == (0, 0, 2), "those of the run's data.labels"
    first = copy.copy(found.run)
    first.config = found.run.config.copy()
    first.config.data.labels = None
    with pytest.raises(ConfigError, match="give --reviewed"):
        check_request(first, "keep", None, None, reviewed=False)


def test_a_class_keeps_an_image(found: Diagnosis, tmp_path: Path) -> None:
    ones = [f"one/{n}.png,drop," for n in range(20)]
    with pytest.raises(
        ConfigError, match="--reviewed: leaves no training sample of 'one', and training needs one of each class"
    ):
        corrected(found, "keep", decisions=decisions_of(found.run, decided(tmp_path, *ones)))


def test_precision_is_the_mean_probability_of_the_chosen(found: Diagnosis) -> None:
    wrong = np.full(len(found.order), 0.1)
    wrong[ranking(found)[:4]] = 1, 0.9, 0.8, 0.5  # means: 1, .95, .9, .8, .66, …
    made = found._replace(estimate=found.estimate._replace(wrong=wrong))
    assert [corrected(made, precision=share).relabelled for share in (1, 0.95, 0.9, 0.81, 0.8)] == [1, 2, 3, 3, 4]
    wrong[ranking(found)[0]] = 0.9
    with pytest.raises(ConfigError, match=r"--precision: 0.95, but the likeliest wrong label has P\(wrong\) = 0.9"):
        corrected(made, precision=0.95)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["one/77.png,drop,"], "line 2: there is no training sample with the path 'one/77.png'"),
        (
            ["one/1.png,keep,", "one/2.png,relabel,two"],
            "line 3: there is no class 'two'; the classes are 'one', 'zero'",
        ),
        (["one/1.png,relabel,"], "line 2: there is no class ''"),
        (["one/1.png,keep,zero"], "line 2: keeps 'zero', but the label is 'one'; write relabel"),
        (["one/1.png,maybe,"], "line 2: the decision 'maybe' is not allowed: keep, relabel, drop"),
        (["one/1.png,keep,", "one//1.png,drop,"], "line 3: a second row of 'one//1.png'"),
        (["one/1.png,keep"], "line 2: must have 3 columns, has 2"),
        ([], "has no row below its header"),
    ],
)
def test_faulty_decisions_are_refused(found: Diagnosis, tmp_path: Path, lines: list[str], message: str) -> None:
    file = decided(tmp_path, *lines)
    with pytest.raises(DataError) as refused:
        decisions_of(found.run, file)
    assert str(refused.value).startswith(f"{file}: {message}")


def test_a_missing_column_is_named(found: Diagnosis, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"decisions.csv: line 1 has no column 'label'; its columns are 'path', 'decis"):
        decisions_of(found.run, decided(tmp_path, "one/1.png,keep", header="path,decision"))


def test_files_of_other_programs_are_read(found: Diagnosis, tmp_path: Path) -> None:
    """A byte order mark, Windows line ends, blanks, another order of columns, columns of no meaning."""
    file = tmp_path / "decisions.csv"
    file.write_bytes(
        "\ufefflabel, note ,path,decision\r\nzero,hm,one\\1.png, relabel\r\n,,zero/2.png,keep\r\n".encode()
    )
    classes = found.run.classes
    assert decisions_of(found.run, file) == {"one/1.png": classes.index("zero"), "zero/2.png": classes.index("zero")}


def test_samples_in_memory_have_a_number_and_stay(tmp_path: Path) -> None:
    known = {"0": 1, "1": 0}
    file = decided(tmp_path, "1,relabel,b", "0,keep,", header="index,decision,label")
    assert read_decisions(file, "index", known, "ab", droppable=False) == {"1": 1, "0": 1}
    with pytest.raises(DataError, match="line 2: no sample of this data set can be left out"):
        read_decisions(decided(tmp_path, "1,drop,", header="index,decision,label"), "index", known, "ab", False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "1.5"], "--precision: must lie in (0, 1], not 1.5"),
        (["--precision", ".9", "--top", "3"], "--top, --precision: give one of them"),
        (["--top", "99"], "--top: must lie in [1, 38], the number of training samples, not 99"),
        (["--policy", "keep", "--top", "3"], "--policy keep: changes reviewed labels only"),
        (["--reviewed", "none.csv"], "none.csv: no such file"),
    ],
)
def test_wrong_wishes_end_before_the_diagnosis(
    found: Diagnosis, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setattr("slnlab.inference.diagnosis.diagnose", None)
    with pytest.raises(SystemExit) as stopped:
        main([str(found.run.directory), "--write", "new.csv", *words])
    assert message in str(stopped.value)


def test_names_tell_the_samples_of_a_part_apart(found: Diagnosis, tmp_path: Path) -> None:
    """Numbers would count another set than that of the file."""
    run = copy.copy(found.run)
    object.__setattr__(run, "config", run.config.copy())
    run.config.data.imbalance = 2
    check_target(run, tmp_path / "new.csv")
    run.samples = {name: column for name, column in found.run.samples.items() if name != "path"}
    with pytest.raises(ConfigError, match=r"^--write: data\.imbalance=2 leaves a part of folder"):
        check_target(run, tmp_path / "new.csv")


def test_a_missing_folder_ends_before_the_diagnosis(found: Diagnosis, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--write: .*new.csv: there is no folder .*none"):
        check_target(found.run, tmp_path / "none" / "new.csv")


def test_files_that_are_read_are_not_overwritten(found: Diagnosis, folder: Path, tmp_path: Path) -> None:
    file = decided(tmp_path, f"{name(found, 0)},keep,")
    before = file.read_text()
    with pytest.raises(SystemExit, match=r"--write: .*decisions.csv is read as --reviewed and needed as it is"):
        main([str(found.run.directory), "--write", str(file), "--reviewed", str(file)])
    assert file.read_text() == before
    run = copy.copy(found.run)
    object.__setattr__(run, "config", run.config.copy())
    run.config.data.source.root = str(tmp_path / "list.csv")
    with pytest.raises(ConfigError, match=r"list.csv is read as data.source.root"):
        check_target(run, tmp_path / "list.csv")


def test_the_next_command_does_not_draw_noise_upon_corrections(found: Diagnosis) -> None:
    run = copy.copy(found.run)
    object.__setattr__(run, "config", run.config.copy())
    assert usage(run, Path("new.csv")) == "data.labels=new.csv"
    run.config.noise.name = "sym"
    assert usage(run, Path("new.csv")) == "data.labels=new.csv noise=real"
    del run.config.data.source["labels"]
    assert usage(run, Path("new.csv")) == "noise=csv noise.path=new.csv"


def test_shares_of_annotators_stand_where_nothing_was_decided(found: Diagnosis, tmp_path: Path) -> None:
    """A row of the corrected file would replace them."""
    labels = corrected(found, top=1)
    others = frozenset({"zero/1.png", "one/2.png"} - {name(found, 0)})
    write_corrected(labels._replace(by_votes=others), tmp_path / "new.csv")
    assert len(rows(tmp_path / "new.csv")) == 40 - len(others)
    source: Any = labels.data.source  # type: ignore[attr-defined]
    source.targets = lambda: dict.fromkeys([*(name(found, rank) for rank in range(3)), "an image beyond train_size"])
    decisions = decisions_of(found.run, decided(tmp_path, f"{name(found, 1)},keep,"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slnlab.inference.corrections.data_of", lambda run: labels.data)
        assert corrected(found, top=1, decisions=decisions).by_votes == {name(found, 2)}


def test_a_kept_label_has_its_full_weight_again(found: Diagnosis, tmp_path: Path) -> None:
    """The only weight below 1 is that of an image that a person keeps: the column says so, or the old one stayed."""
    labels = corrected(found, "keep", decisions=decisions_of(found.run, decided(tmp_path, "zero/6.png,keep,")))
    write_corrected(labels, tmp_path / "new.csv")
    assert rows(tmp_path / "new.csv")["zero/6.png"]["weight"] == "1"


def test_labels_of_the_run_are_neither_overwritten_nor_trusted_after_a_change(found: Diagnosis) -> None:
    file = found.run.directory.parent / "earlier.csv"
    text = file.read_text()
    with pytest.raises(ConfigError, match=r"--write: .*earlier.csv is read as data.labels and needed as it is"):
        write_corrected(corrected(found), file)
    try:
        written(file, EARLIER | {"zero/7.png": "one"})
        with pytest.raises(DataError, match=r"the given labels of folder differ from those in samples.npz"):
            corrected(found)
    finally:
        file.write_text(text)
