"""Analysis of runs: findings on labels, tables, the transition matrix."""
