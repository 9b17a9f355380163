"""Tables of finished runs: rows, means, comparisons, ranks, and their formats."""
