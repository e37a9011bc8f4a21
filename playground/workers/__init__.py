"""The parent's side of worker processes: which run, what they are asked, what they hold."""
