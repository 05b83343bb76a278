"""Load from outside: a cheap client, open and closed loops, and the sweep of rates that finds a service's knee."""
