"""Bundle in, answers out: the runtime, the BentoML service, and latency measurement. No torch anywhere below."""

import os

# The one thing that importing does, because `import onnxruntime` is what it must come before: its builds of 1.32 keep a
# machine's number and a store of events below the home folder, and send them to their maker, unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

VERSION = "0.1.0"
"""As in pyproject.toml: a Bento carries these sources without the package that could be asked."""
