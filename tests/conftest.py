"""Shapes in signatures are checked on every call that a test makes; no test reaches the network."""

import gc
import os

import pytest

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error")

from hypothesis import settings
from jaxtyping import install_import_hook

gc.disable()  # until all is imported: the collector would go through a million objects that stay
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")  # the same examples everywhere: what fails in CI fails at home

install_import_hook(
    [
        "distill.objectives",
        "distill.capture",
        "distill.batch",
        "distill.text",
        "distill.encoding",
        "distill.judging",
        "distill.compress",
        "distill.fidelity",
        "distill.slicing",
        "distill.spelling",
        "distill.augment",
        "distill.vocabulary",
    ],
    "beartype.beartype",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is long is slow as well."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """What was imported stays: no later collection need go through it."""
    gc.collect()
    gc.freeze()
    gc.enable()
