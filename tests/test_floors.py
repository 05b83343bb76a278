"""The quality floors learn what words can tell and nothing else, and come back from disk as they were fitted."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from task_data import make_data
from tiny_models import make_bert, make_examples, make_tokenizer, seal_dataset

from artifact.dataset import Example, read_split
from artifact.errors import ArtifactError, DataError
from artifact.manifest import Request, read_manifest, seal
from artifact.stage import run_stage
from pipeline.floor_fit import floor_stage, run_floor
from pipeline.floors import PIECES, WORDS, FloorConfig, FloorEngine, open_floor
from pipeline.grammar import generate
from pipeline.recipe import Recipe
from serve.engine import softmax

KEYS = (("rain", "snow", "storm"), ("bread", "soup", "salad"), ("goal", "match", "referee"))
FILLER = ("today", "perhaps", "again", "we", "talked", "about", "some")
RECIPE = Recipe.model_validate({
    "name": "tiny",
    "data": {"source": {"kind": "generator", "grammar": "grammar.yaml"}},
    "models": {"teacher": {"start": {"kind": "checkpoint", "source": "somewhere"}, "max_tokens": 8}},
    "candidate": "teacher/int8",
})  # fmt: skip


def make_texts(count, seed):
    rng = random.Random(seed)
    labels = [rng.randrange(len(KEYS)) for _ in range(count)]
    return [f"{rng.choice(FILLER)} {rng.choice(KEYS[label])} {rng.choice(FILLER)}" for label in labels], labels


def fit(root: Path, texts, labels, names=("weather", "food", "sport"), kind="bag-of-words") -> FloorEngine:
    train = [Example(text=text, label=label) for text, label in zip(texts, labels, strict=True)]
    seal_dataset(root / "data", labels=tuple(names), splits={"train": train})
    stage, work = floor_stage(kind, RECIPE, root)
    run_stage(stage, work)
    return open_floor(root / "floors" / kind)


def predict(floor, texts):
    return floor.run(texts).logits.argmax(axis=1).tolist()


def test_words_that_name_the_class_are_enough(tmp_path):
    """Oracle: how the texts were made; each holds one word that only its class uses."""
    texts, expected = make_texts(60, seed=2)
    assert predict(fit(tmp_path, *make_texts(90, seed=1)), texts) == expected


def test_beats_the_majority_on_the_project_data(tmp_path):
    """Oracle: the share of the most frequent class in the test split."""
    generated = generate(Path(__file__).parents[1] / "recipes/data/intents.yaml", seed=1)
    names = sorted({label for _, label in generated["train"]})[:5]
    train, test = ([row for row in generated[split] if row[1] in names] for split in ("train", "test"))
    train = train[::4]
    floor = fit(tmp_path, [t for t, _ in train], [names.index(n) for _, n in train], names)
    right = sum(
        names[label] == name for label, (_, name) in zip(predict(floor, [t for t, _ in test]), test, strict=True)
    )
    assert right > 3 * max(Counter(name for _, name in test).values())


def test_bag_of_words_is_what_scikit_learn_makes_of_it(tmp_path):
    """Oracle: scikit-learn's own pipeline of the same parts, in double precision and never saved."""
    texts, labels = make_texts(90, seed=1)
    test, _ = make_texts(40, seed=2)
    parts = make_union(TfidfVectorizer(**WORDS), TfidfVectorizer(**PIECES))
    expected = make_pipeline(parts, LogisticRegression(C=30, max_iter=2000)).fit(texts, labels).decision_function(test)
    np.testing.assert_allclose(fit(tmp_path, texts, labels).run(test).logits, expected, atol=1e-3)


def test_the_same_data_gives_the_same_bytes(tmp_path):
    """Oracle: an identity, between the digests of two fits."""
    for name in ("one", "two"):
        fit(tmp_path / name, *make_texts(40, seed=3))
    digests = {read_manifest(tmp_path / name / "floors/bag-of-words").digest for name in ("one", "two")}
    assert len(digests) == 1


def test_labels_keep_their_numbers(tmp_path):
    """Oracle: labels neither adjacent nor ordered, others never seen; pieces of words catch the misspelling.

    And of two classes, scikit-learn's probabilities.
    """
    train, labels = ["water bill", "gas bill", "loud music", "piano music"], [7, 7, 3, 3]
    test = ["a watter bil", "musik"]
    floor = fit(tmp_path, train, labels, [f"label {number}" for number in range(9)])
    assert predict(floor, test) == [7, 3]
    probabilities = softmax(floor.run(test).logits)
    assert probabilities[:, [0, 1, 2, 4, 5, 6, 8]].max() == 0
    parts = make_union(TfidfVectorizer(**WORDS), TfidfVectorizer(**PIECES))
    expected = make_pipeline(parts, LogisticRegression(C=30, max_iter=2000)).fit(train, labels).predict_proba(test)
    np.testing.assert_allclose(probabilities[:, [3, 7]], expected, atol=1e-4)


