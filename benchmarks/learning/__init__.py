"""Which objective teaches what: a table over seeds."""
