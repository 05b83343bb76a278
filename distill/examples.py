"""Examples of every task in tokens: what a model reads of each, and what is known of it.

A pair is read together, with types where the tokenizer has them. A context too long for a question is read in windows
that overlap, and a tagged text too long for the model in pieces, so that nothing that is known is lost. Of a pair of
utterances the beginning of the conversation is cut, since its last turns matter most (Gu et al., arXiv 2004.01940).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.dataset import Example, Task
from distill.batching import seeded
from distill.encoding import encode

NEGATIVES = 4
"""Wrong utterances beside each right one, where nobody says."""
OVERLAPS = 12
"""Windows of a context share one such part of `max_tokens`: the longest question leaves but a quarter for a window."""
EXAMPLES_PER_CALL = 500

Item = TypeVar("Item")
Known = int | float | tuple[int, int]
"""Label, quantity or chance of a text, or the tokens where an answer begins and ends."""


@dataclass(frozen=True, kw_only=True)
class Reads:
    """How the rows of a data set are read."""

    task: Task = "classification"
    labels: tuple[str, ...] = ()
    apart: bool = False
    """Whether the two texts of a pair are encoded apart, by an encoder without a head that learns to match them."""
    negatives: int = NEGATIVES
    seed: int = 0

    @property
    def pairs_apart(self) -> bool:
        """Whether a batch has the second texts after the first ones."""
        return self.apart and self.task == "response-selection"


@dataclass
class Inputs:
    """What is read, an entry each."""

    ids: list[Int[Tensor, "_"]] = field(default_factory=list)
    types: list[Int[Tensor, "_"]] | None = None
    """0 for the first text of a pair, 1 for the second; none where nothing is read as a pair."""
    known: list[Known] = field(default_factory=list)
    tags: list[Int[Tensor, "_"]] | None = None
    """Index of each token's label, -1 where it has none; for tagging alone."""
    pairs: list[Int[Tensor, "_"]] | None = None
    """The text that answers each, where they are encoded apart."""
    queries: list[list[int]] = field(default_factory=list)
    """Of each query with an utterance that is right and some that are not, its entries, the right one last."""


def read_examples(tokenizer: Tokenizer, examples: Sequence[Example], max_tokens: int, reads: Reads) -> Inputs:
    """`examples` in tokens, each input at most `max_tokens` long, special tokens included."""
    if reads.pairs_apart:
        return _read_apart(tokenizer, examples, max_tokens)
    return _READERS[reads.task](tokenizer, examples, max_tokens, reads)


def _read_whole(tokenizer: Tokenizer, examples: Sequence[Example], max_tokens: int, reads: Reads) -> Inputs:
    quantity = reads.task == "regression"
    known: list[Known] = [row.value or 0.0 if quantity else row.label for row in examples]
    if all(row.pair is None for row in examples):
        pieces = encode(tokenizer, [row.text for row in examples], max_tokens)
        return Inputs([some[0] for some in pieces], None, known)
    texts = [(row.text, row.pair or "") for row in examples]
    return _read_pairs(tokenizer, texts, known, max_tokens)


def _read_pairs(tokenizer: Tokenizer, texts: Sequence[tuple[str, str]], known: list[Known], max_tokens: int) -> Inputs:
    """The longer of two texts is cut first, on the tokenizer's side of truncation."""
    found = Inputs(known=known, types=_types(tokenizer))
    for some in _chunks(texts):
        encoded = tokenizer(
            [a for a, _ in some], [b for _, b in some], truncation="longest_first", max_length=max_tokens,
            return_token_type_ids=True,
        )  # fmt: skip
        _extend(found, encoded)
    return found


def _read_candidates(tokenizer: Tokenizer, examples: Sequence[Example], max_tokens: int, reads: Reads) -> Inputs:
    """Each context with its next utterance (1) and with some that are not (0): other rows' where none are named."""
    texts: list[tuple[str, str]] = []
    known: list[Known] = []
    queries: list[list[int]] = []
    others = [row.pair for row in examples if row.pair is not None]
    generator = seeded(reads.seed, len(examples))
    for row in examples:
        right, wrong = _right_of(row), _wrong_of(row, others, reads.negatives, generator)
        if right is not None and wrong:
            queries.append([*range(len(texts) + 1, len(texts) + 1 + len(wrong)), len(texts)])
        texts += [(row.text, utterance) for utterance in ([right] if right is not None else []) + wrong]
        known += [1.0] * (right is not None) + [0.0] * len(wrong)
    return replace(_read_pairs(tokenizer, texts, known, max_tokens), queries=queries)


def _right_of(row: Example) -> str | None:
    if row.candidates is None:
        return row.pair
    return row.candidates[row.label] if row.label >= 0 else None


def _wrong_of(row: Example, others: Sequence[str], count: int, generator: torch.Generator) -> list[str]:
    if row.candidates is not None:
        return [text for place, text in enumerate(row.candidates) if place != row.label][:count]
    drawn = torch.randint(len(others), (2 * count,), generator=generator).tolist() if others else []
    return [others[place] for place in drawn if others[place] != row.pair][:count]


