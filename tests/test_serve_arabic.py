"""Arabic at `/tag`, through an exported bundle with a joint vocabulary: the characters of each word as it was typed."""

import functools
import json
import unicodedata

import pytest
from export_models import make_model
from serve_client import open_client

from artifact.manifest import Request, seal
from distill.config_vocabularies import TrainedVocabulary
from distill.vocabulary_training import train_vocabulary
from export.bundle import FILES, write_bundle
from export.graph import export_graph
from export.source import load_source
from serve.config import ServiceConfig
from serve.http.app import create_app
from serve.runtime import Runtime

LEARNT = ["قال المعلم إن الكتاب الآن جديد", "يسكن توم في القاهرة أو لندن", "Tom lives in London, works with Power BI"]
PARTS = ("NOUN", "VERB", "ADP")
"""Labels without an `O`: every word is a span."""

WORDS = {
    "plain": ["قال", "المعلم", "إن", "الكتاب", "جديد"],
    "vowel marks": ["قَالَ", "المُعَلِّمُ", "إنَّ", "الكِتَابَ", "جَدِيدٌ"],
    "hamza and madda typed apart": [unicodedata.normalize("NFD", word) for word in ("إنّ", "الآنَ", "أو")],
    "lengthened": ["قـــال", "المعلمـ", "الكـتـاب"],
    "both directions": ["يسكن", "Tom", "في", "London"],
    "letters it has never seen": ["ظَلَّ", "ڤيينا", "قال"],
}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A random transformer, with the vocabulary that the bilingual recipes train, exported and served."""
    folder = tmp_path_factory.mktemp("arabic")
    config = TrainedVocabulary(size=250, min_count=1, character_coverage=1.0, lowercase=True, strip_arabic_marks=True)
    tokenizer, _ = train_vocabulary(config, {"texts": functools.partial(iter, LEARNT * 3)})
    model = make_model(folder / "model", "token-classification", labels=len(PARTS), vocab_size=len(tokenizer))
    tokenizer.model_max_length = 40
    tokenizer.save_pretrained(model)
    names = {"id2label": dict(enumerate(PARTS)), "label2id": {part: place for place, part in enumerate(PARTS)}}
    (model / "config.json").write_text(json.dumps(json.loads((model / "config.json").read_text()) | names))
    source, out = load_source(model), folder / "bundle"
    (out / "onnx").mkdir(parents=True)
    export_graph(source, out / FILES["float32"], opset=17)
    write_bundle(out, source, name="student", precisions=("float32",))
    seal(out, kind="bundle", request=Request(stage="export", version=1, config={}, inputs={}), lineage={}, facts={})
    engine = Runtime.open(out, threads=1)
    with open_client(create_app({engine.name: engine}, engine.name, ServiceConfig())) as opened:
        yield opened


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS.keys())
def test_a_span_is_the_word_as_it_was_typed(client, words):
    """Oracle: the words that the text was joined from, with every mark, and where they stand in it."""
    text = " ".join(words)
    spans = client.post("/tag", {"inputs": text}).json()
    assert [span["text"] for span in spans] == words
    assert [text[span["start"] : span["end"]] for span in spans] == words


def test_marks_of_punctuation_are_spans_of_their_own(client):
    """Oracle: by hand; the Arabic comma and question mark belong to no word."""
    spans = client.post("/tag", {"inputs": "أينَ الكِتَابُ، يا توم؟"}).json()
    assert [span["text"] for span in spans] == ["أينَ", "الكِتَابُ", "،", "يا", "توم", "؟"]


def test_vowel_marks_change_no_label(client):
    """Oracle: the same sentence without them; its labels and scores, word by word."""
    plain, marked = (client.post("/tag", {"inputs": " ".join(WORDS[name])}).json() for name in ("plain", "vowel marks"))
    assert [(span["label"], span["score"]) for span in plain] == [(span["label"], span["score"]) for span in marked]
