"""The model card: what a stranger who finds the directory must know."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.config import ModelConfig, Phase


def write_card(
    directory: Path, name: str, config: ModelConfig, facts: Mapping[str, Any], labels: Sequence[str]
) -> None:
    """Write `README.md` in the form that the Hub shows."""
    taught = f", learnt from the model `{config.teacher}`" if config.teacher else ""
    phases = "\n".join(
        f"| {phase.name} | {', '.join(o.kind for o in phase.objectives)} | {_length(phase)} | {phase.learning_rate:g} |"
        for phase in config.phases
    )
    counts = facts["parameters"]
    tag, what = "text-classification", f"A text classifier with {len(labels)} labels"
    if config.predicts_words:
        tag, what = "fill-mask", "An encoder that fills in masked words"
    text = f"""---
library_name: transformers
pipeline_tag: {tag}
---

# {name}

{what}{taught}, made by Understudy. Inputs are cut to {config.max_tokens} tokens.

Parameters: {counts["total"]:,}, of which {counts["embedding"]:,} in the embeddings and {counts["transformer"]:,} in the
Transformer layers.

| phase | objectives | length | learning rate |
|---|---|---|---|
{phases}

`manifest.json` holds the recipe, the digests of all it was made from, and what was measured on the way.
"""
    (directory / "README.md").write_text(text, encoding="utf-8")


def _length(phase: Phase) -> str:
    return f"{phase.steps} steps" if phase.epochs is None else f"{phase.epochs:g} epochs"
