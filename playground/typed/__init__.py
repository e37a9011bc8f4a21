"""Control tokens that somebody typed stay text: they neither open nor end a turn."""
