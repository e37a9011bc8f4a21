"""What there is: variants, their names, and the files behind them."""
