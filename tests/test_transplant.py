"""A model under another vocabulary: alignment against Model 1 longhand, and embeddings against their definitions."""

import functools
import json
import unicodedata
from collections import defaultdict
from math import sqrt

import numpy as np
import pytest
import torch
from tiny_models import make_bert, make_tokenizer
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

from artifact.errors import ModelError
from distill.alignment import ITERATIONS, LONGEST, Links, align
from distill.config_corpora import CorpusConfig
from distill.config_starts import Transplant
from distill.config_vocabularies import TrainedVocabulary
from distill.transplant import SPELLING_COUNT, embeddings_for, transplant
from distill.vocabulary_training import train_vocabulary

NO_LINKS = align([])
LEXICON = {"light": "نور", "kitchen": "مطبخ", "music": "موسيقى", "stop": "قف", "time": "وقت", "play": "شغل"}


def new_tokenizer(*texts: str, **fields) -> PreTrainedTokenizerFast:
    config = TrainedVocabulary(size=300, min_count=1, character_coverage=1.0, lowercase=True, **fields)
    return train_vocabulary(config, {"texts": functools.partial(iter, texts * 3)})[0]


def longhand(pairs):
    """Brown et al. (1993), section 4.3: expected counts of the last of so many rounds, from a uniform start."""
    chance = defaultdict(lambda: 1.0)
    for _ in range(ITERATIONS):
        counts, totals = defaultdict(float), defaultdict(float)
        for makers, made, weight in pairs:
            for piece in made:
                whole = sum(chance[piece, maker] for maker in makers)
                for maker in makers:
                    counts[piece, maker] += weight * chance[piece, maker] / whole
        for (_, maker), count in counts.items():
            totals[maker] += count
        chance = defaultdict(float, {key: count / totals[key[1]] for key, count in counts.items()})
    return counts


def test_links_are_model_1_in_both_directions():
    """Oracle: the equations longhand, with pieces that stand twice, and weights."""
    pairs = [([1, 2, 2], [7, 8], 1.0), ([1, 3], [7, 9, 9], 0.5), ([2], [8], 2.0), ([3, 1, 4], [9, 5, 7], 1.0)]
    made = longhand(pairs)
    found = longhand([(new, old, weight) for old, new, weight in pairs])
    links = align([*pairs, ([], [1], 1.0), (range(LONGEST + 1), [1], 1.0)])
    got = {(new, old): count for new, old, count in zip(links.new, links.old, links.count, strict=True)}
    assert got.keys() == made.keys()
    for (new, old), count in got.items():
        assert count == pytest.approx(sqrt(made[new, old] * found[old, new]))


def test_words_that_only_their_translations_explain_are_found():
    """Oracle: the dictionary that the texts were made with."""
    generator = np.random.default_rng(0)
    texts = [generator.permutation(12)[:5] for _ in range(200)]
    links = align([(text.tolist(), (100 + generator.permutation(text)).tolist(), 1.0) for text in texts])
    for word in range(12):
        mine = links.new == 100 + word
        assert links.old[mine][links.count[mine].argmax()] == word


def test_pieces_of_both_vocabularies_read_as_before():
    """Oracle: the old model on the old tokenizer's ids, to the bit."""
    old, model = make_tokenizer(), make_bert()
    new = new_tokenizer("turn on the light please", "نور في المطبخ")
    text = "turn on the light please"
    before = model.base_model(**old(text, return_tensors="pt")).last_hidden_state
    facts = transplant(model, old=old, new=new, config=start(), corpora={})
    ids = new(text, return_tensors="pt")
    assert new.convert_ids_to_tokens(ids["input_ids"][0]) == old.convert_ids_to_tokens(old(text)["input_ids"])
    assert torch.equal(model.base_model(**ids).last_hidden_state, before)
    assert facts["copied"] >= 10
    assert sum(facts.values()) == len(new) == model.config.vocab_size


def start(**fields) -> Transplant:
    return Transplant(kind="transplant", source="somewhere", vocabulary="joint", **fields)


def test_a_translated_piece_is_the_mean_of_what_it_translates():
    """Oracle: the mean, written out, with the spelling's small share; there is none, so it is of all pieces."""
    old, new = make_tokenizer(), new_tokenizer("نور stop")
    table = torch.randn(len(old), 8)
    piece, (light, on) = new.convert_tokens_to_ids("نور"), old.convert_tokens_to_ids(["light", "on"])
    links = Links(np.array([piece, piece]), np.array([light, on]), np.array([3.0, 1.0]))
    made, _ = embeddings_for(table, old, new, links)
    wanted = (3 * table[light] + table[on] + SPELLING_COUNT * table.mean(0)) / (4 + SPELLING_COUNT)
    torch.testing.assert_close(made[piece], wanted)
    torch.testing.assert_close(made[new.convert_tokens_to_ids("stop")], table[old.convert_tokens_to_ids("stop")])


