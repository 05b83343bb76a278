"""A tiny sealed bundle, built from an ONNX graph by hand: embedding lookup, masked mean, one linear layer."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from artifact.manifest import Request, seal

LABELS = ("alarm", "music", "weather", "<b>&'")
HIDDEN = 8
PAIR = "[CLS] $A [SEP] $B:1 [SEP]:1"
MAX_TOKENS = 16
WORDS = ("wake", "me", "at", "seven", "play", "some", "jazz", "will", "it", "rain", "tomorrow", "warm", "up")


TAGS = ("O", "B-TIME", "I-TIME", "B-ART", "I-ART")
LABELS_OF = {
    "classification": LABELS,
    "ranking": ("LABEL_0",),
    "embedding": (),
    "token-classification": TAGS,
    "question-answering": (),
}
OUTPUTS_OF = {
    "classification": {"logits": ("batch", "labels")},
    "ranking": {"logits": ("batch", "labels")},
    "embedding": {},
    "token-classification": {"logits": ("batch", "sequence", "labels")},
    "question-answering": {"start_logits": ("batch", "sequence"), "end_logits": ("batch", "sequence")},
}
"""Beside the embedding. What is said of a token depends on it, its type and nothing around it."""


def make_bundle(directory: Path, *, name: str = "student", seed: int = 0, task: str = "classification") -> Path:
    """A bundle with the precisions float32 and int8 (here: the same graph with other weights)."""
    labels = LABELS_OF[task]
    (directory / "onnx").mkdir(parents=True)
    tokenizer = make_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    (directory / "onnx/model.onnx").write_bytes(make_graph(vocabulary, seed, labels, task))
    (directory / "onnx/model_quantized.onnx").write_bytes(make_graph(vocabulary, seed + 1, labels, task))
    (directory / "config.json").write_text("{}", encoding="utf-8")
    (directory / "understudy.json").write_text(json.dumps(describe(name, task)), encoding="utf-8")
    request = Request(stage="export", version=1, config={"name": name, "seed": seed, "task": task}, inputs={})
    seal(directory, kind="bundle", request=request, lineage={}, facts={})
    return directory


def describe(name: str, task: str = "classification") -> dict[str, object]:
    problem = {"problem": "single-label"} if task == "classification" else {}
    return problem | {
        "schema_version": 1,
        "name": name,
        "task": task,
        "labels": list(LABELS_OF[task]),
        "max_tokens": MAX_TOKENS,
        "precisions": {"float32": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"},
        "outputs": {name: list(axes) for name, axes in OUTPUTS_OF[task].items()}
        | {"sentence_embedding": ["batch", "hidden"]},
        "embedding_size": HIDDEN,
        "padding": {"id": 0, "token_type_id": 0, "side": "right"},
        "inputs": ["input_ids", "attention_mask", "token_type_ids"],
    }


def make_tokenizer() -> Tokenizer:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", PAIR, special_tokens=ends)
    return tokenizer


def make_graph(vocabulary: int, seed: int, labels: Sequence[str], task: str = "classification") -> bytes:
    weights = np.random.default_rng(seed)
    constants = {
        "table": weights.normal(size=(vocabulary, HIDDEN)),
        "types": weights.normal(size=(2, HIDDEN)),
        "matrix": weights.normal(size=(HIDDEN, len(labels))),
        "begins": weights.normal(size=(HIDDEN, 1)),
        "finishes": weights.normal(size=(HIDDEN, 1)),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Gather", ["types", "token_type_ids"], ["segments"]),
        helper.make_node("Add", ["words", "segments"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["tokens", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["sentence_embedding"]),
    ]
    outputs = [helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", HIDDEN])]
    if task == "question-answering":
        for matrix, name in (("begins", "start_logits"), ("finishes", "end_logits")):
            nodes.append(helper.make_node("MatMul", ["tokens", matrix], [f"{name}_column"]))
            nodes.append(helper.make_node("Squeeze", [f"{name}_column", "last"], [name]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "seq"]))
    elif labels:
        by_token = task == "token-classification"
        asked, shape = ("tokens", ["batch", "seq"]) if by_token else ("sentence_embedding", ["batch"])
        nodes.append(helper.make_node("MatMul", [asked, "matrix"], ["logits"]))
        outputs.insert(0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*shape, len(labels)]))
    constants = {name: array for name, array in constants.items() if any(name in node.input for node in nodes)}
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"]) for name in inputs],
        outputs,
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
        + [numpy_helper.from_array(np.array([axis]), name) for name, axis in (("last", -1), ("middle", 1))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()
