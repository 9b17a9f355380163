"""Launchers: they do the runs of a sweep on this machine, on a SLURM cluster, or through Ray."""