def test_a_spelt_piece_is_the_mean_of_its_spelling():
    """Oracle: the old tokenizer's pieces of the word."""
    old, new = make_tokenizer(letters=True), new_tokenizer("lightning lightning lamp")
    table = torch.randn(len(old), 8)
    made, facts = embeddings_for(table, old, new, NO_LINKS)
    for piece in ("lightning", "lamp"):
        spelling = old(piece, add_special_tokens=False)["input_ids"]
        torch.testing.assert_close(made[new.convert_tokens_to_ids(piece)], table[spelling].mean(0))
    assert facts["spelt"] > 0


def test_special_pieces_keep_their_part():
    """Oracle: the embeddings of the same roles, under other names."""
    old, new = make_tokenizer(), new_tokenizer("a stop", kind="bpe")
    table = torch.randn(len(old), 8)
    made, _ = embeddings_for(table, old, new, NO_LINKS)
    for role in ("pad", "unk", "cls", "sep", "mask"):
        assert torch.equal(made[getattr(new, f"{role}_token_id")], table[getattr(old, f"{role}_token_id")])


def test_positions_that_are_counted_from_another_padding_are_refused():
    """Oracle: the words of the error; RoBERTa's first position is its padding's, plus one."""
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = RobertaForSequenceClassification(RobertaConfig(vocab_size=30, **shape))
    with pytest.raises(ModelError, match="counts positions from padding id 1, the vocabulary pads with 0"):
        transplant(model, old=make_tokenizer(), new=new_tokenizer("a"), config=start(), corpora={})


def test_translations_come_from_texts_and_a_lexicon(tmp_path):
    """Oracle: the lexicon, whichever way round its lines are; and the texts, where it has no entry."""
    old, model = make_tokenizer(), make_bert()
    words = list(LEXICON.items())
    lines = [f"{a}\t{b}\t10\n" if number % 2 else f"{b}\t{a}\t10\n" for number, (a, b) in enumerate(words[:4])]
    (tmp_path / "lexicon.tsv").write_text("".join(lines), "utf-8")
    rows = [{"en": f"{a} {c}", "ar": f"{b} {d}"} for a, b in words for c, d in words if a != c]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    source = {
        "kind": "files",
        "directory": tmp_path,
        "files": ["pairs.jsonl"],
        "field": "en",
        "translation_field": "ar",
    }
    corpora = {"pairs": CorpusConfig.model_validate({"source": source})}
    new = new_tokenizer(*LEXICON, *LEXICON.values())
    table = model.get_input_embeddings().weight.detach().clone()
    facts = transplant(
        model, old=old, new=new, corpora=corpora, config=start(parallel=["pairs"], lexicon=tmp_path / "lexicon.tsv")
    )
    made = model.get_input_embeddings().weight.detach()
    for word, other in words:
        scores = torch.cosine_similarity(made[new.convert_tokens_to_ids(other)][None], table)
        assert int(scores.argmax()) == old.convert_tokens_to_ids(word)
    assert facts["translated"] >= len(words)


def test_vowel_marks_come_off_and_letters_stay():
    """Oracle: the text without its marks, by Unicode's names; hamza and madda stay; offsets are the text's own."""
    marked, typed_apart = "قَالَ المُعَلِّمُ إنَّ الآنَ كِتـابٌ", unicodedata.normalize("NFD", "أُحِبُّ")
    plain = "قال المعلم إن الآن كتاب أحب"
    tokenizer = new_tokenizer(plain, marked, typed_apart, strip_arabic_marks=True)
    assert tokenizer(f"{marked} {typed_apart}")["input_ids"] == tokenizer(plain)["input_ids"]
    assert tokenizer.unk_token_id not in tokenizer(plain)["input_ids"]
    words = marked.split()
    read = tokenizer(marked, add_special_tokens=False, return_offsets_mapping=True)
    for number, word in enumerate(words):
        places = [place for place, i in enumerate(read.word_ids()) if i == number]
        first, last = read["offset_mapping"][places[0]][0], read["offset_mapping"][places[-1]][1]
        assert word.startswith(marked[first:last])
        assert all(unicodedata.category(c) == "Mn" for c in word[last - first :])
