"""Judges variants: benchmarks and paired statistics. Never imports training."""
