"""What predictions say about labels: findings, issues, the share of wrong ones, the transition matrix."""
