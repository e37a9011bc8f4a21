"""Models that are on this machine already, by the programs that keep them; nothing is copied, moved or loaded."""
