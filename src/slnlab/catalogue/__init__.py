"""The options of each group, read from `conf/`, docstrings and `docs/parts` without importing them."""
