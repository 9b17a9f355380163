"""Hydra's loader with a cache gives the configurations of Hydra's own, never stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from slnlab import config
from slnlab.config import compose
from slnlab.config.loader import Loader
from slnlab.errors import ConfigError


def load(loader: ConfigLoaderImpl, *overrides: str) -> DictConfig:
    return loader.load_configuration("train", list(overrides), RunMode.RUN)


@pytest.fixture(scope="module")
def loaders() -> tuple[Loader, ConfigLoaderImpl]:
    path = create_config_search_path(str(config.CONF_DIR))
    return Loader(path), ConfigLoaderImpl(path)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("seed=3", "method=elr", "sln.sigma=0.5", "sln.sigma=0.1", "noise=asym"),  # the last one counts
        ("data=cifar10", "noise=asym", "method=sln_mo_lc", "noise.class_map={1: 2}", "+noise.more=[1,2]", "~seed"),
        ("experiment=demo", "hydra.job.name=x", "hydra/launcher=basic", "noise={rate: 0.1}", "launcher=local"),
        ("hydra.job.env_copy=[PATH]", "optimizer.lr=0.3"),
    ],
)
def test_the_loader_composes_as_hydra_does(
    overrides: tuple[str, ...], loaders: tuple[Loader, ConfigLoaderImpl]
) -> None:
    """Hydra's own node and the flags that keep new keys out included, at first and from memory."""
    ours, hydras = loaders
    expected = load(hydras, *overrides)
    for found in (load(ours, *overrides), load(ours, *overrides)):
        assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(expected)
        assert OmegaConf.is_struct(found) == OmegaConf.is_struct(expected)
        assert OmegaConf.is_readonly(found.hydra) == OmegaConf.is_readonly(expected.hydra)


@pytest.mark.parametrize(
    "override", ["seed=1,2", "sln.sgima=1", "noise=bogus", "noise@here=sym", "seed=[", "+seed=1", "~sed", "++noise=sym"]
)
def test_the_loader_refuses_what_hydra_refuses(override: str, loaders: tuple[Loader, ConfigLoaderImpl]) -> None:
    said = []
    for loader in loaders:
        with pytest.raises(HydraException) as error:
            load(loader, "seed=2", override)
        said.append((type(error.value), str(error.value)))
    assert said[0] == said[1]


def test_each_composed_configuration_is_independent() -> None:
    first = compose(["method=elr"])
    first.method.strength = 99
    assert compose(["method=elr"]).method.strength != 99


@pytest.mark.parametrize("way", ["changed", "appeared", "removed"])
def test_changed_files_are_read_again(way: str, tmp_path: Path) -> None:
    first, second = (tmp_path / name / "noise" / "mine.yaml" for name in ("first", "second"))
    for path in (first, second):
        path.parent.mkdir(parents=True)
    second.write_text("_target_: mine.noise\nname: mine\nrate: 0.1\nseed: 0\n")
    config.extra_config_dirs[:] = [str(tmp_path / "first"), str(tmp_path / "second")]
    overrides = ["noise=mine", "seed=1"]
    assert compose(overrides).noise.rate == 0.1
    assert compose(overrides).noise.rate == 0.1
    if way == "removed":
        second.unlink()
        with pytest.raises(ConfigError, match="noise=mine"):
            compose(overrides)
    else:  # one that appears in the folder that is searched first hides the other
        (second if way == "changed" else first).write_text("_target_: mine.noise\nname: mine\nrate: 0.2\nseed: 0\n")
        assert compose(overrides).noise.rate == 0.2


def test_options_are_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    whole = ConfigLoaderImpl._compose_config_from_defaults_list

    def counted(*args: Any, **options: Any) -> DictConfig:
        composed.append(1)
        return whole(*args, **options)

    monkeypatch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", counted)
    loader = Loader(create_config_search_path(str(config.CONF_DIR)))
    for seed in range(3):
        assert load(loader, "method=sop", f"seed={seed}").seed == seed
    assert len(composed) == 1


def test_a_file_is_parsed_once_for_all_choices_of_options(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    whole = ConfigRepository.load_config

    def counted(repository: ConfigRepository, config_path: str) -> ConfigResult | None:
        found = whole(repository, config_path)
        if found and found.path.startswith("file:"):
            parsed.append(config_path)
        return found

    monkeypatch.setattr(ConfigRepository, "load_config", counted)
    monkeypatch.setattr("slnlab.config.loader._parsed", {})
    for options in (("method=sop",), ("method=sop", "noise=asym"), ("method=elr", "noise=asym")):
        load(Loader(create_config_search_path(str(config.CONF_DIR))), *options)
    assert {"train", "method/sop", "method/elr", "noise/sym", "noise/asym"} <= set(parsed)
    assert len(parsed) == len(set(parsed))
