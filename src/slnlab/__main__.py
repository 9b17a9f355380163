"""The command `slnlab` with all commands: `slnlab train …` is `python -m slnlab.train …`, and so on.

Only the chosen command is imported, so help and refusals are fast.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from slnlab.text.terminal import print_anywhere, quiet_on_broken_pipe


class Command(NamedTuple):
    """The module of a command, whose `main` runs it, and a description."""

    module: str
    does: str


COMMANDS = {
    "train": Command("slnlab.train", "train one run, or with -m a sweep of runs"),
    "report": Command("slnlab.report", "make tables and curves of finished runs"),
    "analyze": Command("slnlab.analyze", "draw the paper's figures from finished runs"),
    "sweep": Command("slnlab.sweep", "show the state of a sweep's runs"),
    "tune": Command("slnlab.tune", "choose hyper-parameters on held-out noisy labels, then retrain"),
    "diagnose": Command("slnlab.diagnose", "find the wrong labels of the training samples of a finished run"),
    "embed": Command("slnlab.embed", "turn images into feature vectors by a pretrained network"),
    "predict": Command("slnlab.predict", "classify images or feature vectors with a finished run"),
    "export": Command("slnlab.export", "write a finished run's model for other programs"),
    "dashboard": Command("slnlab.dashboard", "make the W&B dashboard of a project; send offline recordings"),
    "list": Command("slnlab.catalogue.options", "list methods, losses, noise, data sets, models or schedulers"),
    "show": Command("slnlab.catalogue.show", "describe a method or another option, and its keys"),
    "doctor": Command("slnlab.doctor", "check the installation, this machine and the folders of a run"),
}

COMPLETION = ("-sc", "--shell-completion")


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    return "\n".join(
        [
            "The laboratory for learning with noisy labels.",
            "",
            "usage: slnlab COMMAND ...",
            "       slnlab --version",
            "",
            *(f"  {name:{width}}{command.does}" for name, command in COMMANDS.items()),
            "",
            "`slnlab COMMAND --help` says more. `python -m slnlab.train ...` is the same as `slnlab train ...`.",
            "Exit codes: 0 done, 1 error, 2 usage, 128 + signal told to stop.",
            'Completion in bash: eval "$(slnlab --shell-completion install=bash)"',
        ]
    )


def _unknown(word: str) -> str:
    """Return the message for a first word that is no command."""
    if "=" in word:
        return f"{word}: is no command; keys belong to one: slnlab train {word}"
    from slnlab.text.messages import near

    return f"{word}: there is no such command{near(word, list(COMMANDS))}; the commands are {', '.join(COMMANDS)}"


@quiet_on_broken_pipe
def _print(text: str) -> None:
    print(text)


def _complete(words: Sequence[str]) -> None:
    """Complete commands here, and groups and keys by Hydra. Hydra removes its program's name from the line."""
    program, *typed = os.environ.get("COMP_LINE", "").split(" ")
    if typed and typed[0] not in ("train", "tune"):
        _print(" ".join(COMMANDS) if len(typed) == 1 else "")
        return
    os.environ["COMP_LINE"] = " ".join([program, *typed[1:]])
    importlib.import_module(COMMANDS["train"].module).main(words, "slnlab train")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. A wrong first word ends it with exit code 2."""
    print_anywhere()
    word, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if word == "help" and rest:
        word, rest = rest[0], ["--help"]
    if word in COMMANDS:
        importlib.import_module(COMMANDS[word].module).main(rest, f"slnlab {word}")
    elif word in COMPLETION:
        _complete([word, *rest])
    elif word in ("--help", "-h", "help"):
        _print(_help())
        sys.exit()
    elif word == "--version":
        from slnlab import __version__

        _print(f"slnlab {__version__}")
    else:
        print(f"error: {_unknown(word)}" if word else _help(), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
