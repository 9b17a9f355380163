"""Our noise against the authors' published labels, counted by make_published_counts.py."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chi2, chi2_contingency
from torch import Tensor

from slnlab.noise import NoiseRecord, asymmetric, from_csv, instance_dependent, next_class, symmetric

HERE = Path(__file__).parent
PUBLISHED: dict[str, dict[str, Any]] = json.loads((HERE / "published_counts.json").read_text())
CIFAR10_MAP = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}


def counts_of(name: str) -> Tensor:
    return torch.tensor(PUBLISHED[name]["counts"])


def true_labels(counts: Tensor) -> Tensor:
    """The file's ``label`` column up to its order, which none of these models looks at."""
    return torch.arange(len(counts)).repeat_interleave(counts.sum(dim=1))


def count(labels: Tensor, given: Tensor, num_classes: int) -> Tensor:
    pairs = torch.bincount(labels * num_classes + given, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def same_distribution(ours: Tensor, theirs: Tensor) -> float:
    """p-value of the two-sample chi-square test, row by row, that two count matrices have one source."""
    statistic, freedom = 0.0, 0
    for left, right in zip(ours, theirs, strict=True):
        table = torch.stack([left, right])
        table = table[:, table.sum(dim=0) > 0]
        if table.shape[1] > 1:
            result = chi2_contingency(table.numpy(), correction=False)
            statistic, freedom = statistic + result.statistic, freedom + result.dof
    assert freedom > 0
    return float(chi2.sf(statistic, freedom))


def kept_and_flipped(counts: Tensor) -> Tensor:
    return torch.stack([counts.diagonal(), counts.sum(dim=1) - counts.diagonal()], dim=1)


def by_offset(counts: Tensor) -> Tensor:
    """(1, C): samples whose given label lies k classes after the true one. CIFAR-100's cells hold too few."""
    size = len(counts)
    offset = (torch.arange(size)[None, :] - torch.arange(size)[:, None]) % size
    return torch.bincount(offset.flatten(), weights=counts.flatten().double(), minlength=size).long()[None]


def spoil_symmetric(num_classes: int, rate: float, seed: int) -> tuple[Tensor, Tensor]:
    theirs = counts_of(f"cifar{num_classes}_sym0.4.csv")
    labels = true_labels(theirs)
    given = symmetric(labels, rate, num_classes, torch.Generator().manual_seed(seed))
    return count(labels, given, num_classes), theirs


def test_symmetric_noise_matches_published_counts_on_cifar10() -> None:
    ours, theirs = spoil_symmetric(10, 0.4, seed=0)
    assert same_distribution(ours, theirs) > 1e-3


def test_symmetric_noise_matches_published_counts_on_cifar100() -> None:
    ours, theirs = spoil_symmetric(100, 0.4, seed=0)
    assert same_distribution(by_offset(ours), by_offset(theirs)) > 1e-3
    assert same_distribution(kept_and_flipped(ours), kept_and_flipped(theirs)) > 1e-3


def test_the_comparison_notices_flips_that_keep_the_class() -> None:
    # Uniform over all ten classes: 40 % would be 36 %.
    ours, theirs = spoil_symmetric(10, 0.4 * 9 / 10, seed=0)
    assert same_distribution(ours, theirs) < 1e-6


@pytest.mark.parametrize(("num_classes", "class_map"), [(10, CIFAR10_MAP), (100, next_class(100))])
def test_asymmetric_noise_matches_published_counts(num_classes: int, class_map: dict[int, int]) -> None:
    theirs = counts_of(f"cifar{num_classes}_asym0.4.csv")
    labels = true_labels(theirs)
    given = asymmetric(labels, 0.4, class_map, torch.Generator().manual_seed(0))
    ours = count(labels, given, num_classes)
    assert (ours > 0).equal(theirs > 0)
    assert same_distribution(ours, theirs) > 1e-3


@pytest.mark.parametrize("num_classes", [10, 100])
def test_instance_dependent_flips_as_many_as_published(num_classes: int) -> None:
    published = PUBLISHED[f"cifar{num_classes}_dependent0.4.csv"]
    labels = true_labels(torch.tensor(published["counts"]))
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(len(labels), num_classes, generator=generator).softmax(dim=1)
    given = instance_dependent(labels, 0.4, probabilities)
    assert int((given != labels).sum()) == published["num_flips"] == 20_000


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_record_of_the_published_labels_has_the_published_rates(name: str) -> None:
    published, counts = PUBLISHED[name], counts_of(name)
    size = len(counts)
    pairs = torch.arange(size * size).repeat_interleave(counts.flatten())
    record = NoiseRecord(true=pairs // size, given=pairs % size, num_classes=size, name="from_csv", rate=0.4)
    assert record.num_samples == published["num_samples"] == 50_000
    assert int(record.wrong.sum()) == published["num_flips"]
    assert float(record.class_rates.min()) == pytest.approx(published["lowest_class_rate"], abs=1e-6)
    assert float(record.class_rates.max()) == pytest.approx(published["highest_class_rate"], abs=1e-6)
    torch.testing.assert_close(record.transition_matrix, counts.double() / (50_000 / size), rtol=0, atol=1e-12)


def test_the_known_facts_of_the_published_files() -> None:
    # As the paper's readers know them: 20.32 % on asymmetric CIFAR-10, class rates of 24 to 66 %.
    assert PUBLISHED["cifar10_asym0.4.csv"]["num_flips"] / 50_000 == pytest.approx(0.2032, abs=5e-5)
    dependent = PUBLISHED["cifar10_dependent0.4.csv"]
    assert round(dependent["lowest_class_rate"], 2) == 0.24
    assert round(dependent["highest_class_rate"], 2) == 0.66
    assert all(len(facts["sha256"]) == 64 for facts in PUBLISHED.values())


def test_the_counting_script_counts_flips(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    path.write_bytes(b"label,label_noisy\r\n0,1\r\n0,0\r\n2,1\r\n2,1\r\n")
    facts = runpy.run_path(str(HERE / "make_published_counts.py"))["describe"](path, 3)
    assert facts["counts"] == [[1, 1, 0], [0, 0, 0], [0, 2, 0]]
    assert (facts["num_samples"], facts["num_flips"]) == (4, 3)
    assert (facts["lowest_class_rate"], facts["highest_class_rate"]) == (0.5, 1.0)
    labels = torch.tensor([0, 0, 2, 2])
    assert count(labels, from_csv(labels, path, 3), 3).tolist() == facts["counts"]
