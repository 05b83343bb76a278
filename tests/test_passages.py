"""Spans, windows and answers as pure functions, against brute force and the text as it was sent."""

import itertools
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from serve_bundles import make_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from serve.engine import softmax
from serve.passages.alignment import align, extends, whole
from serve.passages.answers import find_answers
from serve.passages.passage import Passage
from serve.passages.reading import join
from serve.passages.spans import find_spans, list_tokens
from serve.passages.windows import cut_windows, open_windows, share_out
from serve.tokens import read_passages

fixed = settings(derandomize=True, deadline=None, database=None)
SIZES = st.integers(1, 200)


def make_byte_tokenizer(*, trim: bool) -> Tokenizer:
    """As RoBERTa's, without any merge: every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.RobertaProcessing(("!", 0), ('"', 1), trim_offsets=trim)
    return tokenizer


def make_sentencepiece_tokenizer() -> Tokenizer:
    """As XLM-R's: compatibility forms spelled out, spaces a part of tokens."""
    letters = "\u2581abcdefi1/2.日本ا" + "\u0301"
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *((letter, -1.0) for letter in letters)], unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


TOKENIZERS = {
    "wordpiece": make_tokenizer(),
    "bytes": make_byte_tokenizer(trim=True),
    "bytes, spaces kept": make_byte_tokenizer(trim=False),
    "sentencepiece": make_sentencepiece_tokenizer(),
}
WORDS = {
    "me at seven": ["me", "at", "seven"],
    "  me\t\nat  ": ["me", "at"],
    "cafe\u0301 caf\u00e9 cafe\u0301": ["cafe\u0301", "caf\u00e9", "cafe\u0301"],
    "\u1e69\u0323x s\u0323\u0307 a": ["\u1e69\u0323x", "s\u0323\u0307", "a"],
    "\ufb01ne \u00bd a": ["\ufb01ne", "\u00bd", "a"],
    "\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627 \u0639\u0627\u0644\u0645": [
        "\u0645\u064e\u0631\u0652\u062d\u064e\u0628\u064b\u0627",
        "\u0639\u0627\u0644\u0645",
    ],
    "\u0939\u093f\u0928\u094d\u0926\u0940 a": ["\u0939\u093f\u0928\u094d\u0926\u0940", "a"],
    "\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd me": ["\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "me"],
    "\u0130 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645": [
        "\u0130",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    ],
}
"""Texts, and what stands between their spaces."""


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("text", WORDS)
def test_words_are_slices_of_the_original(name, text):
    """Oracle: the words between spaces, written out, whatever normalizer and tokenizer made of them."""
    ((passage,), _) = read_passages(TOKENIZERS[name], [text])
    spans = find_spans(passage, np.zeros((len(passage.body), 1), dtype=np.float32), ["word"])
    found = [text[span.start : span.stop] for span in spans]
    assert found == WORDS[text]


@pytest.mark.parametrize("name", TOKENIZERS)
@fixed
@given(
    text=st.text(
        st.one_of(st.characters(), st.sampled_from(" \u0301\u200d\ufe0fae\U0001f3fd\ufb01\ud800")), max_size=25
    )
)
def test_words_of_any_text(name, text):
    """Oracle: the text: words come in order, never overlap, hold something to see, and cut through no character."""
    ((passage,), _) = read_passages(TOKENIZERS[name], [text])
    assert passage.text == text
    assert len(passage.starts) == len(passage.stops) == len(passage.words) == len(passage.body)
    assert set(np.diff(passage.words, prepend=-1)) <= {0, 1}
    spans = find_spans(passage, np.zeros((len(passage.body), 1), dtype=np.float32), ["word"])
    for left, right in itertools.pairwise(spans):
        assert left.stop <= right.start
    for span in spans:
        assert 0 <= span.start < span.stop <= len(text)
        assert text[span.start : span.stop].strip()
        assert span.start == 0 or not extends(text, span.start)
        assert span.stop == len(text) or not extends(text, span.stop)


def test_the_second_of_a_pair():
    """Oracle: by hand: places in the context, and the question among what stands around it."""
    ((passage,), _) = read_passages(TOKENIZERS["wordpiece"], [("wake me", "at \u00e9 seven")])
    assert (passage.body, passage.around, passage.opened) == (range(4, 7), 5, True)
    assert [passage.text[a:b] for a, b in zip(passage.starts, passage.stops, strict=True)] == ["at", "\u00e9", "seven"]
    assert passage.type_ids == [0, 0, 0, 0, 1, 1, 1, 1]
    ((empty,), _) = read_passages(TOKENIZERS["wordpiece"], [("wake me", " ")])
    assert (len(empty.body), empty.around) == (0, 5)


def test_whole_characters():
    """Oracle: by hand."""
    text = "cafe\u0301s \U0001f469\u200d\U0001f467!"
    assert whole(text, 0, 4) == (0, 5)
    assert whole(text, 4, 6) == (3, 6)
    assert whole(text, 7, 8) == (7, 10)
    assert whole(text, 9, 10) == (7, 10)
    assert whole(text, 0, 2) == (0, 2)


@fixed
@given(length=st.integers(0, 300), room=SIZES, overlap=st.integers(0, 199))
@example(length=0, room=1, overlap=0)
@example(length=300, room=2, overlap=1)
def test_windows_cover(length, room, overlap):
    """Oracle: by brute force: every run of `overlap + 1` tokens stands in one window; no fewer windows would do."""
    overlap = min(overlap, room - 1)
    windows = cut_windows(length, room, overlap)
    assert sorted({token for window in windows for token in window}) == list(range(length))
    assert len({len(window) for window in windows}) == 1
    assert all(len(window) <= room for window in windows)
    for first in range(length - overlap):
        assert any(first in window and first + overlap in window for window in windows)
    if len(windows) > 1:
        assert room + (len(windows) - 2) * (room - overlap) < length


@fixed
@given(length=st.integers(1, 300), room=SIZES, overlap=st.integers(0, 199))
def test_each_token_is_taken_once_and_from_the_best_window(length, room, overlap):
    """Oracle: by brute force, the distance of every token to the edges of every window that holds it."""
    windows = cut_windows(length, room, min(overlap, room // 2, room - 1))
    shares = share_out(windows)
    assert [token for share in shares for token in share] == list(range(length))
    for window, share in zip(windows, shares, strict=True):
        for token in share:
            assert depth(token, window, length) == max(depth(token, each, length) for each in windows)


def depth(token: int, window: range, length: int) -> float:
    if token not in window:
        return -1
    edges = [token - window.start] * (window.start > 0) + [window.stop - 1 - token] * (window.stop < length)
    return min(edges, default=np.inf)


def make_passage(tokens: int, *, before: int = 1, after: int = 1, opened: bool = True) -> Passage:
    """Words of one letter, each one token."""
    total = before + tokens + after
    return Passage(
        text="abcdefghij"[:tokens] if tokens <= 10 else "a" * tokens,
        ids=list(range(total)),
        type_ids=[0] * before + [1] * (tokens + after),
        body=range(before, before + tokens),
        starts=list(range(tokens)),
        stops=list(range(1, tokens + 1)),
        words=list(range(tokens)),
        opened=opened,
    )


@fixed
@given(tokens=st.integers(0, 60), before=st.integers(1, 6), after=st.integers(0, 3), most=st.integers(12, 30))
def test_windows_hold_what_stands_around(tokens, before, after, most):
    """Oracle: the tokens themselves; joined again, what each window says of its own is what was said of the whole."""
    passage = make_passage(tokens, before=before, after=after)
    windows = open_windows(passage, most, most // 4)
    for window in windows:
        assert len(window) == len(window.type_ids) <= most
        assert list(window.ids[:before]) == list(range(before))
        assert list(window.ids[len(window) - after :]) == passage.ids[len(passage.ids) - after :]
        inner = [number - before for number in window.ids[before : len(window) - after]]
        assert inner == list(window.part)
    said = [np.array(window.ids, dtype=np.float32)[:, None] for window in windows]
    assert join(windows, said)[:, 0].tolist() == passage.ids[before : before + tokens]


def test_the_head_of_a_passage():
    """Oracle: a passage of so many tokens, made by itself, with the same end."""
    head, short = make_passage(8).head(3), make_passage(3)
    assert (head.ids, head.body, head.words) == ([0, 1, 2, 3, 9], short.body, short.words)
    assert make_passage(3).head(8) == short


def logits_of(columns: list[int], labels: int) -> np.ndarray:
    return np.eye(labels, dtype=np.float32)[columns] * 4


LABELS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "VERB"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([0, 0, 0], []),
        ([1, 2, 2], [("PER", 0, 3)]),
        ([1, 1, 2], [("PER", 0, 1), ("PER", 1, 3)]),
        ([2, 2, 0], [("PER", 0, 2)]),
        ([1, 4, 4], [("PER", 0, 1), ("ORG", 1, 3)]),
        ([1, 0, 2], [("PER", 0, 1), ("PER", 2, 3)]),
        ([5, 5, 2], [("VERB", 0, 1), ("VERB", 1, 2), ("PER", 2, 3)]),
    ],
)
def test_labels_become_spans(columns, expected):
    """Oracle: by hand."""
    passage = make_passage(3)
    spans = find_spans(passage, logits_of(columns, len(LABELS)), LABELS)
    assert [(span.label, span.start, span.stop) for span in spans] == expected
    certain = softmax(logits_of([0], len(LABELS)))[0, 0]
    assert all(span.score == pytest.approx(certain) for span in spans)
    shown = list_tokens(passage, logits_of(columns, len(LABELS)), LABELS)
    assert [span.label for span in shown] == [LABELS[column] for column in columns]


def test_a_word_has_the_label_of_its_first_token():
    """Oracle: by hand; the score of several words is their mean."""
    ((passage,), _) = read_passages(TOKENIZERS["wordpiece"], ["jazzy me zap"])
    assert list(passage.words) == [0, 0, 1, 2, 2, 2]
    logits = logits_of([1, 0, 2, 0, 1, 1], len(LABELS))
    logits[2] *= 2
    (span,) = find_spans(passage, logits, LABELS)
    assert (span.label, span.start, span.stop) == ("PER", 0, 8)
    assert span.score == pytest.approx((softmax(logits)[0, 1] + softmax(logits)[2, 2]) / 2)


def test_unknown_characters_join_no_words():
    """Oracle: by hand; an ellipsis that is spelled out as three dots stays one word."""
    ((passage,), _) = read_passages(TOKENIZERS["sentencepiece"], ["a\u2026 b"])
    spans = find_spans(passage, np.zeros((len(passage.body), 1), dtype=np.float32), ["x"])
    assert [passage.text[span.start : span.stop] for span in spans] == ["a\u2026", "b"]


@fixed
@given(
    tokens=st.integers(0, 10),
    max_tokens=st.integers(6, 14),
    most=st.integers(1, 12),
    count=st.integers(1, 60),
    seed=st.integers(0, 999),
    opened=st.booleans(),
    coarse=st.booleans(),
)
@example(tokens=0, max_tokens=8, most=1, count=3, seed=0, opened=False, coarse=False)
@example(tokens=10, max_tokens=6, most=3, count=60, seed=1, opened=True, coarse=True)
def test_answers_by_brute_force(*, tokens, max_tokens, most, count, seed, opened, coarse):
    """Oracle: every span of every window, in plain loops; the empty answer by its least sum over the windows."""
    passage = make_passage(tokens, before=2, after=1, opened=opened)
    windows = open_windows(passage, max_tokens, max(max_tokens // 4, most - 1))
    random = np.random.default_rng(seed)
    starts, ends = (
        [random.normal(size=len(window)).round(0 if coarse else 9).astype(np.float32) * 3 for window in windows]
        for _ in range(2)
    )
    sums: dict[tuple[int, int], float] = {}
    for window, start, end in zip(windows, starts, ends, strict=True):
        for first, last in itertools.product(window.part, window.part):
            if first <= last < first + most:
                offset = window.before - window.part.start
                total = float(start[first + offset]) + float(end[last + offset])
                sums[first, last + 1] = max(sums.get((first, last + 1), -np.inf), total)
    if opened:
        sums[0, 0] = min(float(start[0]) + float(end[0]) for start, end in zip(starts, ends, strict=True))
    # Of equal sums, the span that begins first, then the shortest, and last of all the empty one.
    ranked = sorted(sums, key=lambda place: (-sums[place], place == (0, 0), place)) or [(0, 0)]
    found, nothing = find_answers(passage, windows, starts, ends, count=count, most_tokens=most)
    assert [(each.start, each.stop) for each in found] == ranked[:count]
    total = sum(np.exp(logit) for logit in sums.values()) or 1.0
    np.testing.assert_allclose(
        [each.score for each in found], [np.exp(sums.get(place, 0)) / total for place in ranked[:count]]
    )
    expected = np.exp(sums[0, 0]) / total if opened else float(not sums)
    assert nothing == pytest.approx(expected)


def test_answers_are_whole_characters():
    """Oracle: by hand: an accent that the normalizer stripped belongs to the answer, and each counts once."""
    text = "cafe\u0301 me"
    ((passage,), _) = read_passages(TOKENIZERS["wordpiece"], [("wake", text)])
    windows = open_windows(passage, 32, 8)
    start = np.zeros(len(passage.ids), dtype=np.float32)
    end = start.copy()
    start[passage.body.start], end[passage.body.start + 3] = 5, 5
    (best, *others), _ = find_answers(passage, windows, [start], [end], count=99, most_tokens=9)
    assert text[best.start : best.stop] == "cafe\u0301"
    places = [(each.start, each.stop) for each in (best, *others)]
    assert len(places) == len(set(places))
    assert unicodedata.combining(text[best.stop - 1])


def test_align_of_nothing():
    """Oracle: by hand."""
    for name, tokenizer in TOKENIZERS.items():
        passage = align("", tokenizer.encode(""))
        assert len(passage.body) == len(passage.starts) == 0 or name.startswith("bytes")
        assert find_spans(passage, np.zeros((len(passage.body), 2), dtype=np.float32), ["O", "a"]) == []
