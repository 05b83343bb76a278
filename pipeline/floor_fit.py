"""The steps that fit the quality floors on the training split, once for the evaluation and the benchmark.

stage, work = floor_stage("bag-of-words", recipe, Path("out/demo"))
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.dataset import Example, read_info, read_split
from artifact.errors import DataError
from artifact.manifest import write_json
from artifact.stage import Stage, Work
from pipeline.floors import LABELS, TERMS, TOKENIZER, VECTORIZERS, WEIGHTS, FloorConfig, join_pair, mean_embeddings
from pipeline.recipe import Recipe
from pipeline.rows_config import Floor
from serve.engine import Floats
from serve.session import open_tokenizer

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

VERSION = 1

NEVER = -1e9
"""Logit of a label that no training text has."""

Parts = tuple[dict[str, Floats], "LogisticRegression"]
"""What features are computed with, and the classifier on them."""


def floor_stage(kind: Floor, recipe: Recipe, root: Path) -> tuple[Stage, Work]:
    """The stage that fits the floor below the output folder `root`, and its work."""
    first = next(iter(recipe.deployed()))
    reads_model = kind == "static-embeddings"
    config = FloorConfig(kind=kind, max_tokens=recipe.models[first].max_tokens if reads_model else None)
    inputs = {"data": root / "data"} | ({f"model:{first}": root / "models" / first} if reads_model else {})
    out = root / "floors" / kind
    stage = Stage(name="floor", version=VERSION, kind="floor", out=out, config=config, inputs=inputs)
    return stage, lambda directory: run_floor(config, root / "data", root / "models" / first, directory)


def run_floor(config: FloorConfig, data: Path, model: Path, out: Path) -> Mapping[str, Any]:
    """Fill `out` with the floor that `open_floor` opens; the facts say what it took, and how large it is.

    Raises `DataError` when the training texts all have one label, or hold no words.
    """
    from safetensors.numpy import save_file

    begun = time.perf_counter()
    train = read_split(data, "train")
    names = read_info(data).labels
    write_json(out / LABELS, names)
    if config.kind == "tf-idf":
        said = dict.fromkeys(text for example in train for text in (example.text, example.pair) if text)
        tensors = _write_vectorizers(config.kind, list(said), out)[0]
    else:
        tensors = _fit_classifier(config, train, len(names), model, out)
    save_file({name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}, out / WEIGHTS)
    features = sum(len(tensor) for name, tensor in tensors.items() if name == "weights" or config.kind == "tf-idf")
    size_bytes = sum(4 * tensor.size for tensor in tensors.values())
    return {"features": features, "size_bytes": size_bytes, "seconds": round(time.perf_counter() - begun, 1)}


def _fit_classifier(
    config: FloorConfig, train: Sequence[Example], labels: int, model: Path, out: Path
) -> dict[str, Floats]:
    texts, known = [join_pair(example.asked) for example in train], [example.label for example in train]
    if len(set(known)) < 2:
        raise DataError(f"{config.kind} cannot learn from training texts of one label", "set rows.floors to []")
    if config.kind == "bag-of-words":
        tensors, regression = _fit_terms(texts, known, config, out)
    else:
        tensors, regression = _fit_means(texts, known, config, model, out)
    return tensors | _columns(regression, labels)


def _fit_terms(texts: Sequence[str], labels: Sequence[int], config: FloorConfig, out: Path) -> Parts:
    from sklearn.linear_model import LogisticRegression

    tensors, features = _write_vectorizers(config.kind, texts, out)
    regression = LogisticRegression(C=30, max_iter=2000, random_state=config.seed).fit(features, labels)
    return tensors, regression


def _write_vectorizers(kind: Floor, texts: Sequence[str], out: Path) -> tuple[dict[str, Floats], Any]:
    """What weighs the terms, which are written to `out`; and the features of `texts`, sparse."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizers = {name: TfidfVectorizer(**options) for name, options in VECTORIZERS[kind].items()}
    try:
        features = hstack([vectorizer.fit_transform(texts) for vectorizer in vectorizers.values()], format="csr")
    except ValueError as error:  # an empty vocabulary
        reason = str(error).split(".", maxsplit=1)[0]
        raise DataError(f"{kind} finds nothing to count: {reason}", "set rows.floors to []") from None
    write_json(out / TERMS, {name: each.get_feature_names_out().tolist() for name, each in vectorizers.items()})
    return {f"{name}_idf": each.idf_ for name, each in vectorizers.items()}, features


def _fit_means(texts: Sequence[str], labels: Sequence[int], config: FloorConfig, model: Path, out: Path) -> Parts:
    """Standardised features let one strength suit any model; the scale is then folded into the weights."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    table, tokenizer_path = _read_embeddings(model, out)
    means = mean_embeddings(texts, open_tokenizer(tokenizer_path, config.max_tokens or 1), table)
    scaler = StandardScaler().fit(means)
    regression = LogisticRegression(max_iter=2000, random_state=config.seed).fit(scaler.transform(means), labels)
    regression.coef_ = regression.coef_ / scaler.scale_
    regression.intercept_ = regression.intercept_ - regression.coef_ @ scaler.mean_
    return {"table": table}, regression


def _read_embeddings(model: Path, out: Path) -> tuple[Floats, Path]:
    """The first model's input embeddings `[vocab, hidden]`, and its tokenizer, copied to `out`."""
    from transformers import AutoModel, AutoTokenizer

    table = AutoModel.from_pretrained(model).get_input_embeddings().get_parameter("weight")
    tokenizer = AutoTokenizer.from_pretrained(model, use_fast=True)  # type: ignore[no-untyped-call]  # theirs
    tokenizer.backend_tokenizer.save(str(out / TOKENIZER))
    return np.asarray(table.detach().float().numpy(), dtype=np.float32), out / TOKENIZER


def _columns(regression: "LogisticRegression", labels: int) -> dict[str, Floats]:
    """`weights` `[features, labels]` and `bias` `[labels]`: a column for each label, also those never seen.

    Of two classes scikit-learn keeps the log-odds of the second alone; half of it on either side says the same.
    """
    coefficients, intercept = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:
        coefficients, intercept = np.vstack([-coefficients, coefficients]) / 2, np.append(-intercept, intercept) / 2
    weights = np.zeros((coefficients.shape[1], labels), dtype=np.float32)
    bias = np.full(labels, NEVER, dtype=np.float32)
    weights[:, regression.classes_], bias[regression.classes_] = coefficients.T, intercept
    return {"weights": weights, "bias": bias}
