"""Shapes in signatures are checked on every call that a test makes; no test reaches the network."""

import os

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error")

from hypothesis import settings
from jaxtyping import install_import_hook

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")  # the same examples everywhere: what fails in CI fails at home

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