def seal_model(directory: Path) -> torch.Tensor:
    """A tiny model with its tokenizer; returns its input embeddings."""
    model = make_bert(seed=5)
    model.save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    request = Request(stage="distill", version=1, config={}, inputs={})
    seal(directory, kind="model", request=request, lineage={}, facts={})
    return model.bert.embeddings.word_embeddings.weight.detach()


def test_static_embeddings_are_a_mean_and_a_line(tmp_path):
    """Oracle: the means longhand from the model in memory, then scikit-learn's pipeline; and the bias of no token."""
    table, tokenizer = seal_model(tmp_path / "models" / "teacher"), make_tokenizer()
    examples, test = make_examples(120, seed=1), [each.text for each in make_examples(30, seed=2)]
    texts, labels = [each.text for each in examples], [each.label for each in examples]

    def mean(text):  # `max_tokens` is 8, and no special token counts
        return table[tokenizer(text, add_special_tokens=False)["input_ids"][:8]].mean(dim=0).numpy()

    floor = fit(tmp_path, texts, labels, kind="static-embeddings")
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit([mean(t) for t in texts], labels)
    expected = pipeline.decision_function([mean(text) for text in test])
    np.testing.assert_allclose(floor.run(test).logits, expected, atol=1e-3)
    np.testing.assert_allclose(floor.run(["", "turn"]).logits[0], floor.bias, atol=1e-6)
    assert floor.run(["\ud800"]).logits.shape == (1, 3)


def test_a_floor_says_what_it_is(tmp_path):
    """Oracle: the tensors on disk, the facts, and the inputs a digest is taken of."""
    seal_model(tmp_path / "models" / "teacher")
    floor = fit(tmp_path, *make_texts(40, seed=3), kind="static-embeddings")
    directory = tmp_path / "floors/static-embeddings"
    manifest = read_manifest(directory)
    stored = load_file(directory / "weights.safetensors")
    assert floor.size_bytes == sum(each.nbytes for each in stored.values()) == manifest.facts["size_bytes"]
    assert (floor.name, floor.labels, floor.threads) == ("static-embeddings", ("weather", "food", "sport"), 1)
    assert set(manifest.lineage) == {"data", "model:teacher"}
    outputs = floor.run(["today rain"])
    assert (outputs.logits.dtype, outputs.embeddings.shape) == (np.float32, (1, 0))


def test_training_text_without_anything_to_learn(tmp_path):
    """Oracle: the messages, for one label and for text that holds no word."""
    with pytest.raises(DataError, match="bag-of-words cannot learn from training texts of one label"):
        fit(tmp_path / "one", ["rain today", "snow"], [1, 1])
    with pytest.raises(DataError, match="bag-of-words finds nothing to count"):
        fit(tmp_path / "two", ["!", "?"], [0, 1])


def test_a_floor_that_was_changed_does_not_open(tmp_path):
    """Oracle: the error names the file."""
    fit(tmp_path, *make_texts(40, seed=3))
    (tmp_path / "floors/bag-of-words/terms.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"terms\.json"):
        open_floor(tmp_path / "floors/bag-of-words")


def test_words_in_common_choose_a_response(tmp_path):
    """Oracle: scikit-learn's cosine of TF-IDF vectors, fitted on the training texts; a text alone is like nothing."""
    data = make_data(tmp_path / "data", "response-selection", count=3)
    out = tmp_path / "floor"
    out.mkdir()
    config = FloorConfig(kind="tf-idf")
    run_floor(config, data, tmp_path, out)
    request = Request(stage="floor", version=1, config=config.model_dump(mode="json"), inputs={})
    seal(out, kind="floor", request=request, lineage={}, facts={})
    floor = open_floor(out)
    assert floor.labels == ("relevance",)
    known = dict.fromkeys(text for row in read_split(data, "train") for text in (row.text, row.pair))
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(known)
    pairs = [(row.text, f"{row.text[:9]} {row.pair}") for row in read_split(data, "train")]
    first, second = (vectorizer.transform([pair[side] for pair in pairs]) for side in (0, 1))
    found = floor.run(pairs).logits
    assert found.shape == (len(pairs), 1)
    np.testing.assert_allclose(found[:, 0], np.diag(cosine_similarity(first, second)), atol=1e-6)
    assert found.max() > 0
    assert floor.run(["w1 w2"]).logits.tolist() == [[0.0]]
