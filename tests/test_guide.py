"""The guide in CONTRIBUTING.md: its files work as written in a user's folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import commands
import pytest

from slnlab.config import CONF_DIR, check, compose, loading, search_in
from slnlab.errors import ConfigError
from slnlab.noise import NoiseRecord
from slnlab.record.metrics import read_metrics
from slnlab.record.result import Result
from slnlab.training.settling import settle

GUIDE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the guide."""
    made = tmp_path_factory.mktemp("guide")
    texts = re.findall(r"```(?:python|yaml)\n((?:# @\S+ \S+\n)?# (\S+\.(?:py|yaml))\n.*?)```", GUIDE, re.DOTALL)
    assert [name for _, name in texts] == [
        "mine.py",
        "conf/loss/focal.yaml",
        "conf/noise/to_the_next.yaml",
        "conf/method/trimmed.yaml",
        "conf/data/rows.yaml",
        "conf/model/one_layer.yaml",
    ]
    for text, name in texts:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def train(files: Path, option: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The guide's command with this option, for two epochs."""
    (command,) = re.findall(rf"^PYTHONPATH=\. python -m slnlab\.train (.*{option}.*)$", GUIDE, re.MULTILINE)
    small = ["trainer.max_epochs=2", "trainer.accelerator=cpu", "trainer.progress=false"]
    path = os.pathsep.join([str(files), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    return commands.run("slnlab.train", *command.split(), *small, *more, cwd=files, env=environment)


@pytest.fixture(scope="module")
def folder(files: Path) -> Path:
    """The run that its command has made."""
    done = train(files, "trimmed", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return files / "run"


def test_the_guides_command_trains(folder: Path) -> None:
    result = Result.load(folder / "result.json")
    assert (result.data, result.method, result.noise) == ("rows", "trimmed", "to_the_next")
    assert result.identity["loss"] == {"_target_": "mine.focal", "name": "focal", "gamma": 2.0}
    assert result.identity["sln"] == {"sigma": 0.5}
    assert result.rows["network"].title == "Trimmed"


def test_the_guides_method_selects_samples(folder: Path) -> None:
    """int(.7·64) = 44 of 64, four times, and int(.7·44) = 30 of the last 44."""
    for row in read_metrics(folder / "metrics.csv"):
        assert row["train/selected"] == pytest.approx((4 * 44 + 30) / 300)
        assert 0 < row["train/selected_correct"] < 1


def test_the_guides_noise_flips_to_the_next_class(folder: Path) -> None:
    record = NoiseRecord.load(folder / "noise.npz")
    assert 0.3 < record.realised_rate < 0.5
    assert ((record.given - record.true) % 8).unique().tolist() == [0, 1]


def test_the_guides_network_trains(files: Path) -> None:
    done = train(files, "one_layer", "hydra.run.dir=one_layer")
    assert done.returncode == 0, done.stderr
    assert Result.load(files / "one_layer" / "result.json").rows["network"].test_accuracy


# Mistakes in what is one's own


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("model._target_=pair.Flat", r"pair\.Flat does not take a batch of shape \(2, 1, 8, 8\): mat1 and mat2"),
        (
            "model._target_=pair.Pair",
            r"pair\.Pair gives tuple for a batch of .*; it must give \(2, 8\), a logit for each",
        ),
        ("model._target_=pair.Seven", r"pair\.Seven gives \(2, 7\) for a batch of .*; it must give \(2, 8\)"),
    ],
)
def test_a_network_of_another_shape_is_refused_before_anything_is_written(files: Path, typed: str, said: str) -> None:
    (files / "pair.py").write_text(
        "from mine import OneLayer\n"
        "class Pair(OneLayer):\n    def forward(self, images):\n        return super().forward(images), images\n"
        "class Flat(OneLayer):\n    def forward(self, images):\n        return self[2](images)\n"
        "class Seven(OneLayer):\n    def forward(self, images):\n        return super().forward(images)[:, :7]\n"
    )
    done = train(files, "one_layer", typed, "hydra.run.dir=refused")
    assert done.returncode == 1
    assert re.match(rf"error: model\._target_: {said}", done.stderr), done.stderr
    assert not (files / "refused" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "mine.focal(logits).mean(1)",
            r"gives \(\d+,\) for logits of shape \(\d+, 8\); it must give the same shape",
        ),
        ("None", r"gives NoneType for logits of shape"),
    ],
)
def test_a_loss_of_another_shape_is_refused_in_the_first_step(files: Path, body: str, said: str) -> None:
    (files / "shapes.py").write_text(f"import mine\ndef loss(logits):\n    return {body}\n")
    done = train(files, "focal", "~loss.gamma", "loss._target_=shapes.loss", "hydra.run.dir=other_shape", "force=true")
    assert done.returncode == 1
    assert re.match(rf"error: loss\._target_: shapes\.loss {said}", done.stderr), done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def own(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the guide, found as by its command."""
    monkeypatch.syspath_prepend(files)
    (files / "conf" / "loss" / "bare.yaml").write_text("_target_: mine.focal\nname: bare\n")
    (files / "unfinished.py").write_text(
        "from mine import Trimmed\nclass Rows:\n    def prepare(self): ...\n"
        "class Forgetful(Trimmed):\n    def setup(self, stage):\n        self.column = None\n"
        "class Unsaved(Trimmed):\n    def on_save_checkpoint(self, checkpoint):\n        checkpoint['mine'] = 1\n"
        "class Closed(Trimmed):\n    def __init__(self, network, seed, keep):\n        super().__init__(network)\n"
        "class Plain:\n    def __init__(self, network, **options): ...\n"
        "def of_targets(logits, targets): ...\n"
        "def focused(logits, *, gamma): ...\n"
    )
    monkeypatch.setattr(loading, "extra_config_dirs", [str(files / "conf")])


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("method=trimmed method.keep=high", "method.keep: 'high' is not allowed: input should be a valid number"),
        ("method=trimmed method.keep=2", "method.keep: 2 is not allowed: input should be less than or equal to 1"),
        ("method=trimmed method.kep=0.5", "method.kep: there is no such key (did you mean keep?)"),
        ("method=trimmed +method.kep=0.5", "method.kep: there is no such key (did you mean keep?)"),
        ("method=trimmed ~method.keep", "method.keep: is missing"),
        ("method=trimmed mixup.alpha=1", "mixup.alpha: trimming keeps or drops a sample"),
        ("method=trimmed method._target_=mine.Trimed", "method._target_: mine.Trimed cannot be found: "),
        ("method=trimmed method._target_=main.Trimmed", "there is no module 'main'; is it on PYTHONPATH?"),
        (
            "method=trimmed method._target_=mine.focal",
            "_target_: mine.focal is not a class, as a method must be",
        ),
        ("loss=focal loss._target_=mine.Trimmed", "loss._target_: mine.Trimmed is not a function, as a loss must be"),
        (
            "loss=focal ~loss.gamma loss._target_=unfinished.of_targets",
            "loss.targets: is missing; a loss is called with the logits (B, C) alone, and returns",
        ),
        ("loss=focal loss.gamma=much", "loss.gamma: 'much' is not allowed: input should be a valid number"),
        ("loss=bare loss.gamma=3", "loss.gamma: is not in the YAML, which leaves it at its default; +loss.gamma=VALUE"),
        ("loss=focal ~loss.gamma +loss.gama=1", "loss.gama: there is no such key (did you mean gamma?)"),
        ("noise=to_the_next noise.rate=2", "noise.rate: 2 is not allowed: input should be less than 1"),
        ("noise=to_the_next +noise.hop=1", "noise.hop: there is no such key"),
        ("data=rows +data.source.root=here", "data.source.root: there is no such key"),
        ("data=rows data.num_classes=eight model.num_classes=8", "data.num_classes: 'eight' is not allowed"),
        (
            "data=rows data.source._target_=unfinished.Rows",
            "data.source._target_: unfinished.Rows lacks load; a data source has `prepare()` and `load(split)`",
        ),
        (
            "method=trimmed method._target_=unfinished.Forgetful",
            "method._target_: unfinished.Forgetful.setup must call super().setup, which makes the sample table",
        ),
        (
            "method=trimmed method._target_=unfinished.Unsaved",
            "unfinished.Unsaved.on_save_checkpoint must call super().on_save_checkpoint, which saves the sample table",
        ),
        (
            "method=trimmed method._target_=unfinished.Closed",
            "unfinished.Closed does not take optimizer, scheduler, clip_norm, reset_optimizer_each_epoch; the ",
        ),
        (
            "method=trimmed method._target_=unfinished.Plain",
            "method._target_: unfinished.Plain is no slnlab.methods.Method, as a method must be",
        ),
        ("data=rows data.bach_size=3", "data.bach_size: there is no such key (did you mean batch_size?)"),
    ],
)
def test_a_mistake_in_a_users_class_is_one_message_without_import(typed: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(compose(typed.split()))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "mine" not in sys.modules


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("loss=bare ~loss.name", "loss.name: is missing"),
        ("loss=bare ~loss._target_", "loss._target_: is missing"),
        ("loss=bare loss._target_=unfinished.focused", "loss.gamma: is missing"),
    ],
)
def test_only_a_parameter_that_may_go_by_place_gets_the_advice_on_losses(typed: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(compose(typed.split()))
    assert str(error.value) == said


@pytest.mark.usefixtures("own")
def test_an_option_with_the_name_of_another_is_refused(files: Path) -> None:
    """Hydra takes slnlab's, without a word. A copy with the same content is harmless."""
    ours, theirs = CONF_DIR / "model" / "linear.yaml", files / "conf" / "model" / "linear.yaml"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_bytes(ours.read_bytes())
    search_in([str(files / "conf")])
    theirs.write_text("_target_: mine.Linear\n")
    with pytest.raises(ConfigError, match=r"linear.yaml: slnlab has an option model=linear, too; give yours another"):
        search_in([str(files / "conf")])
    theirs.unlink()


@pytest.mark.usefixtures("own")
def test_all_missing_values_of_a_users_data_set_are_reported_at_once(files: Path) -> None:
    text = (files / "conf" / "data" / "rows.yaml").read_text()
    without = re.sub(r"  (num_classes|mean): .*\n|preset: .*\n", "", text).replace("name: rows", "name: bare")
    (files / "conf" / "data" / "bare.yaml").write_text(without)
    with pytest.raises(ConfigError) as error:
        check(compose(["data=bare"]))
    told = {line.split(":")[0].strip() for line in str(error.value).splitlines()}
    assert told == {"data.num_classes", "data.mean", "preset.epochs", "preset.learning_rate"}
    given = ["data.num_classes=8", "data.mean=[0.1]", "trainer.max_epochs=2", "optimizer.lr=0.1"]
    check(compose(["data=bare", *given]))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("group", "name"), [("method", "trimmed"), ("data", "rows")])
