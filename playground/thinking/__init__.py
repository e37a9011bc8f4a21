"""How models think before they answer: the tags around a thought, a template's switches, thought and answer apart."""
