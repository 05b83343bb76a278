"""Bundle in, answers out: the runtime, the BentoML service, and latency measurement. No torch anywhere below."""
