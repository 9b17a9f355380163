"""Methods without a run around them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from by_hand import Bare


@pytest.fixture
def bare() -> Callable[..., Bare]:
    """Make it: overrides, `given=[labels]`, `num_classes=C`."""

    def make(*overrides: str, given: list[int], num_classes: int) -> Bare:
        return Bare(overrides, given, num_classes)

    return make
