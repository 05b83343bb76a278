"""Bundles open unchanged in the libraries people have, and give the same answers there.

transformers.js needs Node 20 and `npm ci --prefix tests/ecosystem --ignore-scripts`, or another folder with
`node_modules`, named by `UNDERSTUDY_NODE_MODULES`; without them its tests are skipped.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optimum.onnxruntime
import pytest
import torch
from export_models import HEADS, MAX_TOKENS, make_model
from onnxruntime import InferenceSession
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoTokenizer

from artifact.stage import run_stage
from export.bundle import FILES
from export.config import ExportConfig, Parity
from export.run import export_stage
from export.tasks import TASKS

Bundles = Callable[..., tuple[Path, Path]]

CONFIG = ExportConfig(
    precisions=("float32", "int8", "int4-blocks", "float16"),
    parity=Parity(batch_sizes=(1, 3), lengths=(2, 9)),
    target="avx2",
)
TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10"]
PAIRS = ["w11", "w12 w13 w14 w15", "w16"]
FAMILIES = ["distilbert", "modernbert", "mpnet", "roberta"]
"""Besides BERT: without token types, with rotary positions, with another fused operator, with a shifted position."""

HERE = Path(__file__).parent / "ecosystem"
NODE_MODULES = Path(os.environ.get("UNDERSTUDY_NODE_MODULES", HERE))
DTYPES = {"fp32": "float32", "q8": "int8", "q4": "int4-blocks", "fp16": "float16"}
"""transformers.js's names of our precisions."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Model and bundle of a task and a family, made once."""
    made: dict[tuple[str, str], tuple[Path, Path]] = {}

    def make(task: str, model_type: str = "bert") -> tuple[Path, Path]:
        if (task, model_type) not in made:
            folder = tmp_path_factory.mktemp(f"{task}-{model_type}")
            model = make_model(folder / "model", task, model_type)
            run_stage(*export_stage(model, folder / "bundle", CONFIG, "tiny"))
            made[task, model_type] = model, folder / "bundle"
        return made[task, model_type]

    return make


def encode(bundle: Path, *texts: list[str] | None) -> dict[str, torch.Tensor]:
    """What the model takes of what the bundle's tokenizer gives."""
    encoded = AutoTokenizer.from_pretrained(bundle)(*texts, padding=True, return_tensors="pt")
    return {name: encoded[name] for name in json.loads((bundle / "understudy.json").read_text())["inputs"]}


def from_pytorch(task: str, model: Path, encoded: Any) -> dict[str, np.ndarray]:
    """What transformers answers, by output."""
    with torch.no_grad():
        outputs = HEADS[task].from_pretrained(model).eval()(**encoded)
    return {name: outputs[name].numpy() for name in TASKS[task].outputs if name in outputs}


def apart(one: np.ndarray, other: np.ndarray, mask: np.ndarray) -> float:
    """Largest difference, at real tokens where there is one answer a token."""
    assert one.shape == other.shape
    per_token = one.shape[:2] == mask.shape
    weight = mask.reshape(mask.shape + (1,) * (one.ndim - 2)) if per_token else np.float32(1)
    return float(np.abs((one - other) * weight).max())


CASES = [
    *((task, "bert") for task in TASKS),
    *(
        pytest.param("classification", family, marks=pytest.mark.slow if family == "modernbert" else pytest.mark.long)
        for family in FAMILIES
    ),
]
"""Every task with one family, and every family with one task."""


@pytest.mark.parametrize(("task", "model_type"), CASES)
def test_optimum_answers_as_transformers_does(bundles: Bundles, task: str, model_type: str) -> None:
    """Oracle: transformers on the model the bundle was made from; int8 is near, but not equal."""
    model, bundle = bundles(task, model_type)
    encoded = encode(bundle, TEXTS)
    expected = from_pytorch(task, model, encoded)
    opener = getattr(optimum.onnxruntime, TASKS[task].opener)
    for options, bound in (({}, 2e-5), ({"file_name": "model_quantized.onnx"}, 0.5)):
        found = opener.from_pretrained(bundle, **options)(**encoded)
        differences = [
            apart(found[name].numpy(), expected[name], encoded["attention_mask"].numpy()) for name in expected
        ]
        assert max(differences) < bound
        assert (max(differences) > 1e-4) == bool(options)


