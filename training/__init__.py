"""Makes variants: fine-tuning, export and the embedded demo. Never imports eval."""
