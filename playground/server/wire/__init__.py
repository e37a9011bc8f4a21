"""What clients send and get, as OpenAI writes it."""
