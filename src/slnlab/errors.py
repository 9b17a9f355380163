"""Errors that a user can fix, each with one message.

A wrong configuration, data file or checkpoint raises one of these. The command line prints the message without a
traceback, and exits with a non-zero code. Bugs of slnlab must raise other exceptions.
"""

from __future__ import annotations

from typing import Any, get_args


class SlnlabError(Exception):
    """An error that the user can fix. The message names the thing, the fault, and the allowed values."""


class ConfigError(SlnlabError, ValueError):
    """A configuration key or an argument has a value that is not allowed."""


class Diverged(SlnlabError):
    """The loss or the weights of a run are not finite; other hyper-parameters are needed."""


class Busy(SlnlabError):
    """Another process runs the same run."""


class Pruned(SlnlabError):
    """A study ended a run early, because it cannot become the best; see `slnlab.tune`."""


class DataError(SlnlabError, ValueError):
    """A file or directory is missing, corrupt, or does not fit the rest of the run."""


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Refuse a value of the argument `name` that is none of a `Literal`'s.

    Raises:
        ConfigError: see above.
    """
    if value not in get_args(choices):
        raise ConfigError(f"{name}={value!r}: must be {' or '.join(map(repr, get_args(choices)))}")
