"""The OpenAI-compatible API. It never imports the page."""
