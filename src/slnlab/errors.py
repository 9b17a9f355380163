"""What a user did that cannot work, said in one message.

Everything that is the user's to mend (a configuration, a data file, a checkpoint) raises one of these; the
command line prints the message without a traceback and exits with a non-zero code. A bug in slnlab must
never be dressed up as one of them.
"""

from __future__ import annotations


class SlnlabError(Exception):
    """Something that the user can mend. The message names the thing, what is wrong and what is allowed."""


class ConfigError(SlnlabError, ValueError):
    """A configuration key or a function's argument holds a value that it cannot have."""


class Diverged(SlnlabError):
    """The loss or the weights of a run are no longer finite: its hyper-parameters cannot work."""


class Busy(SlnlabError):
    """Another process is doing this very run."""


class Pruned(SlnlabError):
    """A run of a study was ended early because it cannot become the best; see `slnlab.tune`."""


class DataError(SlnlabError, ValueError):
    """A file or directory is missing, corrupt, or disagrees with what it is used with."""
