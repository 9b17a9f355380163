"""From what is typed to a checked configuration, and what of it makes a run this run. Nothing here imports torch."""

from slnlab.config.checks import check
from slnlab.config.composition import compose, explain
from slnlab.config.loading import CONF_DIR, extra_config_dirs

__all__ = ["CONF_DIR", "check", "compose", "explain", "extra_config_dirs"]
