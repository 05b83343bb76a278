"""The bag-of-words floor learns what words can tell, and nothing else."""

import random
from collections import Counter
from pathlib import Path

from pipeline.baseline import bag_of_words
from pipeline.grammar import generate

WORDS = (("rain", "snow", "storm"), ("bread", "soup", "salad"), ("goal", "match", "referee"))
FILLER = ("today", "perhaps", "again", "we", "talked", "about", "some")


def texts(count, seed):
    rng = random.Random(seed)
    labels = [rng.randrange(len(WORDS)) for _ in range(count)]
    return [f"{rng.choice(FILLER)} {rng.choice(WORDS[label])} {rng.choice(FILLER)}" for label in labels], labels


def test_words_that_name_the_class_are_enough():
    """Oracle: how the texts were made; each holds one word that only its class uses."""
    train, labels = texts(90, seed=1)
    test, expected = texts(60, seed=2)
    assert bag_of_words(train, labels, test, seed=1) == expected


def test_beats_the_majority_on_the_project_data():
    """Oracle: the share of the most frequent class in the test split."""
    generated = generate(Path(__file__).parents[1] / "recipes/data/intents.yaml", seed=1)
    names = sorted({label for _, label in generated["train"]})[:8]
    train, test = ([row for row in generated[split] if row[1] in names] for split in ("train", "test"))
    train = train[::4]
    predicted = bag_of_words([t for t, _ in train], [names.index(n) for _, n in train], [t for t, _ in test], seed=1)
    right = sum(names[label] == name for label, (_, name) in zip(predicted, test, strict=True))
    assert right > 3 * max(Counter(name for _, name in test).values())


def test_same_input_gives_the_same_predictions():
    """Oracle: an identity, between two calls."""
    train, labels = texts(40, seed=3)
    test, _ = texts(200, seed=4)
    assert bag_of_words(train, labels, test, seed=7) == bag_of_words(train, labels, test, seed=7)


def test_labels_keep_their_numbers():
    """Oracle: a training set whose labels are neither adjacent nor ordered; pieces of words catch the misspelling."""
    train, labels = ["water bill", "gas bill", "loud music", "piano music"], [7, 7, 3, 3]
    assert bag_of_words(train, labels, ["a watter bil", "musik"], seed=1) == [7, 3]
