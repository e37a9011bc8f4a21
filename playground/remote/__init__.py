"""Variants that a server elsewhere answers for."""
