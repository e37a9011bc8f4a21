"""The kit that the tabs of every wing are made of."""
