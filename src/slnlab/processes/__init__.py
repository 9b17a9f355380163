"""Processes of one run: how they start, share the work, and stop together."""
