"""A classifier that naive int8 breaks: in one feed-forward network a few units are huge, constant, and cancelled.

A unit whose bias is 300 passes GELU as 300 whatever the text, and the next layer's bias takes its share away again, so
in float nothing changes. One scale for all activations of that product must reach to 300, though, and the other
units, of size 1, fall between its steps. Published Transformers have such units; these are made on purpose.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from export_models import WORDS, make_classifier
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from export.grid import Inputs, pad_texts

LABELS = 6
SPECIALS = 4
HUGE = 500.0
UNITS = 4
"""How many units of each spoilt network are huge."""


def make_outlier_classifier(directory: Path, *, layers: Sequence[int] = (1,), **shape: Any) -> Path:
    """A classifier in `directory`, right on `labelled_texts`, with outliers in the feed-forward network of `layers`."""
    make_classifier(directory, labels=LABELS, hidden_size=64, num_hidden_layers=3, intermediate_size=256, **shape)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    with torch.no_grad():
        _give_words_meaning(model)
        for layer in layers:
            _spoil(model, layer)
        _fit_head(model)
    model.save_pretrained(directory)
    return directory


def labelled_texts(count: int, seed: int) -> tuple[list[Inputs], np.ndarray]:
    """Texts of 6 to 20 tokens whose words mostly come from their label's share of the vocabulary."""
    random = np.random.default_rng(seed)
    share = WORDS // LABELS
    labels = random.integers(LABELS, size=count)
    texts = []
    for label in labels:
        words = random.integers(6, 21) - 2
        own = random.integers(share, size=words) + share * label
        ids = np.where(random.random(words) < 0.8, own, random.integers(WORDS, size=words)) + SPECIALS
        row = np.array([[2, *ids, 3]])
        texts.append({"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)})
    return texts, labels


def _give_words_meaning(model: PreTrainedModel) -> None:
    """Move the words of each label together; what they share is what the label is read from."""
    meanings = torch.randn(LABELS, model.config.hidden_size) * model.config.initializer_range
    model.get_input_embeddings().weight[SPECIALS:].add_(meanings.repeat_interleave(WORDS // LABELS, dim=0))


def _spoil(model: PreTrainedModel, layer: int) -> None:
    """Make the first units of the network huge, and let its answer outweigh the residual beside it."""
    block = model.base_model.encoder.layer[layer]
    into, out = block.intermediate.dense, block.output.dense
    out.weight.mul_(8)
    into.weight[:UNITS] = 0
    into.bias[:UNITS] = HUGE
    out.bias.sub_(HUGE * out.weight[:, :UNITS].sum(dim=1))


def _fit_head(model: PreTrainedModel) -> None:
    """The head's last layer by least squares, so that the float model is right with a margin."""
    texts, labels = labelled_texts(2000, seed=1)
    caught: list[torch.Tensor] = []
    hook = model.classifier.register_forward_hook(lambda _module, inputs, _output: caught.append(inputs[0]))
    model(**{name: torch.from_numpy(values) for name, values in pad_texts(texts, 0).items()})
    hook.remove()
    features = torch.cat([caught[0], torch.ones(len(texts), 1)], dim=1)
    wanted = torch.nn.functional.one_hot(torch.from_numpy(labels), LABELS) * 2.0 - 1
    gram = features.T @ features + torch.eye(features.shape[1])
    solution = torch.linalg.solve(gram, features.T @ wanted)
    model.classifier.weight.copy_(solution[:-1].T)
    model.classifier.bias.copy_(solution[-1])
