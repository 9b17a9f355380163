"""slnlab: the laboratory for learning with noisy labels."""
