"""Speed and memory beside the peers, in one run, as ratios. One benchmark a file; `make bench` runs them all."""
