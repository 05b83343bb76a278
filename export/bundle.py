"""The bundle's files beside its graphs: Hugging Face's layout, so that other libraries open it unchanged."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifact.manifest import write_json
from export.config import Precision
from export.graph import input_names
from export.source import Source

FILES: dict[Precision, str] = {"float32": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"}
"""Where each precision lies; the names are those that optimum and transformers.js look for."""

_COPIED = (
    "config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
    "sentencepiece.bpe.model", "spiece.model", "spm.model",
)  # fmt: skip

_CARD = """\
---
pipeline_tag: text-classification
library_name: optimum
tags: [onnx, {model_type}]
---
# {name}

A {model_type} encoder that tells {labels} labels apart, in at most {max_tokens} tokens. Each graph answers with
`logits` and with `sentence_embedding` ({hidden} numbers, mean-pooled, at unit length).

{graphs}

```python
from optimum.onnxruntime import ORTModelForSequenceClassification

model = ORTModelForSequenceClassification.from_pretrained("PATH")  # or file_name="model_quantized.onnx"
```

What was measured (parity with the source model, fused nodes, sizes) stands in `manifest.json` under `facts`.
"""


def write_bundle(out: Path, source: Source, *, name: str, precisions: Sequence[Precision]) -> None:
    """Everything of a bundle but its graphs, into `out`."""
    for file in _COPIED:
        if (source.directory / file).is_file():
            shutil.copyfile(source.directory / file, out / file)
    write_json(out / "tokenizer.json", _plain_tokenizer(_read(source.directory / "tokenizer.json")))
    settings = _read(source.directory / "tokenizer_config.json")
    write_json(out / "tokenizer_config.json", settings | {"model_max_length": source.max_tokens})
    write_json(out / "understudy.json", describe(source, name=name, precisions=precisions))
    (out / "README.md").write_text(_card(source, name=name, precisions=precisions), encoding="utf-8")


def describe(source: Source, *, name: str, precisions: Sequence[Precision]) -> dict[str, Any]:
    """What `understudy.json` says: all that serving must know beside the graph and the tokenizer."""
    return {
        "schema_version": 1,
        "name": name,
        "task": "classification",
        "labels": list(source.labels),
        "max_tokens": source.max_tokens,
        "precisions": {precision: FILES[precision] for precision in precisions},
        "outputs": {"logits": ["batch", "labels"], "sentence_embedding": ["batch", "hidden"]},
        "embedding_size": source.architecture.hidden,
        "padding": {"id": source.pad_id, "token_type_id": 0, "side": "right"},
        "inputs": list(input_names(source)),
    }


def _plain_tokenizer(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Without the truncation and padding of its last training run: who serves decides both, from `max_tokens`."""
    return tokenizer | {"truncation": None, "padding": None}


def _card(source: Source, *, name: str, precisions: Sequence[Precision]) -> str:
    return _CARD.format(
        name=name,
        model_type=source.architecture.model_type,
        labels=len(source.labels),
        max_tokens=source.max_tokens,
        hidden=source.architecture.hidden,
        graphs="\n".join(f"* `{FILES[precision]}`: {precision}" for precision in precisions),
    )


def _read(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return tree
