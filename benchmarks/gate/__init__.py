"""How often the gates are wrong: simulated, and measured on real processes and real answers."""
