"""HTTP: requests in, replies out; what a model answers comes from `serve.batching`."""
