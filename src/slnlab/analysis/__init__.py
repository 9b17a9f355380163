"""Analysis of runs: findings on labels, tables, curves, the sweep over σ, the transition matrix."""
