"""The model card: what a stranger who finds the directory must know."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.config import ModelConfig


def write_card(
    directory: Path, name: str, config: ModelConfig, facts: Mapping[str, Any], labels: Sequence[str]
) -> None:
    """Write `README.md` in the form that the Hub shows."""
    taught = f", learnt from the model `{config.teacher}`" if config.teacher else ""
    phases = "\n".join(
        f"| {phase.name} | {', '.join(o.kind for o in phase.objectives)} | {phase.epochs:g} | {phase.learning_rate:g} |"
        for phase in config.phases
    )
    counts = facts["parameters"]
    text = f"""---
library_name: transformers
pipeline_tag: text-classification
---

# {name}

A text classifier with {len(labels)} labels{taught}, made by Understudy. Inputs are cut to {config.max_tokens} tokens.

Parameters: {counts["total"]:,}, of which {counts["embedding"]:,} in the embeddings and {counts["transformer"]:,} in the
Transformer layers.

| phase | objectives | epochs | learning rate |
|---|---|---|---|
{phases}

`manifest.json` holds the recipe, the digests of all it was made from, and what was measured on the way.
"""
    (directory / "README.md").write_text(text, encoding="utf-8")
