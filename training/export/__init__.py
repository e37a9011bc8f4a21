"""Turns a run into files others can load: merged weights, GGUF, and more."""
