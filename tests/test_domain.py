"""The out-of-domain gate: fitted, sealed, computed in the graph, and said over HTTP."""

import dataclasses
import gzip
import json
import random
import re
import shutil

import numpy as np
import onnx
import pytest
import torch
from export_models import make_classifier
from serve_bundles import make_bundle
from serve_client import open_client
from sklearn.covariance import LedoitWolf
from sklearn.svm import OneClassSVM
from transformers import AutoModelForSequenceClassification

from artifact.errors import ArtifactError, ExportError, ParityError
from artifact.manifest import open_artifact
from artifact.stage import run_stage
from export.config import CalibrationConfig, ExportConfig, InvarianceConfig, Parity
from export.domain import DOMAIN, MEANS, add_means, make_output
from export.domain_fit import fit_gate, layer_distances, weigh
from export.graph import export_graph
from export.proof import PROOF, prove_again
from export.run import export_stage
from export.session import open_session
from export.source import load_source
from pipeline.__main__ import main
from pipeline.guard import guard_stage
from pipeline.guard_texts import read_parts, texts_needed
from pipeline.verify import verify
from serve import engine as serve_engine
from serve.config import ServiceConfig
from serve.engine import Outputs
from serve.http.app import create_app
from serve.http.domain import domain_headers, domain_of
from serve.runtime import Runtime

FAST = ExportConfig(
    precisions=("float32", "int8"),
    parity=Parity(batch_sizes=(1, 3), lengths=(2, 9), int8_min_cosine=0.5),
    target="avx2",
    min_quality=None,
    calibration=CalibrationConfig(texts=8, judged_texts=8),
    invariance=InvarianceConfig(texts=8, batch_size=4, compositions=1, strict=("float32",)),
)
COUNT = 500


def make_texts(count: int = COUNT) -> list[str]:
    words = random.Random(0)
    return [" ".join(f"w{words.randrange(200)}" for _ in range(3 + row % 12)) for row in range(count)]


