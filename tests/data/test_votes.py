"""Several labels of an image: frequencies as targets, and Dawid and Skene's estimate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from folders import SMALL, put

from slnlab.config import check, compose
from slnlab.data.folder import ImageFolder
from slnlab.errors import ConfigError
from slnlab.image_folder.votes import dawid_skene, frequencies
from slnlab.training import assemble
from slnlab.training.settling import settle


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    """Two of three people call image 0 a dog; image 1 has one label, and image 2 two that agree."""
    put(tmp_path, *(f"{n}.png" for n in range(3)))
    rows = ["0.png,dog,ann", "0.png,cat,bob", "0.png,dog,eve", "1.png,cat,ann", "2.png,dog,bob", "2.png,dog,eve"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,annotator", *rows]) + "\n")
    return tmp_path / "list.csv"


def words(file: Path, *overrides: str) -> list[str]:
    return ["data=csv", f"data.source.root={file}", "method=ce", *SMALL, "data.batch_size=2", *overrides]


def test_frequencies_by_hand() -> None:
    answers = {"a": {"ann": 0, "bob": 2, "eve": 2, "joe": 2}, "b": {"ann": 1}}
    found = frequencies(answers, 3)
    assert {path: share.tolist() for path, share in found.items()} == {"a": [0.25, 0.0, 0.75]}


def test_two_careful_people_are_believed_against_three_who_guess() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(2, size=200)
    answers = {}
    for number, label in enumerate(true.tolist()):
        good = {f"good {n}": int(label) if generator.random() < 0.95 else 1 - int(label) for n in range(2)}
        bad = {f"bad {n}": int(generator.integers(2)) for n in range(3)}
        answers[str(number)] = good | bad
    found = np.array([*dawid_skene(answers, 2).values()])
    majority = np.array([round(sum(each.values()) / 5) for each in answers.values()])
    assert (found == true).mean() > 0.93 > 0.85 > (majority == true).mean()


def test_swapped_answers_of_one_person_are_understood() -> None:
    """Bob says 1 for 0 and 0 for 1. Where he is alone, the others' records say what he means."""
    answers = {str(n): {"ann": n % 2, "eve": n % 2, "bob": 1 - n % 2} for n in range(20)} | {"alone": {"bob": 1}}
    found = dawid_skene(answers, 2)
    assert [found[str(n)] for n in range(20)] == [n % 2 for n in range(20)]
    assert found["alone"] == 0


def test_frequencies_are_the_targets_of_training(votes: Path) -> None:
    method = assemble.method(config := compose(words(votes, "data.source.votes=frequency")))
    data = assemble.datamodule(config)
    data.prepare_data()
    data.setup()
    names = data.paths(torch.arange(3))
    assert data.labels.given.tolist() == [{"0.png": 1, "1.png": 0, "2.png": 1}[name] for name in names]
    assert data.labels.target is not None
    method.trainer = type("Trainer", (), {"datamodule": data})()
    method.setup("fit")
    expected = {"0.png": [1 / 3, 2 / 3], "1.png": [1.0, 0.0], "2.png": [0.0, 1.0]}
    torch.testing.assert_close(method.table.targets(torch.arange(3)), torch.tensor([expected[name] for name in names]))


@pytest.mark.parametrize("label", ["cat", "dog"])
def test_a_corrected_label_counts_alone(votes: Path, label: str) -> None:
    """That of most people too, if somebody has confirmed it."""
    (votes.parent / "corrected.csv").write_text(f"path,label\n0.png,{label}\n")
    source = ImageFolder(str(votes), labels=str(votes.parent / "corrected.csv"), votes="frequency")
    assert sorted(source.targets()) == ["2.png"]


def test_majority_is_no_part_of_the_identity_and_others_are(votes: Path) -> None:
    usual, other = (settle(compose(words(votes, f"data.source.votes={each}"))) for each in ("majority", "dawid_skene"))
    assert "votes" not in usual.identity["data"]["source"]
    assert other.identity["data"]["source"]["votes"] == "dawid_skene"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.source.votes=mean"], "data.source.votes"),
        (["data.source.votes=frequency", "method=dividemix"], "method=dividemix takes given labels only"),
        (["data.source.votes=frequency", "noise=sym"], "frequency is no target for labels that are changed"),
    ],
)
def test_what_frequencies_do_not_fit_is_refused(votes: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(compose(words(votes, *overrides)))
