"""The six published systems on one page: the best figure of each first, a plot, and what fell short."""
