"""Catalogue rows that more than one folder of tests needs: fakes in the place of the built-in variants."""

EMBEDDED = """
[[variant]]
name = "smollm2"
kind = "base"
source = "fake:a"

[[variant]]
name = "smollm2:demo"
kind = "adapter"
base = "smollm2"
source = "fake:x"

[[variant]]
name = "smollm2:demo:Q4_K_M"
kind = "gguf"
source = "fake:g"
"""
