"""The process that trains, and who watches it."""
