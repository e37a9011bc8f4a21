"""Runs and compares variants: base models, their adapters and their GGUF builds, side by side."""
