"""Model directory in, ONNX bundle out: export, fuse, quantize, prove.

Importing this package imports no torch and no onnx; `export.config` is what a recipe needs.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # see serve/__init__.py
