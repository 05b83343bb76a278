"""The contract between stages: sealed directories, typed configs, and one tree of errors.

A stage never calls another stage. It opens directories that earlier stages sealed, works in a directory of
its own, and seals that. Everything here imports without torch, transformers, optimum or onnx.
"""
