"""Training: a run is settled, its first runs are finished, and its objects are built."""
