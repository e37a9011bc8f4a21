"""The embedded models: SmolLM2, an adapter trained here, and its Q4_K_M build."""
