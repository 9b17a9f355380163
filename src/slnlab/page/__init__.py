"""HTML pages of one file that need no network: finished runs, and the review of training labels."""
