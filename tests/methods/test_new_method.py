"""Two new methods consist of new files alone and pass the whole tier."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path

import commands
import pytest

ROOT = Path(__file__).resolve().parents[2]

TWO_VIEWS = '''
"""One network in two phases: first all samples, then those whose two views both predict the given label."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.losses import expected_loss
from slnlab.methods import SingleNetwork
from slnlab.models.modes import evaluating
from slnlab.processes.distributed import gather
from slnlab.schema.kinds import CountOrZero, NonNegative


class TwoViews(SingleNetwork):
    """Learns from the samples whose given label is likely in two views.

    Args:
        network: see `SingleNetwork`.
        warm_up_epochs: on all samples.
        margin: by how much a view may find another class likelier, in [0, 1].
        options: see `SingleNetwork`.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "it keeps or drops a sample, and a mixture has two",
        "correction.enabled": "it learns from samples that agree with their labels",
    }
    in_three_epochs: ClassVar[dict[str, Any]] = {"warm_up_epochs": 1, "margin": 0.02}

    def __init__(self, network: nn.Module, *, warm_up_epochs: CountOrZero, margin: NonNegative, **options: Any) -> None:
        super().__init__(network, **options)
        self.warm_up_epochs, self.margin = warm_up_epochs, margin

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.table.add("selected", fill=True, dtype=torch.bool)
        self.table.add("confidence")

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch >= self.warm_up_epochs:
            self.select()

    @torch.no_grad()
    def select(self) -> None:
        behind, rows = [], []
        with evaluating(self.network):
            for step, images in self.data.in_order(self.current_epoch):
                given = self.table["given"][images.index].unsqueeze(1)
                views = [images.view(self.streams(f"view {k}", self.current_epoch, step)) for k in (1, 2)]
                said = [self.network(view).float().softmax(1) for view in views]
                behind.append(torch.stack([s.amax(1) - s.gather(1, given).squeeze(1) for s in said]).amax(0))
                rows.append(images.index)
        index, worst = gather(torch.cat(rows)), gather(torch.cat(behind))
        self.table["confidence"][index] = 1 - worst
        self.table["selected"][index] = worst <= self.margin

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        return expected_loss(targets, self.class_losses(logits)) * self.table["selected"][batch.index]
'''

EXCHANGE = '''
"""Two networks, each of which learns from the half of a batch that the other finds easiest."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.losses import expected_loss
from slnlab.methods import Method
from slnlab.methods.ensemble import TWO_NETWORKS, TWO_ROWS
from slnlab.schema.kinds import Share


class Exchange(Method):
    """Each network learns from the samples whose loss the other finds small.

    Args:
        networks: two.
        class_losses: logits (B, C) -> the loss each class would incur (B, C).
        keep: the share of a batch that is learned from, in (0, 1].
        options: see `Method`.
    """

    network_names = TWO_NETWORKS
    rows: ClassVar[dict[str, str]] = TWO_ROWS
    refuses: ClassVar[dict[str, str]] = {"correction.enabled": "label correction predicts with one momentum model"}

    def __init__(
        self, *networks: nn.Module, class_losses: Callable[[Tensor], Tensor], keep: Share, **options: Any
    ) -> None:
        super().__init__(*networks, **options)
        self.class_losses, self.keep = class_losses, keep

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for name in ("selected", "selected_2"):
            self.table.add(name, dtype=torch.bool)

    def loss(self, batch: Batch) -> Tensor:
        logits = [network(batch.image) for network in self.networks.values()]
        self.observe(batch.index, logits[0])
        targets = self.table.targets(batch.index)
        losses = [expected_loss(targets, self.class_losses(said)) for said in logits]
        count = max(1, int(self.keep * batch.shard.total))
        easy = [each.detach() <= batch.shard.gather(each.detach()).kthvalue(count).values for each in losses]
        self.table["selected"][batch.index], self.table["selected_2"][batch.index] = easy[1], easy[0]
        return (losses[0] * easy[1] + losses[1] * easy[0]).sum() / count
'''

YAML = {
    "two_views": """\
# @package _global_
# Two views (nobody, never).
method:
  _target_: two_views.TwoViews
  name: two_views
  title: Two views
  warm_up_epochs: ${slnlab.warm_up:10}
  margin: 0.0                 # ours
""",
    "exchange": """\
# @package _global_
# Exchange (nobody, never).
method:
  _target_: exchange.Exchange
  name: exchange
  title: Exchange
  keep: 0.5                   # ours
""",
}

PART = """\
title: {title}
paper: nobody
published: ours

It learns from some samples. The others it leaves.

## Objective

$$\\sum_i \\ell_i$$
"""

TIER = ("test_every_method.py", "test_every_method_in_two_processes.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that there is of the two methods."""
    made = tmp_path_factory.mktemp("new")
    for name, source in (("two_views", TWO_VIEWS), ("exchange", EXCHANGE)):
        for path, text in (
            (f"{name}.py", source.lstrip()),
            (f"conf/method/{name}.yaml", YAML[name]),
            (f"docs/parts/methods/{name}.md", PART.format(title=name)),
        ):
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_text(text, encoding="utf-8")
    return made


def test_new_methods_pass_the_tier(folder: Path) -> None:
    """In a process of its own. A test that knows the methods by a list fails here."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    tests = [str(Path(__file__).with_name(name)) for name in TIER]
    own = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        f"--config-dir={folder / 'conf'}",
        f"--basetemp={folder / 'temp'}",
    ]
    done = commands.run("pytest", "-v", *own, *tests, cwd=ROOT, env={**os.environ, "PYTHONPATH": path})
    results = re.findall(r"::(\w+)\[(\w+)[^\]]*\] (\w+)", done.stdout)
    assert {result for _, _, result in results} == {"PASSED", "SKIPPED"}, done.stdout[-5000:] + done.stderr[-2000:]
    passed = {(test, method) for test, method, result in results if result == "PASSED"}
    assert len({test for test, _ in passed}) >= 8
    assert passed == {(test, method) for test, _ in passed for method in YAML}, "each test for each of the two"


def test_the_pages_list_new_methods(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a copy of the project to which their files were added."""
    for name in (
        "docs",
        "conf",
        "src/slnlab/methods",
        "src/slnlab/losses",
        "experiments/methods_digits",
        "tests/losses",
    ):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("_build", "__pycache__"))
    shutil.copytree(folder / "conf", tmp_path / "conf", dirs_exist_ok=True)
    shutil.copytree(folder / "docs", tmp_path / "docs", dirs_exist_ok=True)
    for name in YAML:
        shutil.copy(folder / f"{name}.py", tmp_path / "src/slnlab/methods")
    monkeypatch.syspath_prepend(ROOT / "docs")  # for what it imports
    monkeypatch.syspath_prepend(folder)  # whose sources it reads
    spec = importlib.util.spec_from_file_location("pages_of_the_copy", tmp_path / "docs" / "make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages = module.pages()
    for name in YAML:
        card = pages[tmp_path / "docs" / "methods" / f"{name}.md"]
        assert "Not measured." in card
        assert f"[`{name}`]({name}.md)" in pages[tmp_path / "docs" / "methods" / "index.md"]
        assert f"`{name}`" in pages[tmp_path / "docs" / "configuration.md"]
    assert "method.warm_up_epochs=1" in pages[tmp_path / "docs" / "methods" / "two_views.md"]
