"""Quoting: suggested text parses to the original by the shell's and Hydra's grammar."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from slnlab.config import check, compose
from slnlab.errors import ConfigError
from slnlab.study.overrides import split
from slnlab.text.quoting import advice_on, override
from slnlab.train import _typed

VALUES = [
    "photos/Übung",
    "photos (1)",
    "a=b",
    "a,b",
    "it's",
    'a "b"',
    """it's "so" \\""",
    "ends\\",
    "C:\\Übung\\x",
    "日本/写真",
    "x#1",
    "a&b;c!",
    "[draft] x",
    "{x}",
    "",
    "100%",
    "  blanks  ",
    "new\u00a0blank",
    "x~",
]


@pytest.mark.parametrize("value", VALUES)
def test_the_quoted_text_parses_to_the_original(value: str) -> None:
    text = override("data.source.root", value)
    assert text is not None
    (word,) = shlex.split(text)
    read = OverridesParser.create().parse_override(word)
    assert (read.key_or_group, read.value(), read.is_sweep_override()) == ("data.source.root", value, False)


def shown(message: str | None) -> list[str]:
    assert message is not None
    return shlex.split(message.split("; type ")[1].split(", or for")[0])


@pytest.mark.parametrize("value", ["photos/Übung", "photos (1)", "a=b", "it's", 'a"b', "x#1", "(1)", "<x>", "日本"])
def test_compose_and_tune_suggest_the_quoted_text(value: str) -> None:
    typed = ["noise=sym", f"noise.path={value}"]
    with pytest.raises(ConfigError) as composing:
        compose(typed)
    with pytest.raises(ConfigError) as tuning:
        split([*typed, "sln.sigma=0.1,0.2"])
    for error in (composing.value, tuning.value):
        (word,) = shown(str(error))
        assert OverridesParser.create().parse_override(word).value() == value
        assert str(error).startswith(f"noise.path={value}: cannot be read as KEY=VALUE; type ")
        assert "hydra.cc" not in str(error)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["sln.sigma", "=", "0.5"], "sln.sigma=0.5"),
        (["noise=sym", "sln.sigma=", "0.5", "seed=1"], "sln.sigma=0.5"),
        (["sln.sigma", "=0.5"], "sln.sigma=0.5"),
        (["sln.sigma = 0.5"], "sln.sigma=0.5"),
        (["noise=sym", "seed", "3"], "seed=3"),
        (["sln.sigma=0.1,", "0.2"], "sln.sigma=0.1,0.2"),
        (["data.source.root=my", "photos", "(1)"], 'data.source.root="my photos (1)"'),
        (["data.source.root=Übung,b"], 'data.source.root="Übung",b'),
        (["runs_dir=the", "seed"], "runs_dir=the seed"),
        (["init.from=[runs/ä,runs/b]"], 'init.from=["runs/ä",runs/b]'),
    ],
)
def test_arguments_split_by_the_shell_are_recognised(words: list[str], wanted: str) -> None:
    assert shown(advice_on(words, {"seed", "noise"}, multirun=True)) == [wanted]


def test_a_home_directory_is_expanded() -> None:
    assert shown(advice_on(["data.source.root=~/photos"], ())) == [f"data.source.root={os.path.expanduser('~/photos')}"]


def test_several_values_without_a_sweep_are_refused() -> None:
    message = advice_on(["sln.sigma=0.1,0.2"], ())
    assert (
        message
        == """sln.sigma=0.1,0.2: has several values; type 'sln.sigma="0.1,0.2"', or for a sweep -m sln.sigma=0.1,0.2"""
    )
    assert advice_on(["sln.sigma=0.1,0.2"], (), multirun=True) is None


