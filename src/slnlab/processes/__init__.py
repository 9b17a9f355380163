"""Processes: how a run starts several, what they tell each other, and how all of them stop."""
