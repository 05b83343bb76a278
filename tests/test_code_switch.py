"""Words replaced by their translations, and the lexicons they come from."""

import gzip
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifact.errors import DataError
from distill.batching import seeded
from distill.code_switch import Translations, code_switch, read_lexicon

LEXICON = {"light": Translations(("ضوء", "نور"), (3.0, 4.0)), "the": Translations(("ال",), (1.0,))}


def lexicon_lines() -> bytes:
    rows = [
        {"id": "0", "en": "light", "ar": "ضوء", "weight": 3, "dir": "both"},
        {"id": "1", "en": "light", "ar": "نور", "weight": 1, "dir": "en-ar"},
        {"id": "2", "en": "Lamp", "ar": "ضوء", "weight": 2, "dir": "ar-en"},
        {"id": "3", "en": "turn on", "ar": "شغل", "weight": 2, "dir": "both"},
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@settings(deadline=None)
@given(st.text(alphabet="ab  light\n.,-'", max_size=60), st.floats(0.01, 1), st.integers(0, 9))
def test_only_words_change(text, share, seed):
    """Oracle: the text with its words blanked out; identity without a lexicon; the same for the same seed."""
    lexicon = {"a": Translations(("b",), (1.0,)), "light": Translations(("b",), (1.0,))}
    changed = code_switch(text, lexicon, seeded(seed), 1.0, share)
    assert changed == code_switch(text, lexicon, seeded(seed), 1.0, share)
    assert [c for c in changed if c in " \n.,"] == [c for c in text if c in " \n.,"]
    assert code_switch(text, {}, seeded(seed), 1.0, share) == text


def test_everything_known_is_replaced_where_case_and_marks_do_not_matter():
    """Oracle: written out."""
    lexicon = {"light": Translations(("نور",), (1.0,)), "don't": Translations(("لا",), (1.0,))}
    text = "  The LIGHT, don't\tlights (Light)!"
    assert code_switch(text, lexicon, seeded(0), 1.0, 1.0) == "  The نور, لا\tlights (نور)!"


def test_vowel_marks_are_no_end_of_a_word_and_not_looked_up():
    """Oracle: written out: the same Arabic word with and without its vowels, and a combining accent."""
    lexicon = {"كتاب": Translations(("book",), (1.0,)), "e": Translations(("wrong",), (1.0,))}
    text = "كِتَابٌ e\u0301t كتاب!"
    assert code_switch(text, lexicon, seeded(0), 1.0, 1.0) == "book e\u0301t book!"


def test_the_share_of_words_and_texts_is_kept():
    """Oracle: counts over many draws; only known words are replaced, up to the share of all words."""
    text = "light the x light the x light the x light"
    counts = [
        sum(word not in text.split() for word in code_switch(text, LEXICON, seeded(i), 0.5, 0.35).split())
        for i in range(1000)
    ]
    assert set(counts) == {0, 3, 4}
    assert sum(count > 0 for count in counts) / 1000 == pytest.approx(0.5, abs=0.05)
    assert sum(counts) / sum(count > 0 for count in counts) == pytest.approx(3.5, abs=0.1)
    alone = sum(code_switch("light", LEXICON, seeded(i), 1.0, 0.3) != "light" for i in range(1000))
    assert alone / 1000 == pytest.approx(0.3, abs=0.05)


def test_translations_are_drawn_by_weight():
    """Oracle: shares of 3 to 1, over many draws."""
    drawn = Counter(code_switch("light", LEXICON, seeded(i), 1.0, 1.0) for i in range(1000))
    assert drawn["ضوء"] / 1000 == pytest.approx(0.75, abs=0.05)
    assert drawn.total() == drawn["ضوء"] + drawn["نور"]
    assert LEXICON["light"].draw(1.0 - 1e-16) == "نور"


def test_both_forms_of_a_lexicon_say_the_same(tmp_path):
    """Oracle: the entries, written out: each in its direction, no words of more than one part, equal ones summed."""
    (tmp_path / "words.jsonl").write_bytes(lexicon_lines())
    (tmp_path / "words.jsonl.gz").write_bytes(gzip.compress(lexicon_lines()))
    columns = "light\tضوء\t3\nضوء\tlight\t3\nLight\tنور\t0.5\nlight\tنور\t0.5\n\nضوء\tLamp\t2\n"
    columns += "turn on\tشغل\t2\nشغل\tturn on\t2\n"
    (tmp_path / "words.tsv").write_text(columns, "utf-8")
    expected = {
        "light": Translations(("ضوء", "نور"), (3.0, 4.0)),
        "ضوء": Translations(("light", "Lamp"), (3.0, 5.0)),
        "شغل": Translations(("turn on",), (2.0,)),
    }
    for name in ("words.jsonl", "words.jsonl.gz", "words.tsv"):
        assert read_lexicon(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.tsv",
            "light\tنور\t1\nlight\tنور\n",
            "a.tsv, line 2 has 2 columns, expected word<TAB>translation<TAB>weight",
        ),
        ("a.tsv", "light\t\t1\n", "line 1 has 3 columns, one of them empty"),
        ("a.tsv", "light\tنور\tmuch\n", "line 1 has weight 'much', expected a number above 0"),
        ("a.tsv", "light\tنور\t-1\n", "line 1 has weight '-1'"),
        ("a.tsv", "light\tنور\tnan\n", "line 1 has weight 'nan'"),
        ("a.tsv", "\n", "a.tsv has no words"),
        (
            "a.jsonl",
            '{"en": "light", "ar": "نور", "weight": 1, "dir": "en-fr"}\n',
            "line 1 has dir 'en-fr', expected one",
        ),
        ("a.jsonl", '{"en": "light", "ar": "نور", "dir": "both"}\n', "line 1 has weight None"),
        ("a.jsonl", '{"en": "light", "weight": 1, "dir": "both"}\n', "line 1 has words in en, expected two languages"),
        ("a.jsonl", "light\n", "line 1 is not JSON"),
    ],
)
def test_a_lexicon_that_cannot_be_read_names_the_line(tmp_path, name, content, message):
    """Oracle: the message a user reads."""
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=message):
        read_lexicon(tmp_path / name)


def test_a_lexicon_that_is_not_there_or_not_text(tmp_path):
    """Oracle: the message a user reads."""
    with pytest.raises(DataError, match=r"there is no lexicon .*none.tsv"):
        read_lexicon(tmp_path / "none.tsv")
    (tmp_path / "a.tsv").write_bytes("é\tè\t1\n".encode("latin-1"))
    with pytest.raises(DataError, match="line 1 is not UTF-8"):
        read_lexicon(tmp_path / "a.tsv")
