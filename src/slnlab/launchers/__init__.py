"""Where the runs of a sweep are done: one after the other, side by side on this machine, or on a SLURM cluster."""
