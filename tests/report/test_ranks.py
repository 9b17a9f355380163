"""Average ranks, their critical difference and their groups."""

from __future__ import annotations

import pytest

from slnlab.errors import ConfigError
from slnlab.tables.ranks import Ranks, average_ranks


def test_average_ranks_by_hand() -> None:
    """Blocks rank a, b, c as 1, 2, 3; 1, 3, 2; and 2.5, 1, 2.5 for a tie."""
    found = average_ranks({"a": [90, 80, 70], "b": [89, 60, 75], "c": [50, 70, 70]})
    assert list(found.average) == ["a", "b", "c"]
    assert list(found.average.values()) == pytest.approx([4.5 / 3, 6 / 3, 7.5 / 3])
    assert found.blocks == 3


def test_the_critical_difference_is_that_of_demsar() -> None:
    """Four classifiers on 14 data sets: 2.569·√(4·5/(6·14)) = 1.25 (Demšar 2006, section 3.2.2 and table 5)."""
    found = average_ranks({name: list(range(place, 14 + place)) for place, name in enumerate("abcd")})
    assert found.difference == pytest.approx(2.569 * (20 / 84) ** 0.5, abs=1e-3)
    assert found.average == {"d": 1, "c": 2, "b": 3, "a": 4}
    assert found.groups() == [["d", "c"], ["c", "b"], ["b", "a"]]
    assert found.p == pytest.approx(0.0, abs=1e-8)


def test_groups_are_the_longest_runs_within_the_critical_difference() -> None:
    ranks = Ranks({"a": 1.0, "b": 1.5, "c": 1.9, "d": 3.5}, blocks=5, difference=1.0, p=0.01)
    assert ranks.groups() == [["a", "b", "c"]]


def test_alike_methods_have_a_large_p_value() -> None:
    """Each method is first, second and third once."""
    found = average_ranks({"a": [3, 2, 1], "b": [2, 1, 3], "c": [1, 3, 2]})
    assert found.p == pytest.approx(1.0)
    assert found.groups() == [["a", "b", "c"]]


@pytest.mark.filterwarnings("error")
def test_methods_that_tie_in_every_block_are_alike() -> None:
    assert average_ranks({name: [0.9, 0.8] for name in "abc"}).p == 1.0


def test_one_block_has_ranks_alone() -> None:
    found = average_ranks({"a": [1], "b": [2]})
    assert (found.average, found.difference, found.p, found.groups()) == ({"b": 1, "a": 2}, None, None, [])


@pytest.mark.parametrize("accuracies", [{}, {"a": [1.0]}, {"a": [], "b": []}, {"a": [1.0], "b": [1.0, 2.0]}])
def test_methods_without_common_blocks_are_refused(accuracies: dict[str, list[float]]) -> None:
    with pytest.raises(ConfigError, match="at least two methods"):
        average_ranks(accuracies)