def _read_apart(tokenizer: Tokenizer, examples: Sequence[Example], max_tokens: int) -> Inputs:
    rows = [(row.text, right) for row in examples if (right := _right_of(row)) is not None]
    sides: list[list[Tensor]] = [[], []]
    for place, side in enumerate(sides):
        for some in _chunks([row[place] for row in rows]):
            found = tokenizer(list(some), truncation=True, max_length=max_tokens)
            side.extend(torch.tensor(ids, dtype=torch.int32) for ids in found["input_ids"])
    numbers: dict[str, int] = {}  # utterances that read alike are one, lest one be told from itself
    known: list[Known] = [numbers.setdefault(right.strip(), len(numbers)) for _, right in rows]
    return Inputs(sides[0], None, known, pairs=sides[1])


def _read_questions(tokenizer: Tokenizer, examples: Sequence[Example], max_tokens: int, _: Reads) -> Inputs:
    """Each window of each context; a window without the answer is answered at its first token, as one without any."""
    found = Inputs(types=_types(tokenizer))
    room = max_tokens * 3 // 4  # deployed, a question may not leave its context less than a quarter
    for some in _chunks(examples):
        questions = [_cut(tokenizer, row.text, room - 3) for row in some]
        encoded = tokenizer(
            questions, [row.pair or "" for row in some], truncation="only_second", max_length=max_tokens,
            stride=max_tokens // OVERLAPS, return_overflowing_tokens=True, return_offsets_mapping=True,
            return_token_type_ids=True,
        )  # fmt: skip
        _extend(found, encoded)
        for window, row in enumerate(encoded["overflow_to_sample_mapping"]):
            sides = encoded.sequence_ids(window)
            found.known.append(_place_answer(some[row], encoded["offset_mapping"][window], sides))
    return found


def _cut(tokenizer: Tokenizer, text: str, tokens: int) -> str:
    tokenizer.backend_tokenizer.no_truncation()
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    return text if len(encoding) <= tokens else text[: encoding.offsets[tokens - 1][1]]


def _place_answer(row: Example, offsets: Sequence[tuple[int, int]], sides: Sequence[int | None]) -> tuple[int, int]:
    """First and last token of the first answer, where the window has all of it."""
    if not row.answers:
        return 0, 0
    start, stop = row.answers[0].start, row.answers[0].start + len(row.answers[0].text)
    inside = [place for place, side in enumerate(sides) if side == 1 and offsets[place][0] < offsets[place][1]]
    if not inside or offsets[inside[0]][0] > start or offsets[inside[-1]][1] < stop:
        return 0, 0
    touched = [place for place in inside if offsets[place][1] > start and offsets[place][0] < stop]
    return (touched[0], touched[-1]) if touched else (0, 0)


def _read_words(tokenizer: Tokenizer, examples: Sequence[Example], max_tokens: int, reads: Reads) -> Inputs:
    all_tags: list[Tensor] = []
    found = Inputs(tags=all_tags)
    goes_on = _continuations(reads.labels)
    for some in _chunks(examples):
        encoded = tokenizer(
            [row.text for row in some], truncation=True, max_length=max_tokens, stride=0,
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        _extend(found, encoded)
        for piece, row in enumerate(encoded["overflow_to_sample_mapping"]):
            tags = _tag_tokens(some[row], encoded["offset_mapping"][piece], encoded.word_ids(piece), goes_on)
            all_tags.append(tags)
            found.known.append(-1)
    return found


def _tag_tokens(
    row: Example, offsets: Sequence[tuple[int, int]], numbers: Sequence[int | None], goes_on: Mapping[int, int]
) -> Int[Tensor, "_"]:
    """The first token of each word has its tag.

    What a tokenizer takes for a word may be a part of one, as in `U.S.`: deployed, each part is asked. The first token
    of a later part has the tag that goes on with the word's, where there is one.
    """
    tags = torch.full((len(offsets),), -1, dtype=torch.int32)
    words, word, last, begun = row.words or (), 0, None, -1
    for place, ((start, stop), number) in enumerate(zip(offsets, numbers, strict=True)):
        if number is None or start == stop:
            continue
        while word < len(words) and words[word][1] <= start:
            word += 1
        if number == last or word == len(words) or stop <= words[word][0]:
            last = number
            continue
        tag = (row.tags or ())[word]
        # A piece that begins inside a word, its first part in the piece before, has the tag that goes on with it too.
        first = word != begun and start <= words[word][0]
        tags[place] = tag if first else goes_on.get(tag, tag)
        last, begun = number, word
    return tags


def _continuations(labels: Sequence[str]) -> dict[int, int]:
    """`I-` of each `B-`; -1, unknown, where the list has none."""
    index = {label: place for place, label in enumerate(labels)}
    return {place: index.get(f"I-{label[2:]}", -1) for label, place in index.items() if label.startswith("B-")}


def _extend(found: Inputs, encoded: Any) -> None:
    found.ids.extend(torch.tensor(ids, dtype=torch.int32) for ids in encoded["input_ids"])
    if found.types is not None:
        found.types.extend(torch.tensor(types, dtype=torch.int32) for types in encoded["token_type_ids"])


def _types(tokenizer: Tokenizer) -> list[Tensor] | None:
    return [] if "token_type_ids" in tokenizer.model_input_names else None


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), EXAMPLES_PER_CALL):
        yield items[start : start + EXAMPLES_PER_CALL]


_Reader = Callable[[Tokenizer, Sequence[Example], int, Reads], Inputs]
_READERS: Mapping[Task, _Reader] = {
    "classification": _read_whole,
    "regression": _read_whole,
    "out-of-domain-detection": _read_whole,
    "text": _read_whole,
    "token-classification": _read_words,
    "question-answering": _read_questions,
    "response-selection": _read_candidates,
}
