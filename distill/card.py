"""The model card: what a stranger who finds the directory must know."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifact.dataset import Task
from distill.config import ModelConfig, Phase
from distill.heads import Head

_KINDS: Mapping[Task, tuple[str, str]] = {
    "classification": ("text-classification", "A text classifier with {labels} labels"),
    "regression": ("text-classification", "A model of a quantity"),
    "token-classification": ("token-classification", "A tagger of words with {labels} labels"),
    "question-answering": ("question-answering", "A reader that finds answers in a context"),
    "response-selection": ("text-ranking", "A cross-encoder that ranks utterances"),
    "out-of-domain-detection": ("sentence-similarity", "An encoder"),
    "text": ("sentence-similarity", "An encoder"),
}
"""The Hub's name of the task, and ours."""


def write_card(directory: Path, name: str, config: ModelConfig, facts: Mapping[str, Any], head: Head) -> None:
    """Write `README.md` in the form that the Hub shows."""
    taught = f", learnt from the model `{config.teacher}`" if config.teacher else ""
    phases = "\n".join(
        f"| {phase.name} | {', '.join(o.kind for o in phase.objectives)} | {_length(phase)} | {phase.learning_rate:g} |"
        for phase in config.phases
    )
    counts = facts["parameters"]
    tag, what = _KINDS[head.task]
    what = what.format(labels=len(head.labels))
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
