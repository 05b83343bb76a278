"""The quality floors: what counting words, or averaging input embeddings, achieves without any Transformer.

A table that holds them shows what a pretrained encoder adds. Two are a linear classifier on features of the text, a
pair being both its texts in one; the third compares the words of a context with those of each candidate.
`pipeline.floor_fit` fits and seals them, and here they are opened.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artifact.config import Config
from artifact.manifest import open_artifact, read_manifest
from pipeline.rows_config import Floor
from serve.engine import Floats, Outputs, Text
from serve.session import open_tokenizer
from serve.tokens import mend

WEIGHTS = "weights.safetensors"
"""`weights` `[features, labels]` and `bias` `[labels]`, and what the features are computed with."""
TERMS = "terms.json"
"""Bag of words: the terms of each vectorizer, in the order of its features."""
TOKENIZER = "tokenizer.json"
LABELS = "labels.json"
"""Names of the columns, as the data set has them."""

WORDS: Mapping[str, Any] = {"ngram_range": (1, 2), "sublinear_tf": True}
PIECES: Mapping[str, Any] = {"analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 2, "sublinear_tf": True}
"""Words and pairs of words; and the 2 to 5 letter pieces of each word, which see through misspellings.

Words alone, pieces alone and both together, at three strengths of the classifier, were compared on the validation
split of the generated data set, with three seeds: this had the highest mean. It is not tuned for other data.
"""

LONE_WORDS: Mapping[str, Any] = {"sublinear_tf": True}
"""Single words, for the cosine of two texts; scikit-learn scales the vectors to length one."""
VECTORIZERS: Mapping[Floor, Mapping[str, Mapping[str, Any]]] = {
    "bag-of-words": {"words": WORDS, "pieces": PIECES},
    "tf-idf": {"words": LONE_WORDS},
}

Features = Callable[[Sequence[str]], Any]
"""Texts to a matrix `[batch, features]`, sparse or not."""


class FloorConfig(Config):
    """What a floor was asked to be; `facts` of its manifest are `seconds`, `features` and `size_bytes`."""

    kind: Floor
    max_tokens: int | None = None
    """Longest text in tokens, for the floor that has any."""
    seed: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class FloorEngine:
    """A fitted floor, ready to answer; satisfies `pipeline.rows.Row`."""

    name: str
    labels: tuple[str, ...]
    features: Features
    weights: Floats
    """`[features, labels]`"""
    bias: Floats
    """`[labels]`"""
    size_bytes: int
    """Of all its parameters, terms and tokenizer left out, as for models."""

    @property
    def threads(self) -> int:
        """One: a product with a sparse matrix, or a mean of a few rows, is shared with no other."""
        return 1

    def run(self, texts: Sequence[Text]) -> Outputs:
        """Log-odds of the labels; no embedding, and tokens are not counted."""
        return _outputs(np.asarray(self.features([join_pair(text) for text in texts]) @ self.weights + self.bias))


@dataclass(frozen=True, kw_only=True, eq=False)
class WordCosine:
    """The cosine of two texts' weighted words, as if it were the column of a cross-encoder; a `pipeline.rows.Row`."""

    name: str
    labels: tuple[str, ...]
    features: Features
    size_bytes: int

    @property
    def threads(self) -> int:
        """One, as of the other floors."""
        return 1

    def run(self, texts: Sequence[Text]) -> Outputs:
        """One column: the cosine of each pair's two texts, 0 for a text by itself."""
        pairs = [("", text) if isinstance(text, str) else text for text in texts]
        known = {text: place for place, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair))}
        vectors = self.features(list(known))  # of length one each
        first, second = ([known[pair[side]] for pair in pairs] for side in (0, 1))
        return _outputs(np.asarray(vectors[first].multiply(vectors[second]).sum(axis=1)).reshape(-1, 1))


def join_pair(text: Text) -> str:
    """Both texts of a pair in one."""
    return text if isinstance(text, str) else "\n".join(text)


def _outputs(logits: Any) -> Outputs:
    rows = len(logits)
    columns = np.asarray(logits, dtype=np.float32)
    return Outputs(logits=columns, embeddings=np.zeros((rows, 0), np.float32), tokens=np.zeros(rows, np.int64))


def open_floor(directory: Path) -> FloorEngine | WordCosine:
    """The sealed floor at that path; raises `ArtifactError` when it is none, or changed."""
    from safetensors.numpy import load_file

    open_artifact(directory, kind="floor")
    config = FloorConfig.model_validate(read_manifest(directory).request.config)
    tensors = load_file(directory / WEIGHTS)
    size_bytes = sum(tensor.nbytes for tensor in tensors.values())
    labels = tuple(json.loads((directory / LABELS).read_text(encoding="utf-8")))
    if config.kind == "tf-idf":
        words = _read_terms(directory, config, tensors)
        return WordCosine(name=config.kind, labels=labels, features=words, size_bytes=size_bytes)
    weights, bias = tensors.pop("weights"), tensors.pop("bias")
    read = _read_terms if config.kind == "bag-of-words" else _read_table
    features = read(directory, config, tensors)
    return FloorEngine(
        name=config.kind, labels=labels, features=features, weights=weights, bias=bias, size_bytes=size_bytes
    )


def mean_embeddings(texts: Sequence[str], tokenizer: Any, table: Floats) -> Floats:
    """`[batch, hidden]`: the mean of the rows of `table` that the tokens of each text name; of no token, zeros.

    Special tokens are left out, since they are in every text.
    """
    encodings = tokenizer.encode_batch_fast([mend(text) for text in texts], add_special_tokens=False)
    means = np.zeros((len(texts), table.shape[1]), dtype=np.float32)
    for row, encoding in enumerate(encodings):
        if encoding.ids:
            means[row] = table[encoding.ids].mean(axis=0)
    return means


def _read_terms(directory: Path, config: FloorConfig, tensors: Mapping[str, Floats]) -> Features:
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    terms = json.loads((directory / TERMS).read_text(encoding="utf-8"))
    vectorizers = []
    for name, options in VECTORIZERS[config.kind].items():
        vectorizer = TfidfVectorizer(**options, vocabulary=terms[name], dtype=np.float32)
        vectorizer.idf_ = tensors[f"{name}_idf"]
        vectorizers.append(vectorizer)
    return lambda texts: hstack([vectorizer.transform(texts) for vectorizer in vectorizers], format="csr")


def _read_table(directory: Path, config: FloorConfig, tensors: Mapping[str, Floats]) -> Features:
    tokenizer = open_tokenizer(directory / TOKENIZER, config.max_tokens or 1)
    return lambda texts: mean_embeddings(texts, tokenizer, tensors["table"])
