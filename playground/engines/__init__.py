"""Servers that others wrote, started from the catalogue: vLLM and llama.cpp's own."""