def write_texts(path, texts, field="text"):
    path.write_text("".join(json.dumps({field: text}) + "\n" for text in texts), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A tiny BERT, its bundle, and the same with a gate."""
    root = tmp_path_factory.mktemp("root")
    make_classifier(root / "model")
    texts = write_texts(root / "texts.jsonl", make_texts())
    run_stage(*export_stage(root / "model", root / "bundle", FAST, "student", data=texts))
    run_stage(*guard_stage(root / "bundle", texts, root / "guarded"))
    return root


@pytest.fixture(scope="module")
def guarded(root):
    return {name: Runtime.open(root / "guarded", name, threads=1) for name in ("float32", "int8")}


def test_the_word_is_the_same_on_both_sides():
    """Oracle: the word that serving looks for; export may not import it."""
    assert serve_engine.DOMAIN == DOMAIN


def means_longhand(root, runtime, texts) -> np.ndarray:
    """Each text alone through transformers: nothing to mask."""
    model = AutoModelForSequenceClassification.from_pretrained(root / "model").eval()
    rows = []
    with torch.inference_mode():
        for encoding in runtime.tokenize(texts).encodings:
            states = model(input_ids=torch.tensor([encoding.ids]), output_hidden_states=True).hidden_states
            rows.append([state[0].numpy().astype(np.float64).mean(axis=0) for state in states[1:]])
    return np.array(rows)


def test_distances_are_those_of_the_equations(root, guarded):
    """Oracle: hidden states of transformers and scikit-learn's precision matrix, longhand."""
    parts = read_parts(root / "texts.jsonl", field="text", quantile=0.95, most_texts=8000)
    fitted, asked = (means_longhand(root, guarded["float32"], texts) for texts in (parts.fitted, parts.held_out))
    columns = []
    for layer in range(2):
        shrunk = LedoitWolf().fit(fitted[:, layer])
        away = [means[:, layer] - shrunk.location_ for means in (fitted, asked)]
        columns.append([np.einsum("th,hk,tk->t", each, shrunk.precision_, each) / 32 for each in away])
    expected = np.mean([found for _, found in columns], axis=0)
    np.testing.assert_allclose(guarded["float32"].run(parts.held_out).domain, expected, rtol=1e-3)
    assert np.median(expected) == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_nothing_else_changes(root, guarded, precision):
    """Oracle: the bundle before, to the bit."""
    before = Runtime.open(root / "bundle", precision, threads=1)
    old, new = (runtime.run(make_texts(64)) for runtime in (before, guarded[precision]))
    assert old.logits.tobytes() == new.logits.tobytes()
    assert old.embeddings.tobytes() == new.embeddings.tobytes()
    assert old.domain is None
    assert new.domain.shape == (64,)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_threshold_flags_the_share_asked_for(root, guarded, precision):
    """Oracle: counting the held-out texts beyond it."""
    parts = read_parts(root / "texts.jsonl", field="text", quantile=0.95, most_texts=8000)
    runtime = guarded[precision]
    flagged = (runtime.run(parts.held_out).domain > runtime.domain_threshold).mean()
    assert 0.05 - 1 / len(parts.held_out) <= flagged <= 0.05
    assert not set(parts.fitted) & set(parts.held_out)
    assert len(parts.fitted) + len(parts.held_out) == COUNT


def test_padding_and_company_do_not_matter(guarded):
    """Oracle: each text alone."""
    texts = make_texts(24)
    alone = [guarded["float32"].run([text]).domain[0] for text in texts]
    np.testing.assert_allclose(guarded["float32"].run(texts).domain, alone, rtol=1e-4)


def test_words_never_seen_are_farther(guarded):
    """Oracle: the fitted texts use 200 words; these use 300 others."""
    words = random.Random(1)
    strange = [" ".join(f"w{words.randrange(300, 600)}" for _ in range(8)) for _ in range(60)]
    for runtime in guarded.values():
        assert np.median(runtime.run(strange).domain) > np.median(runtime.run(make_texts(60)).domain)


def test_a_guarded_bundle_verifies(root):
    """Oracle: `understudy verify`, which asks every graph again; and the digest of the bundle it was made from."""
    lines = verify(root / "guarded")
    assert sum("distances within" in line for line in lines) == 2
    manifest = open_artifact(root / "guarded", "bundle")
    before = open_artifact(root / "bundle", "bundle")
    assert manifest.lineage["bundle"].digest == before.digest
    for name, about in manifest.facts["precisions"].items():
        assert about["parity"] == before.facts["precisions"][name]["parity"]
    assert "domain_distance" in (root / "guarded" / "README.md").read_text(encoding="utf-8")


def test_a_gate_that_moved_does_not_verify(root, tmp_path):
    """Oracle: stored distances, doubled."""
    shutil.copytree(root / "guarded", tmp_path / "guarded")
    with np.load(tmp_path / "guarded" / PROOF) as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "guarded" / PROOF, **arrays | {"domain.int8": arrays["domain.int8"] * 2})
    with pytest.raises(ParityError, match="distances of the int8 gate moved"):
        prove_again(tmp_path / "guarded", open_artifact(root / "guarded").facts, 1e-3)


