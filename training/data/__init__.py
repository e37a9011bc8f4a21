"""What a model is trained on: read, recognised, checked, measured, rendered. Loads neither torch nor transformers."""