KINDS: dict[str, set[type]] = {"sln.sigma": {float}, "logger.tags": {list, type(None)}, "data.source.root": {str}}


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("sln.sigma=0.1,0.2", "for a sweep type -m sln.sigma=0.1,0.2"),
        ("logger.tags=a,b", "type 'logger.tags=[a,b]'"),
        ("logger.tags=a,ü b", """type 'logger.tags=[a,"ü b"]'"""),
        ("data.source.root=photos (a, b)", """type 'data.source.root="photos (a, b)"'"""),
        ("data.source.root=[x (a, b), c]", """type 'data.source.root=["x (a, b)",c]'"""),
        (
            "data.source.root=it's,b",
            """type 'data.source.root="it'"'"'s,b"', or for a sweep -m 'data.source.root="it'"'"'s",b'""",
        ),
    ],
)
def test_a_comma_is_read_by_key_and_brackets(word: str, advice: str) -> None:
    message = advice_on([word], (), kinds=lambda key: KINDS[key])
    assert message is not None
    assert message.split("KEY=VALUE; ")[-1].split("values; ")[-1] == advice


@pytest.mark.parametrize("value", ["photos (a, b)", '"a, b" é', "{a,b}", "x [1,(2,3)]", "(a, b"])
def test_bracketed_and_quoted_commas_separate_nothing_in_a_sweep(value: str) -> None:
    (word,) = shown(advice_on([f"data.source.root={value}"], (), multirun=True))
    read = OverridesParser.create().parse_override(word)
    assert (read.value(), read.is_sweep_override()) == (value, False)


def test_the_schema_gives_the_type_of_a_key() -> None:
    with pytest.raises(ConfigError, match=r"type 'logger.tags=\[a,b\]'$"):
        compose(["logger=wandb", "logger.tags=a,b"])
    with pytest.raises(ConfigError, match=r"has several values; for a sweep type -m seed=0,1$"):
        compose(["seed=0,1"])
    for words in (["experiment=a", "b"], ["noise=sym", "b", "seed=1"]):
        with pytest.raises(ConfigError, match=r"^b: is not KEY=VALUE$"):
            compose(words)


@pytest.mark.parametrize("word", ["cluster=null", "logger=null", "data=~", "noise=0.4", "noise=sym,0.4", "model=true"])
def test_a_group_without_an_option_is_refused(word: str) -> None:
    """Hydra has a traceback for it, and the pages print null where a group has no default."""
    with pytest.raises(ConfigError, match=rf"^{word}: names no option"):
        compose([word])
    assert compose(["init.from=null", "data.classes=null"]).data.classes is None


@pytest.mark.parametrize("words", [["=0.5"], ["+=0.5"], ["noise=sym", "=0.5"], ["=0.5", "noise=sym"]])
def test_an_override_without_a_key_is_named(words: list[str]) -> None:
    (word,) = [word for word in words if "0.5" in word]
    with pytest.raises(ConfigError, match=re.escape(f"{word}: is not KEY=VALUE")):
        compose(words)


def test_suggestions_use_only_characters_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert str(advice_on(["runs_dir=Übung"], ())).endswith("; put the value in double quotes inside single quotes")
    assert shown(advice_on(["runs_dir=(1)"], ())) == ['runs_dir="(1)"']


def test_an_unresolved_interpolation_is_named_with_a_suggestion() -> None:
    with pytest.raises(
        ConfigError, match=r"^runs_dir: Interpolation key 'HOME' not found; .* shell, in double quotes$"
    ):
        check(compose(["runs_dir=${HOME}/x"]))


def test_an_argument_without_an_equals_sign_is_named() -> None:
    assert advice_on(["noise=sym", "fast"], ()) is not None
    assert advice_on(["fast"], ()) == "fast: is not KEY=VALUE"
    assert advice_on(["noise=sym", "sln.sigma=0.5", "~logger"], ()) is None


def test_options_can_stand_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for typed, overrides, options in (
        (["noise=sym", "-m", "seed=0,1"], ["noise=sym", "seed=0,1"], ["-m"]),
        (["--cfg", "job", "a=1", "--resolve", "b=2"], ["a=1", "b=2"], ["--cfg", "job", "--resolve"]),
    ):
        assert _typed(typed, "train") == (overrides, [*overrides, *options])
    monkeypatch.setattr(sys, "argv", ["train"])
    with pytest.raises(SystemExit, match="error: --seed=1: keys have no dashes: seed=1"):
        _typed(["--seed=1"], "train")
    with pytest.raises(SystemExit, match=r"error: --sln\.sigma: keys have no dashes: sln.sigma=0.5"):
        _typed(["noise=sym", "--sln.sigma", "0.5", "seed=1"], "train")
