"""Latency and throughput, in process and over HTTP: contestants in turns, raw samples kept."""
