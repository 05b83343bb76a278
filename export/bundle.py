"""The bundle's files beside its graphs: Hugging Face's layout, so that other libraries open it unchanged."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifact.manifest import write_json
from export.config import Precision
from export.graph import input_names
from export.pooling import pooling_config
from export.source import Source

FILES: dict[Precision, str] = {
    "float32": "onnx/model.onnx",
    "int8": "onnx/model_quantized.onnx",
    "int8-static": "onnx/model_int8.onnx",
    "int8-blocks": "onnx/model_int8_blocks.onnx",
    "int4-blocks": "onnx/model_q4.onnx",
    "float16": "onnx/model_fp16.onnx",
}
"""Where each precision lies; the names are those that optimum and transformers.js look for."""

_COPIED = (
    "config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
    "sentencepiece.bpe.model", "spiece.model", "spm.model",
)  # fmt: skip

_CARD = """\
---
pipeline_tag: {pipeline_tag}
library_name: {library}
tags: [onnx, {model_type}]
---
# {name}

A {model_type} encoder for {task}: {layers} layers of {hidden}, at most {max_tokens} tokens. Each graph answers with
{outputs}.

{graphs}

```python
from optimum.onnxruntime import {opener}

model = {opener}.from_pretrained("PATH")  # or file_name="{other}"
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
    # Without the names, libraries send token types to models that take none.
    own = {"model_max_length": source.max_tokens, "model_input_names": list(input_names(source))}
    write_json(out / "tokenizer_config.json", settings | own)
    write_json(out / "understudy.json", describe(source, name=name, precisions=precisions))
    if source.task.name == "embedding":
        _write_sentence_transformers(out, source)
    (out / "README.md").write_text(_card(source, name=name, precisions=precisions), encoding="utf-8")


def describe(source: Source, *, name: str, precisions: Sequence[Precision]) -> dict[str, Any]:
    """What `understudy.json` says: all that serving must know beside the graph and the tokenizer."""
    about = {
        "schema_version": 1,
        "name": name,
        "task": source.task.name,
        "labels": list(source.labels),
        "max_tokens": source.max_tokens,
        "precisions": {precision: FILES[precision] for precision in precisions},
        "outputs": {name: list(axes) for name, axes in source.task.outputs.items()},
        "pooling": {"mode": source.pooling.mode, "normalize": source.pooling.normalize},
        "embedding_size": source.architecture.hidden,
        "padding": {"id": source.pad_id, "token_type_id": 0, "side": "right"},
        "inputs": list(input_names(source)),
    }
    if source.tokenizer.truncation_side == "left":
        about["truncation_side"] = "left"
    return about if source.problem is None else about | {"problem": source.problem}


def _write_sentence_transformers(out: Path, source: Source) -> None:
    """What makes `SentenceTransformer(DIR, backend="onnx")` open the bundle: its three modules and their settings."""
    modules = [("", "models.Transformer"), ("1_Pooling", "models.Pooling")]
    modules += [("2_Normalize", "models.Normalize")] if source.pooling.normalize else []
    write_json(
        out / "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.{kind}"}
            for index, (path, kind) in enumerate(modules)
        ],
    )
    (out / "1_Pooling").mkdir(exist_ok=True)
    write_json(out / "1_Pooling" / "config.json", pooling_config(source.pooling, source.architecture.hidden))
    write_json(out / "sentence_bert_config.json", {"max_seq_length": source.max_tokens, "do_lower_case": False})


def _plain_tokenizer(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Without the truncation and padding of its last training run: who serves decides both, from `max_tokens`."""
    return tokenizer | {"truncation": None, "padding": None}


def _card(source: Source, *, name: str, precisions: Sequence[Precision]) -> str:
    task, shape = source.task, source.architecture
    *others, last = (f"`{output}` ({' x '.join(axes)})" for output, axes in task.outputs.items())
    return _CARD.format(
        name=name,
        task=task.name,
        pipeline_tag=task.pipeline_tag,
        library="sentence-transformers" if task.name == "embedding" else "optimum",
        opener=task.opener,
        model_type=shape.model_type,
        layers=shape.layers,
        hidden=shape.hidden,
        max_tokens=source.max_tokens,
        outputs=" and ".join([", ".join(others), last]),
        graphs="\n".join(f"* `{FILES[precision]}`: {precision}" for precision in precisions),
        other=FILES[precisions[-1]],
    )


def _read(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return tree
