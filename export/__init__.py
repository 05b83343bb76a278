"""Model directory in, ONNX bundle out: export, fuse, quantize, prove.

Importing this package imports no torch and no onnx; `export.config` is what a recipe needs.
"""
