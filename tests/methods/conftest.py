"""Fixtures: methods without a run, and the methods of the tier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tier
from by_hand import Bare

from slnlab import config


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for a `method_name` is done for every method; slow, unless the module's STANDING names it."""
    if "method_name" in metafunc.fixturenames:
        own = metafunc.config.getoption("--config-dir")
        names = tier.names(own)
        standing = names if own else getattr(metafunc.module, "STANDING", names)
        assert set(standing) <= set(names)
        marked = [pytest.param(name, marks=() if name in standing else pytest.mark.slow) for name in names]
        metafunc.parametrize("method_name", marked, scope="module")


@pytest.fixture(scope="module", autouse=True)
def searched(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    """The folder of `--config-dir`, if there is one, is searched as a command does it."""
    folder = pytestconfig.getoption("--config-dir")
    before = list(config.extra_config_dirs)
    config.extra_config_dirs.extend([str(Path(folder).resolve())] if folder else [])
    yield config.extra_config_dirs
    config.extra_config_dirs[:] = before


@pytest.fixture
def bare() -> Callable[..., Bare]:
    """Make it: overrides, `given=[labels]`, `num_classes=C`."""

    def make(*overrides: str, given: list[int], num_classes: int) -> Bare:
        return Bare(overrides, given, num_classes)

    return make


@pytest.fixture(scope="module")
def own_images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The override that names a folder of images: two classes, with twenty images that nobody can open."""
    root = tmp_path_factory.mktemp("images")
    for number in range(20):
        image = root / ("cat", "dog")[number % 2] / f"{number}.jpg"
        image.parent.mkdir(exist_ok=True)
        image.touch()
    return f"data.source.root={root}"
