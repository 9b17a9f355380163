"""Errors that a user can mend, each with one message.

A wrong configuration, data file or checkpoint raises one of these. The command line prints the message without a
traceback and exits with a non-zero code. A bug in slnlab must never raise one of them.
"""

from __future__ import annotations


class SlnlabError(Exception):
    """An error that the user can mend. The message names the thing, the fault and the allowed values."""


class ConfigError(SlnlabError, ValueError):
    """A configuration key or a function's argument has an impossible value."""


class Diverged(SlnlabError):
    """The loss or the weights of a run are no longer finite, so its hyper-parameters cannot work."""


class Busy(SlnlabError):
    """Another process does this run now."""


class Pruned(SlnlabError):
    """A study ended this run early because it cannot become the best; see `slnlab.tune`."""


class DataError(SlnlabError, ValueError):
    """A file or directory is missing or corrupt, or does not fit the rest of the run."""
