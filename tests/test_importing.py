"""Large imports without a search for garbage, which goes on afterwards."""

from __future__ import annotations

import gc

import pytest

from slnlab.processes import importing


def fails() -> None:
    with importing.without_search("no_such_library"):
        assert not gc.isenabled()
        raise ImportError


@pytest.mark.parametrize("before", [True, False])
def test_the_search_for_garbage_is_as_before_after_an_import(before: bool) -> None:
    try:
        (gc.enable if before else gc.disable)()
        with pytest.raises(ImportError):
            fails()
        assert gc.isenabled() is before
    finally:
        gc.enable()


def test_later_runs_leave_no_garbage_behind() -> None:
    """A sweep in one process would keep the garbage of every run."""
    before = gc.get_freeze_count()
    with importing.without_search("pytest"):
        assert gc.isenabled()
        made: list[list[int]] = [[] for _ in range(1000)]
    assert gc.get_freeze_count() <= before, "objects that are frozen already may die"
    assert len(made) == 1000
