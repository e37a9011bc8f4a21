"""What evaluation and parity ask of a loaded variant."""
