"""What clients ask for: one module per endpoint."""
