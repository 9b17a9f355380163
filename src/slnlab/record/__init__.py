"""The record of a run: its directory, its checkpoints, its result."""
