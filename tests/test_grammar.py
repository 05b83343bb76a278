"""The data set that the project's own grammar generates, and what a grammar that cannot yield one says."""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from artifact.errors import ConfigError, DataError
from pipeline.grammar import generate, load_grammar

INTENTS = Path(__file__).parents[1] / "recipes/data/intents.yaml"
SEED_1 = "d57645b5c9b20c387b069d37e1a3c3a05a6b01e42a9d807df88d769846ffee72"


@pytest.fixture(scope="module")
def generated():
    return generate(INTENTS, seed=1)


@pytest.fixture(scope="module")
def grammar():
    return load_grammar(INTENTS)


def digest(rows):
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def fold(text):
    return " ".join(text.casefold().split())


def test_seed_1_generates_the_recorded_bytes(generated):
    """Oracle: a recorded digest. A change of the grammar changes it on purpose: record the new one."""
    assert digest(generated) == SEED_1


def test_the_seed_alone_decides(generated):
    """Oracle: an identity between two runs, and a difference between two seeds."""
    assert generate(INTENTS, seed=1) == generated
    assert digest(generate(INTENTS, seed=2)) != digest(generated)


def test_sizes_are_those_asked_for(generated):
    """Oracle: the figures in intents.yaml, and the four thousand that the demo promises."""
    sizes = yaml.safe_load(INTENTS.read_text(encoding="utf-8"))["sizes"]
    assert {split: len(rows) for split, rows in generated.items()} == sizes
    assert sizes["train"] + sizes["validation"] + sizes["test"] >= 4000
    assert sizes["out_of_domain"] >= 400


def test_intents_and_domains_are_enough_and_balanced(generated, grammar):
    """Oracle: the counts themselves; each intent has its share of a split, give or take one."""
    labels = {label for domain in grammar.domains for label in domain.intents}
    assert len(grammar.domains) >= 6
    assert len(labels) >= 24
    for split in ("train", "validation", "test"):
        counts = Counter(label for _, label in generated[split])
        assert counts.keys() == labels
        assert max(counts.values()) - min(counts.values()) <= 1
    assert {label for _, label in generated["out_of_domain"]} == {"out_of_domain"}


def test_no_text_stands_twice_in_or_across_splits(generated):
    """Oracle: a set of the texts, case and white space folded."""
    texts = [fold(text) for rows in generated.values() for text, _ in rows]
    assert len(set(texts)) == len(texts)


def test_no_test_template_is_one_of_training(grammar):
    """Oracle: the templates of each split, compared as sets."""
    templates = {split: set() for split in ("train", "validation", "test", "out_of_domain")}
    for source in grammar.sources:
        templates[source.split] |= {fold(template.text) for template in source.templates}
    assert not templates["test"] & (templates["train"] | templates["validation"])
    assert not templates["validation"] & templates["train"]
    assert not templates["out_of_domain"] & (templates["train"] | templates["validation"] | templates["test"])


def test_training_never_sees_the_unseen_values(generated):
    """Oracle: three values that stand under `unseen` only, looked for in the texts."""
    for value in ("nairobi", "broadband", "moussaka"):
        found = {split for split, rows in generated.items() for text, _ in rows if value in text.casefold()}
        assert found == {"test"}


def small_grammar(folder, index=(), part=(), other=()):
    """A grammar of two intents without noise; the pairs replace top-level keys of its three files."""
    quiet = {"chance": 0, "seen": ["x"]}
    style = {
        "contraction": {"chance": 0, "forms": {}},
        "telegraphic": {"chance": 0, "dropped": []},
        **dict.fromkeys(("no_question_mark", "typo", "lower_case", "upper_case"), 0),
        "opener": quiet,
        "closer": quiet,
    }
    sizes = {"train": 4, "validation": 2, "test": 2, "out_of_domain": 2}
    first = {"sizes": sizes, "parts": ["part.yaml"], "out_of_domain": "other.yaml", "style": style}
    files = {
        "intents.yaml": {**first, **dict(index)},
        "part.yaml": {"domain": "home", "intents": {"on": intent("on"), "off": intent("off")}, **dict(part)},
        "other.yaml": {"templates": ["[one|two] things"], **dict(other)},
    }
    for name, tree in files.items():
        (folder / name).write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return folder / "intents.yaml"


