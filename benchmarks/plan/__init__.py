"""How near a plan comes: random weights of a shape beside the trained bundle of that shape."""
