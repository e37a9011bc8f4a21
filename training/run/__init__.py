"""A fine-tune as files: its folder, its state, what it needs before the first step."""
