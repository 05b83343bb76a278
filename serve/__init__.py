"""Bundle in, answers out: the runtime, the BentoML service, and latency measurement. No torch anywhere below."""

VERSION = "0.1.0"
"""As in pyproject.toml: a Bento carries these sources without the package that could be asked."""
