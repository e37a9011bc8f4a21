"""The page: panes side by side. It asks `playground.compare` and shows what comes back; it never imports torch."""
