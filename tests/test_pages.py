"""The generated pages of docs/, and the loop in the README."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from slnlab.config import CONF_DIR, check, compose
from slnlab.schema.composable import COMPOSABLE
from slnlab.schema.law import law

ROOT = Path(__file__).resolve().parents[1]
METHODS = sorted(path.stem for path in (CONF_DIR / "method").glob("*.yaml"))


@cache
def composed(name: str) -> Any:
    """The node `method` of the configuration with a method."""
    return compose([f"method={name}"]).method


@pytest.fixture
def make_pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("make_pages")


def test_the_committed_pages_match_their_sources(make_pages: ModuleType) -> None:
    pages = make_pages.pages()
    assert {path for path in pages if path.parent.name == "methods"} == {*(ROOT / "docs" / "methods").glob("*.md")}
    for path, text in pages.items():
        assert path.read_text("utf-8") == text, f"{path.name}: make docs"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_card(name: str) -> None:
    card = (ROOT / "docs" / "methods" / f"{name}.md").read_text()
    does, objective = card.split("## Objective")
    assert 1 <= len(re.findall(r"[.)] |[.]$", does.split("\n\n")[3].replace("\n", " "))) <= 3
    assert "$$" in objective
    states = dict(
        re.findall(
            r"^\| (implemented and tested|values as published|number of the paper reached) \| (.*) \|$",
            card,
            re.MULTILINE,
        )
    )
    assert len(states) == 3
    assert states["number of the paper reached"] == "not run"
    tests = re.findall(r"`(tests/\S+)`", states["implemented and tested"])
    assert len(tests) >= 2, "one of its own, and test_every_method.py"
    assert all((ROOT / test).exists() for test in tests)
    source = (CONF_DIR / "method" / f"{name}.yaml").read_text()
    if re.search(r"\bours\b", source):
        assert "ours" in states["values as published"], "values that are ours are said to be published"


@pytest.mark.parametrize("name", METHODS)
def test_a_card_shows_effective_keys_and_values(name: str) -> None:
    card = (ROOT / "docs" / "methods" / f"{name}.md").read_text()
    rows = dict(re.findall(r"^\| `([\w.]+)` \| ([^|]*) \|", card, re.MULTILINE))
    method = composed(name)
    same = {"_target_", "name", "title", "rows", "refuses", "fixed", "needs"}
    assert {key.removeprefix("method.") for key in rows if key.startswith("method.")} == set(method) - same
    for key in set(method) - same:
        if isinstance(method[key], float) and re.fullmatch(r"[\d.e-]+", rows[f"method.{key}"]):
            assert float(rows[f"method.{key}"]) == method[key]
    assert set(re.findall(r"^- It refuses `([\w.]+)`", card, re.MULTILINE)) == set(law(method).refuses)


@pytest.mark.parametrize("name", ["cores2", "co_teaching_plus"])
def test_the_quick_command_of_a_card_composes(name: str) -> None:
    card = (ROOT / "docs" / "methods" / f"{name}.md").read_text()
    (typed,) = re.findall(r"^python -m slnlab\.train (.*)$", card, re.MULTILINE)
    config = compose(shlex.split(typed))
    check(config)
    assert (config.method.name, config.trainer.max_epochs) == (name, 3)


def test_a_method_without_a_measured_cost_has_a_card(make_pages: ModuleType) -> None:
    card = make_pages.card(make_pages.method("elr", None))
    assert "## Cost\n\nNot measured.\n" in card


def test_a_cost_includes_the_run_that_estimates_the_matrix(make_pages: ModuleType) -> None:
    measured = json.loads((ROOT / "experiments/methods_digits/costs.json").read_text())["cost"]
    index = (ROOT / "docs" / "methods" / "index.md").read_text()
    shown = {name: float(cost) for name, cost in re.findall(r"^\| \[`(\w+)`\].* \| ([\d.]+) \|$", index, re.MULTILINE)}
    estimates = {name for name in METHODS if composed(name).get("transition") == "estimated"}
    assert estimates == {"forward", "backward", "t_revision"}
    assert shown == {name: round(cost + (name in estimates), 2) for name, cost in measured.items()}
    assert "A run takes 2.04 times as long as with cross entropy, including the run that" in (
        make_pages.card(make_pages.method("forward", 1.0397))
    )


IN_ONE_NETWORK = [each.switch for each in COMPOSABLE if each.parameter and each.switch != "sln.sigma"]


@pytest.mark.parametrize("key", IN_ONE_NETWORK)
def test_the_index_names_methods_that_refuse_a_feature(key: str) -> None:
    page = (ROOT / "docs" / "methods" / "index.md").read_text()
    (named,) = re.findall(rf"^- [\w ]+ \(`{key}`\) goes with .* one network, except (.*?)\.", page, re.MULTILINE)
    single = [method for method in map(composed, METHODS) if len(law(method).networks) == 1]
    assert re.findall(r"`(\w+)`", named) == [method.name for method in single if key in law(method).refuses]


def test_the_loop_of_the_readme_trains() -> None:
    (loop,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    torch.manual_seed(0)
    images, labels = torch.randn(40, 5), torch.arange(40) % 10
    network = nn.Linear(5, 10)
    before = network.weight.detach().clone()
    known: dict[str, Any] = {
        "network": network,
        "loader": DataLoader(TensorDataset(images, labels), batch_size=20),
        "optimizer": torch.optim.SGD(network.parameters(), lr=0.1),
    }
    exec(loop, known)
    assert torch.isfinite(known["loss"])
    assert not torch.equal(network.weight, before)
    assert known["targets"].sum(1).std() > 0, "with stochastic label noise"


# YAML


def test_comments_of_a_yaml_file_belong_to_their_keys(make_pages: ModuleType) -> None:
    text = "# The head.\na: 1   # beside\n# above\nb:\n  c: x # of c\n  d:\n    - one # first\n    - two\n"
    head, found = make_pages.keys(text)
    assert head == "The head."
    assert [tuple(key) for key in found] == [
        ("a", "1", "beside"),
        ("b", "", "above"),
        ("b.c", "x", "of c"),
        ("b.d", "one, two", "first"),
    ]
