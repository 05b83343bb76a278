"""Tiny random classifiers with a real tokenizer, saved as transformers saves them."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedTokenizerFast,
)

from export.quiet import quiet

WORDS = 600
MAX_TOKENS = 24

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "initializer_range": 0.2,  # wide, so that a wrong answer is far from a right one
}
OWN_SHAPE: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "electra": {"embedding_size": 32},
    "modernbert": {
        "pad_token_id": 0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "local_attention": 8,
    },
}


def make_tokenizer(pad_id: int = 0) -> PreTrainedTokenizerFast:
    """A word-level tokenizer `[CLS] … [SEP]`, left with truncation and padding on, as published ones often are."""
    specials = ["[PAD]", "[UNK]"] if pad_id == 0 else ["[UNK]", "[PAD]"]
    tokens = [*specials, "[CLS]", "[SEP]", *(f"w{index}" for index in range(WORDS))]
    tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(max_length=8)
    tokenizer.enable_padding(length=8, pad_id=pad_id)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=512,
    )


HEADS: dict[str, Any] = {
    "classification": AutoModelForSequenceClassification,
    "ranking": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
    "embedding": AutoModel,
}


def make_classifier(directory: Path, model_type: str = "bert", *, labels: int = 3, **shape: Any) -> Path:
    """A random classifier of `model_type` in `directory`, with `understudy.json` as distillation writes it."""
    return make_model(directory, "classification", model_type, labels=labels, **shape)


def make_model(directory: Path, task: str, model_type: str = "bert", *, labels: int = 3, **shape: Any) -> Path:
    """A random model of `model_type` for `task`; what a task fixes, `labels` does not change."""
    torch.manual_seed(0)
    labels = {"ranking": 1, "question-answering": 2}.get(task, labels)  # two: where an answer starts and ends
    base = {} if model_type == "distilbert" else SHAPE
    names = {index: f"label_{index}" for index in range(labels)}
    config = AutoConfig.for_model(
        model_type,
        **{
            "vocab_size": WORDS + 4,
            "max_position_embeddings": 40,
            "id2label": names,
            "label2id": {name: index for index, name in names.items()},
            **base,
            **OWN_SHAPE.get(model_type, {}),
            **shape,
        },
    )
    with quiet():  # importing DeBERTa's module warns of torch.jit.script
        model = HEADS[task].from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases and norms start out equal, and equal tensors are merged in a graph
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(directory)
    make_tokenizer(config.pad_token_id).save_pretrained(directory)
    (directory / "understudy.json").write_text(json.dumps({"max_tokens": MAX_TOKENS}))
    return directory
