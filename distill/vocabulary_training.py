"""Learns a vocabulary from text with the `tokenizers` library, so that the same text gives the same bytes.

    tokenizer, facts = train_vocabulary(config, {"english": read_english, "arabic": read_arabic})

The library numbers the characters inside words (`##a`) in the order in which a hash table holds the words, another
one in each process, and breaks ties by these numbers. So they are given to it, sorted, before it begins. The same holds
for which rare characters it drops; they are chosen here.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import (  # type: ignore[import-untyped]  # ships no types
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as Backend
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

from artifact.errors import DataError
from artifact.progress import progress
from distill.config_vocabularies import TrainedVocabulary

BERT_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_PIECES = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
UNKNOWN = BERT_PIECES[1]
INSIDE = "##"
"""Before a piece that does not begin a word."""
ARABIC_MARKS = "[\u0640\u064b-\u0652\u0670]"
"""Tatweel, tanwin to sukun, and the dagger alef."""
TEXTS_PER_STEP = 1_000
"""Of progress."""

Read = Callable[[], Iterator[str]]
"""Reads the same texts each time it is called."""


@dataclass(frozen=True)
class Counted:
    """What is in a corpus, normalised."""

    texts: int
    characters: Counter[str]

    @property
    def size(self) -> int:
        """Characters in all."""
        return self.characters.total()


def train_vocabulary(
    config: TrainedVocabulary, corpora: Mapping[str, Read]
) -> tuple[PreTrainedTokenizerFast, dict[str, Any]]:
    """A tokenizer of at most `config.size` pieces, and what it learnt from.

    Raises `DataError` for a corpus without text, and for a size that the characters alone do not fit in.
    """
    normalizer = normalizer_of(config)
    counted = {name: _count(read, normalizer) for name, read in corpora.items()}
    empty = [name for name, count in counted.items() if not count.size]
    if empty:
        raise DataError(f"there is no text in {', '.join(empty)} to learn a vocabulary from")
    rates = balanced({name: count.size for name, count in counted.items()}, config.balance)
    texts = _texts(corpora, counted, rates)
    tokenizer = (
        _wordpiece(config, normalizer, counted, texts)
        if config.kind == "wordpiece"
        else _bpe(config, normalizer, texts)
    )
    sizes = {name: count.size * rates[name] for name, count in counted.items()}
    total = sum(sizes.values())
    facts = {
        name: {"texts": c.texts, "characters": c.size, "share": round(sizes[name] / total, 5)}
        for name, c in counted.items()
    }  # fmt: skip
    return tokenizer, {"pieces": len(tokenizer), "corpora": facts}


def balanced(sizes: Mapping[str, int], exponent: float) -> dict[str, float]:
    """How often each text of a corpus is read, so that shares are in proportion to `size ** exponent`.

    The total stays as it is: small corpora are read more than once, of large ones every so-manieth text.
    """
    powers = {name: size**exponent for name, size in sizes.items()}
    total, whole = sum(powers.values()), sum(sizes.values())
    return {name: powers[name] / total * whole / size for name, size in sizes.items()}


def normalizer_of(config: TrainedVocabulary) -> Any:
    """Composed characters (NFC), so that a letter and its marks are one where Unicode has one; nothing is taken off
    unless the recipe says so. `wordpiece` then cleans and parts Chinese characters as BERT does.
    """
    if config.kind == "wordpiece":
        bert = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=config.strip_accents, lowercase=config.lowercase
        )
        return normalizers.Sequence([normalizers.NFC(), *_without_marks(config), bert])
    steps = [normalizers.NFD(), normalizers.StripAccents()] if config.strip_accents else []
    steps += [normalizers.Lowercase()] if config.lowercase else []
    return normalizers.Sequence([*steps, normalizers.NFC(), *_without_marks(config)])


def _without_marks(config: TrainedVocabulary) -> list[Any]:
    """After NFC, which makes one letter of alef and hamza: what is left of marks stands for vowels."""
    return [normalizers.Replace(Regex(ARABIC_MARKS), "")] if config.strip_arabic_marks else []


def alphabet_of(characters: Counter[str], coverage: float) -> list[str]:
    """The most frequent characters that make up `coverage` of the text, sorted; white space is none."""
    counts = {character: count for character, count in characters.items() if not character.isspace()}
    wanted, covered, kept = coverage * sum(counts.values()), 0, list[str]()
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= wanted:
            break
        covered += count
        kept.append(character)
    return sorted(kept)


def _count(read: Read, normalizer: Any) -> Counted:
    texts, characters = 0, Counter[str]()
    for text in read():
        texts += 1
        characters.update(normalizer.normalize_str(text))
    return Counted(texts, characters)


def _texts(corpora: Mapping[str, Read], counted: Mapping[str, Counted], rates: Mapping[str, float]) -> Iterator[str]:
    """Text *i* of a corpus as often as `i * rate` passes a whole number: spread evenly, the same on every run."""
    total = sum(count.texts for count in counted.values())
    with progress("vocabulary", total) as advance:
        for name, read in corpora.items():
            for number, text in enumerate(read()):
                for _ in range(int((number + 1) * rates[name] + 1e-9) - int(number * rates[name] + 1e-9)):
                    yield text
                if (number + 1) % TEXTS_PER_STEP == 0:
                    advance(TEXTS_PER_STEP, name)


def _wordpiece(
    config: TrainedVocabulary, normalizer: Any, counted: Mapping[str, Counted], texts: Iterator[str]
) -> PreTrainedTokenizerFast:
    alphabet = alphabet_of(sum((count.characters for count in counted.values()), Counter()), config.character_coverage)
    splitter = pre_tokenizers.BertPreTokenizer()
    inner = [INSIDE + character for character in alphabet if _can_be_inside(character, normalizer, splitter)]
    least = len(BERT_PIECES) + len(alphabet) + len(inner)
    if least > config.size:
        raise DataError(
            f"a vocabulary of {config.size} pieces has no room for {len(alphabet)} characters, which take {least}",
            "raise its size, or lower character_coverage",
        )
    backend = Backend(models.WordPiece(unk_token=UNKNOWN, continuing_subword_prefix=INSIDE))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.size, min_frequency=config.min_count, special_tokens=[*BERT_PIECES, *inner],
        initial_alphabet=alphabet, limit_alphabet=len(alphabet), continuing_subword_prefix=INSIDE, show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator(texts, trainer=trainer)
    vocabulary = json.loads(backend.to_str())["model"]["vocab"]
    # Anew: to the trained one, each `##a` is a special token, to be found in the text as it stands.
    backend = Backend(models.WordPiece(vocabulary, unk_token=UNKNOWN, continuing_subword_prefix=INSIDE))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    backend.decoder = decoders.WordPiece(prefix=INSIDE)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(piece, vocabulary[piece]) for piece in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    return BertTokenizerFast(  # type: ignore[no-untyped-call]  # untyped upstream
        tokenizer_object=backend, do_lower_case=config.lowercase, strip_accents=config.strip_accents,
        tokenize_chinese_chars=True,
    )  # fmt: skip


def _bpe(config: TrainedVocabulary, normalizer: Any, texts: Iterator[str]) -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    if len(ROBERTA_PIECES) + len(letters) > config.size:
        raise DataError(f"a vocabulary of {config.size} pieces has no room for the 256 bytes", "raise its size")
    backend = Backend(models.BPE())
    backend.normalizer, backend.pre_tokenizer = normalizer, pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=config.size, min_frequency=config.min_count, special_tokens=list(ROBERTA_PIECES),
        initial_alphabet=letters, show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator(texts, trainer=trainer)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing(sep=("</s>", 2), cls=("<s>", 0), add_prefix_space=False)
    begin, pad, end, unknown, mask = ROBERTA_PIECES
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # untyped upstream
        tokenizer_object=backend, bos_token=begin, eos_token=end, cls_token=begin, sep_token=end, pad_token=pad,
        unk_token=unknown, mask_token=mask, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def _can_be_inside(character: str, normalizer: Any, splitter: Any) -> bool:
    """Whether a word can hold it after its first character: not so of punctuation and Chinese."""
    words: Sequence[Any] = splitter.pre_tokenize_str(normalizer.normalize_str(f"a{character}a"))
    return len(words) == 1
