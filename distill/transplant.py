"""A trained model under another vocabulary: its layers stay, and each new piece gets an embedding from the old ones.

    facts = transplant(model, old=tokenizer, new=other, config=start, corpora=corpora)

Where the embeddings come from, the first that there is:

- **A piece of both vocabularies** keeps its embedding.
- **Translation.** The mean of what the piece stands for in parallel texts and in a lexicon, weighted by how often
  (`distill/alignment.py`). WECHSEL (Minixhofer, Paischer and Rekabsaz, NAACL 2022) takes such a mean over neighbours in
  aligned word vectors; there are none here to align, so the weights come from the texts themselves, as in Tran ("From
  English to Foreign Languages", arXiv 2002.07306), who learns them with fast_align.
- **Spelling.** The mean of the old tokenizer's pieces of the same letters: Gee et al., "Fast Vocabulary Transfer for
  Language Model Compression" (EMNLP 2022, industry track, section 3).
- **Neither:** the mean of all old embeddings, and noise of their deviation.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.errors import ModelError
from distill.alignment import Links, align
from distill.architectures import embeddings_of
from distill.code_switch import entries_of
from distill.config_corpora import CorpusConfig
from distill.config_starts import Transplant
from distill.corpus import read_pairs
from distill.held_out import is_held_out

SPELLING_COUNT = 0.1
"""A translation counts as often as it was seen, the spelling this often: what was hardly seen is mostly spelt."""
HALF_WEIGHT = 5.0
"""Of a lexicon's entry that counts as half a sentence; PanLex's are 1 to 123, and those below 5 are noisy."""
TEXTS_PER_CALL = 5_000
"""Of a tokenizer, whose answers hold more than the ids."""
ROLES = ("pad", "unk", "cls", "sep", "mask")


def transplant(
    model: PreTrainedModel, *, old: Tokenizer, new: Tokenizer, config: Transplant, corpora: Mapping[str, CorpusConfig]
) -> dict[str, int]:
    """Give `model`, whose pieces are `old`'s, embeddings for those of `new`, in place; how many came from where.

    Raises `DataError` for parallel texts and lexicons that cannot be read, and `ModelError` for a model that counts
    positions from a padding token which is another in `new`.
    """
    first = getattr(embeddings_of(model), "padding_idx", None)
    if first is not None and first != new.pad_token_id:
        raise ModelError(
            f"{model.config.model_type} counts positions from padding id {first}, the vocabulary pads with "
            f"{new.pad_token_id}",
            "train the vocabulary with kind: bpe, as RoBERTa's is",
        )
    links = align(_pairs(old, new, config, corpora))
    with torch.no_grad():
        table, facts = embeddings_for(model.get_input_embeddings().get_parameter("weight"), old, new, links)
    fresh = nn.Embedding(len(table), table.shape[1], padding_idx=new.pad_token_id)
    fresh.weight = nn.Parameter(table)
    model.set_input_embeddings(fresh)
    model.config.vocab_size = len(table)
    for role in ("pad", "bos", "eos"):
        setattr(model.config, f"{role}_token_id", getattr(new, f"{role}_token_id"))
    return facts


def embeddings_for(
    table: Float[Tensor, "old hidden"], old: Tokenizer, new: Tokenizer, links: Links
) -> tuple[Float[Tensor, "new hidden"], dict[str, int]]:
    """An embedding for each piece of `new`, from those of `old`; and how many came from where."""
    made = torch.empty(len(new), table.shape[1], dtype=table.dtype)
    roles = {getattr(new, f"{role}_token_id"): getattr(old, f"{role}_token_id") for role in ROLES[::-1]}
    known, names = old.get_vocab(), {index: piece for piece, index in new.get_vocab().items()}
    mean, deviation = table.mean(0), table.std(0)
    generator = torch.Generator().manual_seed(0)
    order = np.argsort(links.new, kind="stable")
    starts = np.searchsorted(links.new[order], np.arange(len(new) + 1))
    facts = dict.fromkeys(("copied", "translated", "spelt", "neither"), 0)
    for index in range(len(new)):
        same = roles.get(index, known.get(names.get(index, "")))
        mine = order[starts[index] : starts[index + 1]]
        if same is not None:
            made[index], source = table[same], "copied"
            facts[source] += 1
            continue
        spelt = _spelling(old, new, names.get(index, ""))
        plain = table[spelt].mean(0) if spelt else None
        count = torch.tensor(links.count[mine], dtype=table.dtype)
        if len(mine) and float(count.sum()) > SPELLING_COUNT:
            sums = count @ table[torch.tensor(links.old[mine])]
            made[index] = (sums + SPELLING_COUNT * (mean if plain is None else plain)) / (count.sum() + SPELLING_COUNT)
            facts["translated"] += 1
        elif plain is not None:
            made[index] = plain
            facts["spelt"] += 1
        else:
            made[index] = mean + deviation * torch.randn(len(mean), generator=generator)
            facts["neither"] += 1
    return made, facts


def _spelling(old: Tokenizer, new: Tokenizer, piece: str) -> list[int]:
    """The old tokenizer's pieces of what `piece` looks like, but for unknown ones."""
    surface = new.convert_tokens_to_string([piece]).removeprefix("##")
    ids: list[int] = old(surface, add_special_tokens=False)["input_ids"] if surface.strip() else []
    return [index for index in ids if index != old.unk_token_id]


