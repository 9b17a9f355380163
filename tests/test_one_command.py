"""`slnlab COMMAND`, the entry to all commands, with its own list and show."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from slnlab import __version__, config
from slnlab.__main__ import COMMANDS, main
from slnlab.catalogue.options import KINDS, options
from slnlab.catalogue.show import show
from slnlab.config import CONF_DIR, compose
from slnlab.errors import ConfigError

Says = Callable[..., str]


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Says:
    """The printed text of a command."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # which main sets
    monkeypatch.setattr(sys, "argv", ["slnlab"])

    def run(*words: str) -> str:
        with suppress(SystemExit):
            main(words)
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_names_the_typed_command(name: str, says: Says) -> None:
    assert f"slnlab {name} " in says(name, "--help").replace("\n", " ")
    assert "python -m slnlab" not in says("help", name)


def test_the_help_lists_every_command(says: Says) -> None:
    shown = says("--help")
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert says("--version") == f"slnlab {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tarin"], "tarin: there is no such command (did you mean train?)"),
        (["noise=asym", "sln.sigma=0.5"], "slnlab train noise=asym"),
        ([], "usage: slnlab COMMAND"),
    ],
)
def test_a_wrong_command_is_one_message_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [(["-m", "--cfg", "job"], "--multirun and --cfg: one of them"), (["--resolve"], "--resolve: goes with --cfg")],
)
def test_conflicting_hydra_options_are_one_message(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("slnlab tr", "train"),
        ("slnlab train noise=pa", "noise=part_dependent"),
        ("slnlab tune sln.s", "sln.sigma="),
        ("slnlab report ru", ""),
    ],
)
def test_shell_completion_offers_commands_then_keys(
    line: str, offered: str, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    words = says("-sc", "query=bash").split()
    assert offered in words if offered else not words, "of report's, files: bash's own"


def test_read_only_commands_do_not_import_torch(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom slnlab.__main__ import main\n"
        "for words in ('--help', 'list methods', 'show elr', 'train --help', 'train sln.sigma=-1'):\n"
        "    try:\n        main(words.split())\n    except SystemExit as ended:\n        print('ended', ended.code)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1].startswith("ended error: sln.sigma: -1 is not allowed")
    assert not any(tmp_path.iterdir())


# list


@pytest.mark.parametrize(("kind", "group"), KINDS.items())
def test_list_prints_every_option_with_a_description(kind: str, group: str, says: Says) -> None:
    rows = list(csv.DictReader(io.StringIO(says("list", kind, "--format", "tsv")), dialect="excel-tab"))
    assert [row["name"] for row in rows] == sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))
    assert all(row["description"] for row in rows)
    assert len(says("list", kind).splitlines()) == len(rows)


def test_a_group_without_options_is_an_empty_table(says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slnlab.catalogue.options.CONF_DIR", tmp_path)
    assert says("list", "losses").strip() == ""


def test_list_without_a_kind_lists_all_kinds(says: Says) -> None:
    shown = says("list").splitlines()
    assert [line for line in shown if line and not line.startswith(" ")] == [*KINDS]
    assert len([line for line in shown if line.startswith("  ")]) == sum(
        len(options(group)) for group in KINDS.values()
    )


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a method of the user's own."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from slnlab.methods import SingleNetwork\n\n\n"
        "class Trimmed(SingleNetwork):\n"
        '    """Learns from the samples of smallest loss.\n\n    Args:\n        keep: fraction in (0, 1].\n    """\n\n'
        "    def __init__(self, network, *, keep: float, **options):\n"
        "        super().__init__(network, **options)\n"
    )
    (tmp_path / "method").mkdir()
    text = (CONF_DIR / "method" / "ce.yaml").read_text()
    text = text.replace("slnlab.methods.SingleNetwork", "mine.Trimmed").replace("name: ce", "name: trimmed")
    (tmp_path / "method" / "trimmed.yaml").write_text(f"{text}  keep: 0.7  # ours\n")
    return tmp_path


def test_a_users_own_options_are_listed_and_shown(own: Path, says: Says) -> None:
    assert "trimmed" in says("list", "methods", "--config-dir", str(own))
    shown = says("show", "trimmed", "--config-dir", str(own))
    assert shown.startswith("trimmed: CE\n"), "the title in its YAML"
    assert "Learns from the samples of smallest loss." in shown
    assert "method.keep = 0.7\n      fraction in (0, 1].\n      remark: ours" in shown
    assert config.extra_config_dirs == [str(own)]


# show


def test_show_prints_a_method_with_its_effective_keys() -> None:
    shown = show("elr", ["data=cifar100", "noise=asym"])
    strength = compose(["method=elr", "data=cifar100", "noise=asym"]).method.strength
    assert f"method.strength = {strength}\n      weight λ of the regulariser, ≥ 0." in shown
    assert re.search(r"remark: .*authors'\s+configuration files", shown)
    assert "Liu et al. 2020" in shown
    assert "ELR (network), ELR-MO (momentum)" in shown
    assert "Refuses mixup.alpha: ELR keeps a running target" in shown
    assert "Fixes" not in shown
    composes = shown[shown.index("Composes with") :].split(".\n")[0]
    assert "sam.rho" in composes
    assert "mixup.alpha" not in composes


def test_show_explains_inherited_keys() -> None:
    """SOP+ starts from SOP."""
    shown = show("sop_plus")
    for key in ("lr_u", "consistency"):
        assert f"method.{key} = " in shown
    assert "Fixes loss.name=cross_entropy" in shown


def test_show_prints_other_options_with_what_their_keys_mean() -> None:
    shown = show("data=cifar10", ["data.batch_size=64"])
    assert shown.startswith("data=cifar10\n\nCIFAR-10: 50,000 + 10,000 images")
    assert "data.batch_size = 64\n      size of the global training batch, ≥ 2" in shown
    assert re.search(r"data\.source\.verify = true\n      .*checksum", shown), "keys of a part have meanings too"
    assert "data.num_classes = <must be given: a folder of images" in show("data=folder")
    assert show("method=elr") == show("elr")


@pytest.mark.parametrize("choice", ["data=folder", "noise=human", "model=timm", "loss=gce", "scheduler=multistep"])
def test_show_needs_no_value_that_must_be_given(choice: str) -> None:
    group, name = choice.split("=")
    shown = show(choice)
    assert shown.startswith(f"{choice}\n")
    assert next(option for option in options(group) if option.name == name).does in " ".join(shown.split())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("elrr", "did you mean elr"),
        ("asym", "is no method, but noise=asym; see `slnlab show noise=asym` and `slnlab list noise`"),
        ("noise=asymm", "asymm: there is no such noise .did you mean asym"),
        ("launcher=slurm", "nothing to show for the group launcher; groups: method, loss"),
    ],
)
def test_an_unknown_option_is_one_message(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        show(name)