def test_a_missing_package_line_is_named(group: str, name: str, files: Path) -> None:
    text = (files / "conf" / group / f"{name}.yaml").read_text()
    (files / "conf" / group / "unplaced.yaml").write_text(text.replace("# @package _global_\n", ""))
    with pytest.raises(ConfigError, match=rf"^{group}\.{group}: .*must begin with # @package _global_$"):
        check(compose([f"{group}=unplaced"]))


@pytest.mark.usefixtures("own")
def test_a_file_that_is_no_yaml_is_named_with_its_line(files: Path) -> None:
    broken = files / "conf" / "loss" / "broken.yaml"
    broken.write_text("_target_: mine.focal\nname: broken\ngamma: {of: ???}\n")
    try:
        with pytest.raises(ConfigError, match=rf"^{re.escape(str(broken))}: is no YAML: line 3, column 13: expected"):
            compose(["loss=broken"])
        done = commands.run("slnlab.train", "--config-dir", str(files / "conf"), "loss=broken", "--dry-run", cwd=files)
        assert done.stderr.startswith(f"error: {broken}: is no YAML: line 3")
    finally:
        broken.unlink()


@pytest.mark.usefixtures("own")
def test_constructor_defaults_enter_the_identity() -> None:
    """Left out of the YAML, it is the same run as written there; with another value, it is another one."""
    names = [settle(compose(["loss=focal", *typed])).subdir for typed in ([], ["~loss.gamma"], ["loss.gamma=3"])]
    assert names[0] == names[1] != names[2]
