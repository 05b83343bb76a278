"""Tiny models and data sets of every task, in the words of `export_models`, sealed as a pipeline would find them."""

import json
from pathlib import Path

import numpy as np
from export_models import make_model

from artifact.dataset import Answer, Example, write_dataset
from artifact.manifest import Request, seal
from export.config import ExportConfig, Parity
from export.run import run_export

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
HEADS = {
    "classification": ("classification", {"labels": 2}),
    "regression": ("classification", {"labels": 1, "problem_type": "regression"}),
    "token-classification": ("token-classification", {"labels": 5}),
    "question-answering": ("question-answering", {}),
    "response-selection": ("ranking", {}),
    "embedding": ("embedding", {}),
}
LABELS = {
    "classification": ("label_0", "label_1"),
    "regression": ("quantity",),
    "token-classification": TAGS,
    "question-answering": (),
    "response-selection": ("relevance",),
}
METRICS = {"classification": "f1", "token-classification": "span_f1"}


def make_words(random, count):
    return [f"w{number}" for number in random.integers(600, size=count)]


def tag(random):
    """Words with tags in the strict IOB2 scheme; one is longer than the model reads at once."""
    words = make_words(random, int(random.integers(3, 40)))
    ends = np.cumsum([len(word) + 1 for word in words])
    tags, last = [], 0
    for _ in words:
        last = int(random.choice([0, 1, 3, *([last if last in (2, 4) else last + 1] if last else [])]))
        tags.append(last)
    spans = tuple((int(end) - 1 - len(word), int(end) - 1) for word, end in zip(words, ends, strict=True))
    return Example(text=" ".join(words), words=spans, tags=tuple(tags), group=str(random.choice(["en", "da"])))


def ask(random):
    """A question whose answer is some words of the context, or that has none."""
    words = make_words(random, 30)
    first = int(random.integers(25))
    text = " ".join(words[first : first + 3])
    answers = () if random.random() < 0.3 else (Answer(start=len(" ".join(words[:first])) + (first > 0), text=text),)
    return Example(text=" ".join(make_words(random, 3)), pair=" ".join(words), answers=answers)


def choose(random):
    """A context and candidates, some of which stand under several."""
    candidates = (*(" ".join(make_words(random, 2)) for _ in range(12)), "w1 w2", "w3")
    label = -1 if random.random() < 0.3 else int(random.integers(len(candidates)))
    return Example(text=" ".join(make_words(random, 5)), candidates=candidates, label=label)


def compare(random):
    return Example(text=" ".join(make_words(random, 4)), pair=" ".join(make_words(random, 4)))


MAKERS = {
    "classification": lambda random: compare(random).model_copy(update={"label": int(random.integers(2))}),
    "regression": lambda random: compare(random).model_copy(update={"value": float(random.random())}),
    "token-classification": tag,
    "question-answering": ask,
    "response-selection": choose,
}


def make_examples(task, count, seed):
    random = np.random.default_rng(seed)
    return [MAKERS[task](random) for _ in range(count)]


def seal_directory(directory: Path, kind: str) -> Path:
    seal(directory, kind=kind, request=Request(stage=kind, version=1, config={}, inputs={}), lineage={}, facts={})
    return directory


def make_data(directory: Path, task: str, *, count: int = 40) -> Path:
    directory.mkdir(parents=True)
    train = make_examples(task, 30, 1)
    if task == "response-selection":
        train = [Example(text=each.text, pair=each.candidates[0], label=0) for each in train]
    splits = {"train": train, "validation": make_examples(task, 20, 2), "test": make_examples(task, count, 3)}
    write_dataset(directory, LABELS[task], splits, task=task, metric=METRICS.get(task))
    return seal_directory(directory, "dataset")


def make_trained(directory: Path, kind: str, name: str, **shape) -> Path:
    """A random model as training leaves it: the head of `kind`, labels as the data has them, a name and a limit."""
    head, about = HEADS[kind]
    make_model(directory, head, **about, **shape)
    labels = LABELS.get(kind, ())
    if labels:
        path = directory / "config.json"
        config = json.loads(path.read_text())
        config |= {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
        path.write_text(json.dumps(config))
    (directory / "understudy.json").write_text(json.dumps({"max_tokens": 24, "name": name}))
    return directory


FAST = ExportConfig(precisions=("float32",), parity=Parity(batch_sizes=(1, 3), lengths=(2, 9)), target="avx2")


def make_bundle(model: Path, out: Path, name: str) -> Path:
    out.mkdir(parents=True)
    run_export(model, out, FAST, name=name)
    return seal_directory(out, "bundle")
