"""Task metrics as tallies: numbers of each example whose sums give the metric, so one bootstrap serves them all."""
