"""The benchmark of methods times every phase of a method."""

from __future__ import annotations

import pytest
from benchmarks.methods import one_round, phases, steady

QUICK = ["data.train_size=64", "trainer.accelerator=cpu"]


def test_label_correction_counts_by_its_share_of_the_epochs() -> None:
    """On digits the last 10 of 60 epochs correct labels."""
    plain, corrected = phases("sln_mo_lc", [])
    assert (plain.corrects, corrected.corrects) == (False, True)
    assert (plain.share, corrected.share) == (pytest.approx(50 / 60), pytest.approx(10 / 60))
    assert [steady(phase, QUICK).correction.enabled for phase in (plain, corrected)] == [False, True]
    assert [phase.share for phase in phases("sln", [])] == [1.0]


def test_a_method_with_phases_has_a_cost() -> None:
    costs = one_round(["truncated_gce"], QUICK)
    assert costs.keys() == {"truncated_gce"}
    assert costs["truncated_gce"] > 0
