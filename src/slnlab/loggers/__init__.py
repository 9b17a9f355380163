"""Loggers besides `metrics.csv`. None of them can end a training run."""
