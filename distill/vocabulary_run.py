"""Wiring: the recipe's text in, a sealed tokenizer out."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from artifact.config import Config
from artifact.dataset import read_split
from artifact.stage import Stage
from distill.config import CorpusConfig
from distill.config_vocabularies import TrainedVocabulary
from distill.run import corpus_digests, without_paths

VERSION = 1
SPLIT = "data"
"""What the facts call the data set's text, where no corpus is named."""


class VocabularyRequest(Config):
    """What is asked of this stage: one vocabulary of a recipe, by name, and the corpora that it is learnt from."""

    name: str
    vocabulary: TrainedVocabulary
    corpora: dict[str, CorpusConfig] | None = None


def vocabulary_stage(
    name: str, config: TrainedVocabulary, *, data: Path, out: Path, corpora: Mapping[str, CorpusConfig]
) -> tuple[Stage, Callable[[Path], Mapping[str, Any]]]:
    """The stage that trains vocabulary `name`, and its work. It reads the data set only where it names no corpus."""
    used = {corpus: corpora[corpus] for corpus in config.corpora}
    request = VocabularyRequest(
        name=name, vocabulary=config, corpora={k: without_paths(v) for k, v in used.items()} or None
    )
    stage = Stage(
        name="vocabulary", version=VERSION, kind="vocabulary", out=out, config=request,
        inputs={} if used else {"data": data}, digests=corpus_digests(used),
    )  # fmt: skip
    return stage, lambda directory: run_vocabulary(config, data=data, corpora=used, out=directory)


def run_vocabulary(
    config: TrainedVocabulary, *, data: Path, corpora: Mapping[str, CorpusConfig], out: Path
) -> Mapping[str, Any]:
    """Fill `out` with a tokenizer that transformers opens, and return what it covers of text it has not learnt from.

    Raises `DataError` for text that cannot be read, is not there, or does not fit `config.size`.
    """
    from distill.held_out import held_out_texts
    from distill.vocabulary_training import train_vocabulary

    reads: dict[str, Callable[[], Iterator[str]]] = {n: _reader(corpus) for n, corpus in corpora.items()}
    held_out = {name: held_out_texts(corpus) for name, corpus in corpora.items()}
    if not corpora:
        reads[SPLIT] = lambda: (text for row in read_split(data, "train") for text in row.texts)
        held_out[SPLIT] = [text for row in read_split(data, "validation") for text in row.texts]
    tokenizer, facts = train_vocabulary(config, reads)
    tokenizer.save_pretrained(out)
    for name, texts in held_out.items():
        facts["corpora"][name] |= _covered(tokenizer, texts)
    return facts


def _reader(corpus: CorpusConfig) -> Callable[[], Iterator[str]]:
    from distill.corpus import read_records
    from distill.held_out import is_held_out

    def read() -> Iterator[str]:
        records = (record for record in read_records(corpus) if not is_held_out(record.text))
        return itertools.chain.from_iterable(record.units() for record in records)

    return read


def _covered(tokenizer: Any, texts: list[str]) -> dict[str, Any]:
    """Of held-out text: the share of unknown tokens, and tokens a word between spaces; nothing of no text."""
    words = sum(len(text.split()) for text in texts)
    if not words:
        return {}
    ids = [i for text in texts for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
    unknown = sum(i == tokenizer.unk_token_id for i in ids)
    return {
        "held_out_texts": len(texts), "unknown_share": round(unknown / max(len(ids), 1), 6),
        "tokens_per_word": round(len(ids) / words, 4),
    }  # fmt: skip
