"""Processes of one's own that may be killed, each without the seconds in which PyTorch is imported."""

import multiprocessing
from multiprocessing.context import ForkServerContext

CHILDREN: ForkServerContext = multiprocessing.get_context("forkserver")
"""Forks them from a process that has done nothing but import; a fork of the tests would have their threads' locks."""
CHILDREN.set_forkserver_preload(
    ["transformers.models.bert.modeling_bert", "distill.run", "export.run", "pipeline.commands"]
)