@pytest.mark.parametrize("model_type", ["bert", pytest.param("mpnet", marks=pytest.mark.slow)])
def test_sentence_transformers_embeds_as_with_pytorch(bundles: Bundles, model_type: str) -> None:
    """Oracle: sentence-transformers on the same directory with the model's own weights, and our second output."""
    model, bundle = bundles("embedding", model_type)
    theirs = SentenceTransformer(str(model), device="cpu")  # mean pooling, since the model's directory says nothing
    expected = theirs.encode(TEXTS, normalize_embeddings=True)
    options = {"provider": "CPUExecutionProvider"}
    ours = SentenceTransformer(str(bundle), backend="onnx", device="cpu", model_kwargs=options)
    assert ours.max_seq_length == MAX_TOKENS
    np.testing.assert_allclose(ours.encode(TEXTS), expected, atol=1e-5)
    encoded = ours.tokenize(TEXTS)
    session = InferenceSession(str(bundle / FILES["float32"]))
    given = {item.name: encoded[item.name].numpy() for item in session.get_inputs()}
    np.testing.assert_allclose(session.run(["sentence_embedding"], given)[0], expected, atol=1e-5)
    named = options | {"file_name": "model_quantized.onnx"}
    quantized = SentenceTransformer(str(bundle), backend="onnx", device="cpu", model_kwargs=named).encode(TEXTS)
    cosine = (quantized * expected).sum(axis=1)
    assert 0.98 < cosine.min() < 0.999999


def test_sentence_transformers_ranks_as_with_pytorch(bundles: Bundles) -> None:
    """Oracle: the same cross-encoder on the model's own weights."""
    model, bundle = bundles("ranking")
    pairs = list(zip(TEXTS, PAIRS, strict=True))
    ours = CrossEncoder(str(bundle), backend="onnx", model_kwargs={"provider": "CPUExecutionProvider"})
    expected = CrossEncoder(str(model), device="cpu", max_length=MAX_TOKENS).predict(pairs)
    np.testing.assert_allclose(ours.predict(pairs), expected, atol=1e-5)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize(("task", "model_type"), CASES)
def test_transformers_js_answers_as_transformers_does(bundles: Bundles, task: str, model_type: str) -> None:
    """Oracle: transformers for float32, and ONNX Runtime on the same file for the other precisions."""
    model, bundle = bundles(task, model_type)
    pairs = PAIRS if task in ("ranking", "question-answering") else None
    answers = ask_node(bundle, TASKS[task].opener.replace("ORTModel", "AutoModel"), pairs)
    encoded = encode(bundle, TEXTS, pairs)
    assert answers["tokens"] == encoded["input_ids"].tolist()
    mask = encoded["attention_mask"].numpy()
    expected = from_pytorch(task, model, encoded)
    assert expected.keys() <= answers["fp32"].keys()
    for name in expected:
        assert apart(answers["fp32"][name], expected[name], mask) < 2e-5
    for dtype, precision in DTYPES.items():
        session = InferenceSession(str(bundle / FILES[precision]))
        given = {item.name: encoded[item.name].numpy() for item in session.get_inputs()}
        same = dict(zip((item.name for item in session.get_outputs()), session.run(None, given), strict=True))
        for name in expected:
            assert apart(answers[dtype][name], same[name], mask) < 0.03


def ask_node(bundle: Path, opener: str, pairs: list[str] | None) -> dict[str, Any]:
    """The tokens, and for each dtype its outputs, by transformers.js; skips the test where that is not installed."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (NODE_MODULES / "node_modules" / "@huggingface" / "transformers").is_dir():
        pytest.skip("transformers.js is not installed: npm ci --prefix tests/ecosystem --ignore-scripts")
    opener = opener.replace("ForFeatureExtraction", "")
    types = "token_type_ids" in json.loads((bundle / "understudy.json").read_text())["inputs"]
    request = {
        "directory": str(bundle),
        "opener": opener,
        "dtypes": [*DTYPES],
        "texts": TEXTS,
        "pairs": pairs,
        "types": types,
    }
    done = subprocess.run(
        ["node", HERE / "answer.mjs", NODE_MODULES], input=json.dumps(request), capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for dtype in DTYPES:
        for name, array in answers[dtype].items():
            answers[dtype][name] = np.array(array["data"], dtype=np.float32).reshape(array["dims"])
    return answers
