"""What there is to choose from: read from `conf/`, docstrings and `docs/parts`, without importing it."""
