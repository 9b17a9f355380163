"""Does the suite notice? Defects that would spoil a result without a word, each put into a copy of the source.

`make mutations` runs the test file that must fail for each, and writes `experiments/mutations/README.md`. The working
tree is never changed. A defect whose text is no longer in the source is named: mend its entry here.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[1]
LIBRARIES = ["torch", "torchvision", "torchmetrics", "pytorch_lightning", "sklearn.metrics", "hydra", "pytest"]
"""Imported once. Each run of pytest is a fork of the process that has them, and imports the slnlab that is tested."""

LONGEST = 600
"""Seconds."""


class Mutation(NamedTuple):
    """A defect.

    Args:
        defect: what it does to a result.
        file: below `src/slnlab/`.
        old, new: text that is there exactly once, and what takes its place.
        tests: arguments of pytest, below `tests/`: what must fail.
    """

    defect: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    Mutation(
        "SLN's noise is uniform, not normal",
        "sln.py",
        "noise = torch.randn(targets.shape",
        "noise = torch.rand(targets.shape",
        "test_sln.py",
    ),
    Mutation(
        "small-loss selection compares losses of noisy targets",
        "methods/small_loss.py",
        "return losses.detach(), expected_loss(self.sln(targets, noise=noise), of_classes)",
        "return (noisy := expected_loss(self.sln(targets, noise=noise), of_classes)).detach(), noisy",
        "methods/test_co_teaching.py",
    ),
    Mutation(
        "the momentum model takes ω of the new weights instead of 1 − ω",
        "callbacks/momentum.py",
        "sources, 1 - self.decay)",
        "sources, self.decay)",
        "callbacks/test_momentum.py",
    ),
    Mutation(
        "label correction begins one epoch late",
        "callbacks/correction.py",
        "if epoch < trainer.max_epochs - self.last_epochs:",
        "if epoch <= trainer.max_epochs - self.last_epochs:",
        "callbacks/test_correction.py",
    ),
    Mutation(
        "label correction trusts the given label where its loss is small",
        "callbacks/correction.py",
        'return 1 - weights if weighting == "inverse" else weights',
        'return weights if weighting == "inverse" else 1 - weights',
        "callbacks/test_correction.py",
    ),
    Mutation(
        "SLN goes on during label correction",
        "callbacks/correction.py",
        "module.sigma = 0.0",
        "module.sigma = module.sigma",
        "callbacks/test_correction.py",
    ),
    Mutation(
        "label correction overwrites the given labels",
        "samples.py",
        'self["predicted"][index] = prediction.to(self["predicted"])',
        'self["given"][index] = prediction.to(self["predicted"])',
        "test_samples.py",
    ),
    Mutation(
        "symmetric noise may keep the label, so that its rate is too small",
        "noise/_symmetric.py",
        "torch.randint(1, num_classes",
        "torch.randint(0, num_classes",
        "noise -k symmetric",
    ),
    Mutation(
        "the map of asymmetric noise is reversed",
        "noise/_asymmetric.py",
        "target[true_class] = given_class",
        "target[given_class] = true_class",
        "noise -k asymmetric",
    ),
    Mutation(
        "the test labels are noisy",
        "data/images.py",
        "self._evaluated[split] = self._load(split)",
        "data = self._load(split); self._evaluated[split] = data._replace(labels=self.noise.record("
        "data.labels, self.num_classes, self.classes, images=lambda: data.images).given)",
        "data/test_datamodule.py",
    ),
    Mutation(
        "another seed draws the same",
        "streams.py",
        '":".join([str(seed), purpose',
        '":".join([purpose',
        "test_streams.py",
    ),
    Mutation(
        "runs with another σ are taken for the same run",
        "config/identity.py",
        '    "force",\n',
        '    "force",\n    "sln.sigma",\n',
        "test_config.py -k 'result or identity or seed'",
    ),
    Mutation(
        "a run that goes on has lost the state of its optimiser",
        "record/checkpoints.py",
        "torch.save({**checkpoint, STAMP: stamp}, buffer)",
        'states = [{**state, "state": {}} for state in checkpoint.get("optimizer_states", [])]\n'
        '        torch.save({**checkpoint, "optimizer_states": states, STAMP: stamp}, buffer)',
        "test_run.py -k stopped",
    ),
    Mutation(
        "the learning rate steps twice an epoch",
        "methods/base.py",
        "                scheduler.step()  # type: ignore[call-arg]\n",
        "                scheduler.step()  # type: ignore[call-arg]\n                scheduler.step()\n",
        "methods/test_single_network.py -k schedule",
    ),
    Mutation(
        "two processes take half the gradient",
        "methods/base.py",
        "self.manual_backward(loss * world_size())",
        "self.manual_backward(loss)",
        "test_processes.py -k gradients",
    ),
    Mutation(
        "metrics.csv is off by one epoch",
        "callbacks/run_record.py",
        'row = {"epoch": trainer.current_epoch + 1,',
        'row = {"epoch": trainer.current_epoch,',
        "callbacks/test_run_record.py -k rows",
    ),
    Mutation(
        "the epoch to report is chosen by test accuracy",
        "record/metrics.py",
        "return at(max(rows, key=lambda row: row[key]))",
        "return at(max(rows, key=lambda row: row[test]))",
        "test_run.py -k by_hand",
    ),
    Mutation(
        "hyper-parameters are chosen by test accuracy",
        "study/runs.py",
        'key = f"val/{plan.row_of(run)}/accuracy"',
        'key = f"test/{plan.row_of(run)}/accuracy"',
        "study/test_study_runs.py",
    ),
    Mutation(
        "memorisation is measured on the correct labels",
        "analysis/labels.py",
        "memorised=_mean(agrees[wrong])",
        "memorised=_mean(agrees[~wrong])",
        "analysis/test_labels.py",
    ),
    Mutation(
        "the most plausible labels come first among the suspected",
        "analysis/label_issues.py",
        'ranked(suspicions[RANKING], suspicions["margin"])',
        'ranked(-suspicions[RANKING], suspicions["margin"])',
        "analysis/test_label_issues.py",
    ),
    Mutation(
        "generalised cross entropy is not divided by q",
        "losses/_gce.py",
        "return -torch.expm1(-q * cross_entropy(logits)) / q",
        "return -torch.expm1(-q * cross_entropy(logits))",
        "losses/test_class_wise.py",
    ),
    Mutation(
        "a file that could be written by half only takes the place of the whole one",
        "storage/writing.py",
        "            os.replace(temporary, path)\n        finally:\n",
        "        finally:\n            os.replace(temporary, path)\n",
        "test_checkpoint.py -k cannot_be_written",
    ),
    Mutation(
        "two processes may do the same run in one directory",
        "record/run_directory.py",
        "FolderLock(self.path,",
        'FolderLock(Path(__import__("tempfile").mkdtemp()),',
        "test_run.py -k two_processes",
    ),
]


def pytest_in(copy: Path, tests: str, log: Path) -> int:
    """Run tests of a copy of the checkout in a process of its own; pytest's exit code, negative after `LONGEST`."""
    process = multiprocessing.get_context("forkserver").Process(target=_run, args=(copy, tests, log))
    process.start()
    process.join(LONGEST)
    process.kill()
    process.join()
    return int(process.exitcode or 0)


