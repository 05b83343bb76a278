"""Shapes in signatures are checked on every call that a test makes; no test reaches the network."""

import os

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error")

from jaxtyping import install_import_hook

install_import_hook(
    [
        "distill.objectives",
        "distill.capture",
        "distill.batch",
        "distill.text",
        "distill.compress",
        "distill.fidelity",
        "distill.slicing",
        "distill.spelling",
        "distill.augment",
        "distill.vocabulary",
    ],
    "beartype.beartype",
)
