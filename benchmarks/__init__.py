"""Speed, side by side: `python -m benchmarks.bench`, see README.md here."""
