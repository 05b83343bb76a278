"""Whether our measuring of latency is right: what its loop costs, and whether others find the same median."""
