"""From a settled run to the objects that train it, and the runs that must be finished first."""
