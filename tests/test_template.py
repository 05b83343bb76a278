"""The template syntax of a grammar, and the noise on what a template stands for."""

import random
import re

import pytest

from pipeline.noise import contract, drop_words, misspell
from pipeline.template import expand, parse_template, pick


def expansions(template, **slots):
    parsed = parse_template(template)
    return {expand(parsed, slots, random.Random(seed)) for seed in range(200)}


@pytest.mark.parametrize(
    ("template", "texts"),
    [
        ("pay it", {"pay it"}),
        ("pay (all of )it", {"pay it", "pay all of it"}),
        ("pay [this|that]", {"pay this", "pay that"}),
        ("pay [now|]!", {"pay now!", "pay!"}),
        ("pay the {bill} bill", {"pay the gas bill", "pay the water bill"}),
        ("[a|[b|c] (d)]", {"a", "b", "c", "b d", "c d"}),
        ("([pay {bill}|wait] )now", {"now", "pay gas now", "pay water now", "wait now"}),
        ("  pay   it  ", {"pay it"}),
        ("well (then) , [yes|no]?", {"well, yes?", "well, no?", "well then, yes?", "well then, no?"}),
    ],
)
def test_a_template_stands_for_these_texts(template, texts):
    """Oracle: the texts written out by hand."""
    assert expansions(template, bill=("gas", "water")) == texts


def test_a_slot_that_stands_twice_is_drawn_twice():
    """Oracle: the four pairs written out."""
    assert expansions("{x} {x}", x=("a", "b")) == {"a a", "a b", "b a", "b b"}


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("", "not empty"),
        ("pay [now", "'[' at character 5 needs ']', but the end comes first"),
        ("pay (now", "'(' at character 5 needs ')', but the end comes first"),
        ("pay [now)", "'[' at character 5 needs ']', but ')' at character 9 comes first"),
        ("pay (now|later)", "'(' at character 5 needs ')', but '|' at character 9 comes first"),
        ("pay now]", "']' at character 8 stands outside brackets"),
        ("pay now|later", "'|' at character 8 stands outside brackets"),
        ("pay {}", "'{' at character 5 needs the name of a slot"),
        ("pay {my bill}", "'{' at character 5 needs the name of a slot"),
        ("pay {[bill]}", "'{' at character 5 needs the name of a slot"),
        ({"pay": "now"}, "a template is a text"),
    ],
)
def test_a_broken_template_says_where(template, fault):
    """Oracle: the character counted by hand."""
    with pytest.raises(ValueError, match=re.escape(fault)):
        parse_template(template)


def test_slots_of_a_template_are_found_at_every_depth():
    """Oracle: the names read off the template."""
    assert parse_template("{a} (b [c|{d} ({e})])").slots() == {"a", "d", "e"}


def test_pick_reaches_every_item_and_none_beyond():
    """Oracle: the items themselves."""
    rng = random.Random(1)
    assert {pick("abc", rng) for _ in range(100)} == set("abc")


def test_a_contraction_needs_a_word_after_it():
    """Oracle: English: "what it is" has no short form at its end."""
    forms = {"what is": "what's", "it is": "it's"}
    assert contract("what is it and what it is", forms) == "what's it and what it is"
    assert contract("somewhat is not what is", forms) == "somewhat is not what is"


def test_a_telegram_leaves_small_words_out_but_never_all():
    """Oracle: the texts written by hand."""
    assert drop_words("Is the gas bill due?", ["is", "the"]) == "gas bill due?"
    assert drop_words("is the", ["is", "the"]) == "is the"


def test_misspellings_come_at_the_stated_rate():
    """Oracle: the rate; of 80,000 letters behind the first, one in fifty slips, give or take five deviations."""
    text = " ".join(["letters"] * 100)
    slipped = sum(
        typed != "letters" for seed in range(100) for typed in misspell(text, 0.02, random.Random(seed)).split()
    )
    assert slipped == pytest.approx(100 * 100 * (1 - 0.98**6), abs=5 * (10000 * 0.1) ** 0.5)


def test_no_chance_of_a_slip_leaves_the_text_alone():
    """Oracle: an identity; and at full chance no letter that opens a word is touched unless swapped."""
    assert misspell("Pay the gas bill at 9:30", 0.0, random.Random(1)) == "Pay the gas bill at 9:30"
    assert misspell("9:30 é", 1.0, random.Random(1)) == "9:30 é"
