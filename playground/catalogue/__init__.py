"""Variants that can be asked, their names, and the files behind them."""
