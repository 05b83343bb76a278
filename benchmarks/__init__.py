"""Measurements that are reported, never asserted; each folder says how it is run."""
