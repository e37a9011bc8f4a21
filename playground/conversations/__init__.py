"""Conversations that last: what was asked and answered as a tree, where it is kept, and answers while they come."""
