"""The configuration: composed from overrides, checked, and reduced to a run's identity. No module imports torch."""

from slnlab.config.checks import check
from slnlab.config.composition import compose, explain
from slnlab.config.loading import CONF_DIR, extra_config_dirs, search_in

__all__ = ["CONF_DIR", "check", "compose", "explain", "extra_config_dirs", "search_in"]