def _run(copy: Path, tests: str, log: Path) -> None:
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy / "src")
    sys.path.insert(0, str(copy / "src"))
    sys.dont_write_bytecode = True
    import pytest

    first, *more = shlex.split(tests)
    os._exit(int(pytest.main([f"tests/{first}", *more, "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"])))


def verdict(mutation: Mutation, folder: Path, sound: dict[str, int]) -> str:
    """What became of it: `caught`, `NOT CAUGHT`, or why it could not be tried.

    Args:
        mutation: the defect.
        folder: for the copy.
        sound: exit codes of tests that have run without any defect; filled in.
    """
    copy, log = folder / "checkout", folder / "log"
    for name in ("src", "conf", "tests", "experiments", "examples", "docs"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(CHECKOUT / name, copy)
    if mutation.tests not in sound:
        sound[mutation.tests] = pytest_in(copy, mutation.tests, log)
    if sound[mutation.tests]:
        return f"tests fail without it (pytest: {sound[mutation.tests]})"
    path = copy / "src" / "slnlab" / mutation.file
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if text.count(mutation.old) != 1:
        return f"its text is {text.count(mutation.old)} times in the source"
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    code = pytest_in(copy, mutation.tests, log)
    return {0: "NOT CAUGHT", 1: "caught"}.get(code, f"pytest could not run the tests ({code})")


def page(verdicts: dict[Mutation, str], seconds: float) -> str:
    """The page that describes the table."""
    import matrix_page

    rows = [f"| {m.defect} | `{m.file}` | `{m.tests}` | {verdict} |" for m, verdict in verdicts.items()]
    return f"""# Mutations: defects that the suite must notice

**Question.** Does a test fail when the code is wrong in a way that would spoil a result without a word?

**Command.** `make mutations` wrote this page, in {seconds / 60:.0f} minutes.

**Set-up.** Each defect is put alone into a copy of the source ([`mutations.py`](../mutations.py) has the text), and
only the tests named in its row run; they pass without it.

{matrix_page.environment(time.strftime("%d %B %Y"))}

**Result.** {sum(verdict == "caught" for verdict in verdicts.values())} of {len(verdicts)} caught.

| defect | in `src/slnlab/` | tests, in `tests/` | verdict |
|---|---|---|---|
{chr(10).join(rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="the folder for README.md")
    parser.add_argument("--only", default="", metavar="WORDS", help="defects whose description has these words")
    known = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    multiprocessing.set_forkserver_preload(LIBRARIES)
    begin, verdicts, sound = time.monotonic(), dict[Mutation, str](), dict[str, int]()
    for mutation in MUTATIONS:
        if known.only not in mutation.defect:
            continue
        with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
            verdicts[mutation] = verdict(mutation, Path(folder), sound)
        print(f"{mutation.defect}: {verdicts[mutation]}", flush=True)
    if known.out:
        known.out.mkdir(exist_ok=True)
        (known.out / "README.md").write_text(page(verdicts, time.monotonic() - begin), encoding="utf-8")
    sys.exit(any(found != "caught" for found in verdicts.values()))


if __name__ == "__main__":
    main()