@pytest.mark.parametrize("model_type", ["bert", "modernbert", "deberta-v2"])
def test_layers_are_found_in_every_kind_of_encoder(tmp_path, model_type):
    """Oracle: the last hidden state as transformers gives it, which is normed wherever the norms stand."""
    shape = {"relative_attention": True, "norm_rel_ebd": "layer_norm"} if model_type == "deberta-v2" else {}
    source = load_source(make_classifier(tmp_path / "model", model_type, **shape))
    export_graph(source, tmp_path / "raw.onnx", opset=17)
    model = onnx.load(tmp_path / "raw.onnx")
    make_output(model, add_means(model, source.architecture.layers))
    onnx.save(model, tmp_path / "means.onnx")
    ids, mask = np.array([[2, 9, 7, 3, 0], [2, 30, 50, 8, 3]]), np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    session = open_session(tmp_path / "means.onnx")
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    found = session.run([MEANS], {item.name: feed[item.name] for item in session.get_inputs()})[0]
    with torch.inference_mode():
        encoder = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval().base_model
        answer = encoder(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))
    last = answer.last_hidden_state.numpy()
    assert found.shape == (2, 2, 32)
    np.testing.assert_allclose(found[0, -1], last[0, :4].mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(found[1, -1], last[1].mean(axis=0), atol=1e-4)


def test_one_precision_of_a_zipped_file_of_pairs(root, tmp_path):
    """Oracle: the runtime on pairs; the precisions asked for, and no other file."""
    texts = make_texts(2 * COUNT)
    path = tmp_path / "pairs.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"both": pair}) + "\n" for pair in zip(texts[:COUNT], texts[COUNT:], strict=True))
    out = tmp_path / "guarded"
    run_stage(*guard_stage(root / "bundle", path, out, ("int8",), field="both", quantile=0.9))
    assert not (out / "onnx" / "model.onnx").exists()
    assert "model.onnx`" not in (out / "README.md").read_text(encoding="utf-8")
    runtime = Runtime.open(out, threads=1)
    assert runtime.name == "student/int8"
    assert runtime.bundle.info.domain["int8"].quantile == 0.9
    assert runtime.run([(texts[0], texts[COUNT])]).domain[0] < 3


def test_what_cannot_be_guarded_is_refused(root, tmp_path):
    """Oracle: the messages."""
    texts = root / "texts.jsonl"
    few = write_texts(tmp_path / "few.jsonl", [*make_texts(60), *make_texts(60)])
    bare = make_bundle(tmp_path / "bare")
    cases = [
        (ExportError, "has a gate already", (root / "guarded", texts), {}),
        (ExportError, "60 different texts can be used\n.*needs 400", (root / "bundle", few), {}),
        (ExportError, "line 1, has no 'words'", (root / "bundle", texts), {"field": "words"}),
        (ExportError, "there is no file", (root / "bundle", tmp_path / "none"), {}),
        (ExportError, "100 different texts can be used", (root / "bundle", texts), {"most_texts": 100}),
        (ExportError, "how many layers", (bare, texts), {}),
        (ArtifactError, "no precision 'int2'", (root / "bundle", texts), {"precisions": ("int2",)}),
    ]
    for kind, message, (bundle, file), options in cases:
        with pytest.raises(kind) as caught:
            run_stage(*guard_stage(bundle, file, tmp_path / "out", **options))
        assert re.search(message, str(caught.value)), caught.value
        assert not (tmp_path / "out" / "manifest.json").exists()


def test_texts_held_out_may_have_a_file_of_their_own(tmp_path):
    """Oracle: the files; a text of both is fitted only, and each file has to have its part."""
    texts = make_texts(600)
    fitted = write_texts(tmp_path / "fitted.jsonl", texts[:400])
    apart = write_texts(tmp_path / "apart.jsonl", texts[300:])
    parts = read_parts(fitted, apart, field="text", quantile=0.95, most_texts=8000)
    assert set(parts.fitted) == set(texts[:400])
    assert set(parts.held_out) == set(texts[400:])
    parts = read_parts(fitted, apart, field="text", quantile=0.95, most_texts=400)
    assert (len(parts.fitted), len(parts.held_out)) == (300, 100)
    with pytest.raises(ExportError, match="0 different texts can be used"):
        read_parts(apart, fitted, field="text", quantile=0.95, most_texts=0)
    few = write_texts(tmp_path / "few.jsonl", texts[500:])
    with pytest.raises(ExportError, match="99 different"):
        read_parts(fitted, write_texts(few, texts[501:]), field="text", quantile=0.95, most_texts=8000)


def test_texts_needed():
    """Oracle: five beyond the quantile in the held-out quarter, by hand."""
    assert texts_needed(0.95) == 400
    assert texts_needed(0.99) == 2000
    assert texts_needed(0.5) == 40


def test_a_graph_without_norms_is_refused():
    """Oracle: a graph of one node."""
    node = onnx.helper.make_node("Identity", ["input_ids"], ["out"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "bare", [], []))
    with pytest.raises(ExportError, match="0 layer norms, 2 layers would have 5"):
        add_means(model, 2)


def test_weights_are_never_negative():
    """Oracle: a layer of the same distances everywhere but one weighs by them; no sign can flip."""
    rows = np.random.default_rng(0).gamma(4, 0.25, size=(300, 5))
    weights = weigh(rows)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_array_equal(weigh(np.zeros((300, 5))), np.full(5, 0.2))


def test_layers_may_weigh_alike():
    """Oracle: scikit-learn's shrunk precision matrices, and the plain mean of the layers' distances."""
    means = np.random.default_rng(0).normal(size=(200, 3, 8)) * np.arange(1, 9)
    gate = fit_gate(means, "equal").gate
    np.testing.assert_array_equal(gate.weights, np.full(3, 1 / 3))
    for layer, distances in enumerate(layer_distances(means, gate).T):
        shrunk = LedoitWolf().fit(means[:, layer])
        np.testing.assert_allclose(distances, shrunk.mahalanobis(means[:, layer]) / 8, rtol=1e-6)
    svm = OneClassSVM(kernel="linear", nu=0.1).fit(layer_distances(means, gate)).coef_[0]
    np.testing.assert_allclose(fit_gate(means, "svm").gate.weights, svm / svm.sum())


def test_layers_may_weigh_as_a_machine_says(root, tmp_path):
    """Oracle: the weights in the facts, and the request."""
    texts = root / "texts.jsonl"
    stage, work = guard_stage(root / "bundle", texts, tmp_path / "guarded", ("int8",), weighting="svm")
    weights = run_stage(stage, work).facts["domain"]["int8"]["layer_weights"]
    assert sum(weights) == pytest.approx(1, abs=1e-5)
    assert weights[0] != weights[1]
    assert open_artifact(root / "guarded").facts["domain"]["int8"]["layer_weights"] == [0.5, 0.5]


def test_the_command(root, tmp_path, capsys):
    """Oracle: the exit code, and the thresholds of `understudy.json` on stdout."""
    command = ["guard", str(root / "bundle"), "--texts", str(root / "texts.jsonl"), "--out", str(tmp_path / "guarded")]
    assert main([*command, "--precision", "int8"]) == 0
    told = json.loads(capsys.readouterr().out)
    described = json.loads((tmp_path / "guarded" / "understudy.json").read_text(encoding="utf-8"))
    assert told["int8"]["threshold"] == described["domain"]["int8"]["threshold"]
    assert main([*command, "--quantile", "1.5", "--force"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err


@pytest.fixture
def client(root, guarded):
    engines = {"student/int8": guarded["int8"], "bare/int8": Runtime.open(root / "bundle", "int8", name="bare/int8")}
    with open_client(create_app(engines, "student/int8", ServiceConfig())) as client:
        yield client


def test_every_answer_says_how_far_out_its_texts_are(client, guarded):
    """Oracle: the runtime, alone and by hand; a model without a gate says nothing."""
    texts = make_texts(3)
    for route, body in (
        ("/predict", {"inputs": texts}),
        ("/embed", {"inputs": texts}),
        ("/v1/embeddings", {"input": texts}),
    ):
        answer = client.post(route, body)
        assert answer.status_code == 200
        scores = [float(score) for score in answer.headers["x-out-of-domain-score"].split(",")]
        flags = [f == "true" for f in answer.headers["x-out-of-domain"].split(",")]
        np.testing.assert_allclose(scores, guarded["int8"].run(texts).domain, rtol=0.2)  # company moves int8
        assert flags == [score > guarded["int8"].domain_threshold for score in scores]
    told = client.post("/classify", {"inputs": make_texts(1)})
    verdict = told.json()["out_of_domain"]
    assert f"{verdict['score']:.5g}" == told.headers["x-out-of-domain-score"]
    assert verdict["flag"] is (told.headers["x-out-of-domain"] == "true")
    assert "x-out-of-domain" not in client.post("/predict", {"inputs": texts, "model": "bare"}).headers
    told = {model["id"]: model["domain_threshold"] for model in client.get("/info").json()["models"]}
    assert told == {"student/int8": guarded["int8"].domain_threshold, "bare/int8": None}
    assert "x-out-of-domain" not in client.post("/embed", {"inputs": make_texts(33)}).headers


def test_texts_out_of_domain_are_counted(client):
    """Oracle: the flags of the replies."""
    texts = [*make_texts(5), *(" ".join(["w599"] * count) for count in range(1, 20))]
    flags = client.post("/embed", {"inputs": texts}).headers["x-out-of-domain"].split(",")
    page = client.get("/metrics").text
    assert flags.count("true") > 0
    assert f'understudy_out_of_domain_texts_total{{model="student/int8"}} {flags.count("true")}.0' in page
    assert f'understudy_domain_distance_ratio_count{{model="student/int8"}} {len(texts)}.0' in page


def test_verdicts():
    """Oracle: by hand; a distance that is no number is out of domain."""

    class Gated:
        domain_threshold = 1.5

    none = np.zeros((3, 0), np.float32)
    outputs = Outputs(
        logits=none, embeddings=none, tokens=np.ones(3, np.int64), domain=np.array([1.0, 2.0, np.nan], np.float32)
    )
    assert [verdict["flag"] for verdict in domain_of(Gated(), outputs)] == [False, True, True]
    assert domain_headers(Gated(), outputs)["x-out-of-domain-score"] == "1,2,nan"
    assert domain_of(object(), outputs)[1] == {"score": 2.0, "flag": None}
    assert domain_of(Gated(), dataclasses.replace(outputs, domain=None)) is None
    assert domain_headers(object(), outputs) == {}