def _pairs(
    old: Tokenizer, new: Tokenizer, config: Transplant, corpora: Mapping[str, CorpusConfig]
) -> Iterator[tuple[Sequence[int], Sequence[int], float]]:
    """The parallel texts, and the lexicon as the shortest of them, in the old pieces and the new."""
    texts = [(*pair, 1.0) for name in config.parallel for pair in read_pairs(corpora[name]) if not _is_kept(pair)]
    if config.lexicon is not None:
        texts += _entries(old, config.lexicon)
    left = _ids(old, [text for text, _, _ in texts])
    right = _ids(new, [text for _, text, _ in texts])
    return zip(left, right, (weight for _, _, weight in texts), strict=True)


def _entries(old: Tokenizer, lexicon: Path) -> Iterator[tuple[str, str, float]]:
    """Those of a lexicon. Of the two sides, the old tokenizer's language is the one it reads in fewer pieces."""
    entries = list(entries_of(lexicon))
    sizes = [_sizes(old, texts) for texts in ([e[0] for e in entries], [e[1] for e in entries])]
    for (word, other, weight), own, foreign in zip(entries, *sizes, strict=True):
        yield *((word, other) if own <= foreign else (other, word)), weight / (weight + HALF_WEIGHT)


def _sizes(tokenizer: Tokenizer, texts: list[str]) -> Iterator[float]:
    """In pieces; infinite for a text that the tokenizer does not wholly know."""
    for ids in _all_ids(tokenizer, texts):
        yield math.inf if tokenizer.unk_token_id in ids else len(ids)


def _is_kept(pair: tuple[str, str]) -> bool:
    """Whether it is held out, in either order in which a corpus joins the two."""
    return is_held_out(" ".join(pair)) or is_held_out(" ".join(pair[::-1]))


def _ids(tokenizer: Tokenizer, texts: list[str]) -> Iterator[list[int]]:
    """Without unknown pieces, which stand for anything."""
    for ids in _all_ids(tokenizer, texts):
        yield [index for index in ids if index != tokenizer.unk_token_id]


def _all_ids(tokenizer: Tokenizer, texts: list[str]) -> Iterator[list[int]]:
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    for start in range(0, len(texts), TEXTS_PER_CALL):
        encodings = backend.encode_batch_fast(texts[start : start + TEXTS_PER_CALL], add_special_tokens=False)
        yield from (encoding.ids for encoding in encodings)
