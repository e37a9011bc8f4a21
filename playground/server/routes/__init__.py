"""What clients ask for: one module an endpoint."""