def intent(word, **splits):
    return {split: [f"{split} [a|b|c] {word}"] for split in ("train", "validation", "test")} | splits


def test_a_small_grammar_yields_just_what_it_says(tmp_path):
    """Oracle: the three texts that each template stands for, without noise but for the capital."""
    rows = generate(small_grammar(tmp_path), seed=1)
    assert [len(rows[split]) for split in ("train", "validation", "test", "out_of_domain")] == [4, 2, 2, 2]
    assert all(re.fullmatch(rf"Train [abc] {label}", text) for text, label in rows["train"])
    assert sorted(rows["out_of_domain"]) == [("One things", "out_of_domain"), ("Two things", "out_of_domain")]


def test_too_few_utterances_name_the_intents_and_what_they_yield(tmp_path):
    """Oracle: the expansions counted by hand: three of `train`, asked for five."""
    path = small_grammar(tmp_path, {"sizes": {"train": 10, "validation": 2, "test": 2, "out_of_domain": 3}})
    with pytest.raises(DataError) as caught:
        generate(path, seed=1)
    assert "on, train: 3 of 5\n  off, train: 3 of 5\n  out_of_domain, out_of_domain: 2 of 3" in str(caught.value)
    assert "add templates" in caught.value.hint


def test_texts_that_differ_by_noise_alone_count_once(tmp_path):
    """Oracle: the one text that the template stands for, however it is typed."""
    path = small_grammar(tmp_path, part={"intents": {"on": intent("on", train=["switch the light on"])}})
    with pytest.raises(DataError, match="on, train: 1 of 4"):
        generate(path, seed=1)


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ({"intents": {"on": intent("on", test=["a {lamp}"])}}, "on, test: no slot 'lamp', asked for by 'a {lamp}'"),
        ({"intents": {"on": intent("on", test=["train [a|b|c] on"])}}, "on, test: the template 'train [a|b|c] on'"),
        ({"intents": {"on": intent("on"), "off": intent("on")}}, "off, train: the template"),
        ({"intents": {"on": intent("on", train=["a", "a"])}}, "the template 'a' already stands under on, train"),
        ({"intents": {"out_of_domain": intent("on")}}, "intent out_of_domain: its name is taken"),
        ({"intents": {"on": intent("on", test=[])}}, "intents.on.test: Tuple should have at least 1 item"),
        ({"intents": {"on": {"train": ["a"], "test": ["b"]}}}, "intents.on.validation: Field required"),
        ({"intents": {"on": intent("on", test=["b [c"])}}, "intents.on.test.0: '[' at character 3"),
        ({"intents": {}}, "intents: Dictionary should have at least 1 item"),
        ({"slots": {"lamp": {"seen": []}}}, "slots.lamp.seen: Tuple should have at least 1 item"),
        ({"slot": {}}, "slot: unknown key (did you mean 'slots'?)"),
    ],
)
def test_a_grammar_that_does_not_fit_together_names_its_fault(tmp_path, part, fault):
    """Oracle: the fault put in by hand, and the words that a user needs to find it."""
    with pytest.raises(ConfigError, match=re.escape(fault)):
        generate(small_grammar(tmp_path, part=part), seed=1)


def test_every_fault_is_told_at_once(tmp_path):
    """Oracle: the two faults put in by hand."""
    intents = {"on": intent("on", train=["the {lamp}"], test=["a {door}"])}
    with pytest.raises(ConfigError, match=r"(?s)no slot 'lamp'.*no slot 'door'"):
        load_grammar(small_grammar(tmp_path, part={"intents": intents}))


def test_a_missing_part_is_named(tmp_path):
    """Oracle: the name given."""
    with pytest.raises(ConfigError, match=r"there is no file .*garden\.yaml"):
        load_grammar(small_grammar(tmp_path, {"parts": ["garden.yaml"]}))
