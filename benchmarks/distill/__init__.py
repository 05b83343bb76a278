"""How fast training is, and how much memory it takes: against its own lower bound, and against others."""
