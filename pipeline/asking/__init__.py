"""How a row is asked the examples of a task, and what its outputs say: the way that the service goes."""
