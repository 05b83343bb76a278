"""A smaller vocabulary for one kind of text: the pieces it uses, and a safety set that can still spell everything.

    counts = count_pieces(tokenizer, texts)
    pruned, kept = prune_vocabulary(tokenizer, counts, Vocabulary(min_count=2))
    prune_embeddings(model, kept)

**Covered text**, all of whose pieces are kept, is tokenised as before, piece for piece:

- *WordPiece* takes the longest piece that fits. That piece is kept, and among fewer pieces it is still the longest.
- *Unigram* takes the path of the highest score. That path is still there, with the same scores, and has fewer rivals;
  of equals the one found first still wins. The piece of lowest score is always kept, as it sets the price of an unknown
  character.
- *BPE* applies the first of its merges that fits, again and again. What is merged inside a final piece depends on that
  piece alone, so the pieces on the way to it are kept with it: the merge that came first is there, and first, still.

**Other text** comes out in more pieces. A character that has a piece of its own never becomes unknown, since that piece
is kept, and a character that is in no piece stays unknown. Characters that only occur inside longer pieces (none in the
vocabularies of BERT) keep those pieces; in WordPiece and Unigram, words with them are outside the promise.
"""

import copy
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from tokenizers import Tokenizer as Backend  # type: ignore[import-untyped]  # ships no types
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.errors import ModelError
from distill.architectures import embeddings_of
from distill.config_starts import Vocabulary
from distill.pieces import Json, PieceModel, read_model

_TEXTS = 1000
"""Texts tokenised at a time: a corpus may be larger than memory."""


class Pruned(NamedTuple):
    """A tokenizer with fewer pieces; `kept` holds their ids in the full one, in the new order."""

    tokenizer: Tokenizer
    kept: list[int]


class Coverage(NamedTuple):
    """Shares, 0 to 1, of the tokens that are kept pieces and of the texts that hold no others."""

    tokens: float
    texts: float


def count_pieces(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    """How often each id occurs in `texts`, whole, without the special tokens that frame them."""
    counts: Counter[int] = Counter()
    for ids in _encode(tokenizer, texts):
        counts.update(ids)
    return counts


def coverage(tokenizer: Tokenizer, kept: Iterable[int], texts: Iterable[str]) -> Coverage:
    """How much of `texts`, as the full `tokenizer` reads them, the `kept` ids cover; all of no text at all."""
    known = set(kept)
    tokens, covered, whole, count = 0, 0, 0, 0
    for ids in _encode(tokenizer, texts):
        found = sum(i in known for i in ids)
        tokens, covered, whole, count = tokens + len(ids), covered + found, whole + (found == len(ids)), count + 1
    return Coverage(tokens=covered / tokens if tokens else 1.0, texts=whole / count if count else 1.0)


def prune_vocabulary(tokenizer: Tokenizer, counts: Mapping[int, int], config: Vocabulary) -> Pruned:
    """`tokenizer` with the pieces that `counts` asks for, the safety set, and all added tokens.

    Ids keep their order and have no gaps; the padding token keeps its id, as RoBERTa counts positions from it.
    Raises `ModelError` for a tokenizer that is not WordPiece, Unigram or BPE.
    """
    tree: Json = json.loads(tokenizer.backend_tokenizer.to_str())
    model = read_model(tree["model"])
    pieces = {index: piece for piece, index in model.ids.items()}
    added = {token["id"]: token["content"] for token in tree["added_tokens"]}
    outside = sorted(added.keys() - pieces.keys())
    needed = {model.ids[piece] for piece in model.needed} | (added.keys() & pieces.keys())
    inside = sorted(_most_frequent(model, pieces, counts, config, chosen=needed, others=len(outside)))
    _keep_place(inside, tokenizer.pad_token_id)
    kept = inside + outside
    new_ids = {old: new for new, old in enumerate(kept)}
    tree["model"] = model.cut([pieces[index] for index in inside])
    for token in tree["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    if tree["padding"] is not None:
        tree["padding"]["pad_id"] = new_ids.get(tree["padding"]["pad_id"], 0)
    if tree["post_processor"] is not None:
        _renumber(tree["post_processor"], new_ids)
    return Pruned(_with_backend(tokenizer, tree), kept)


def prune_embeddings(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """Cut the token embeddings of `model`, and its decoder over the vocabulary if any, to the ids `kept`; in place.

    Weights that are tied stay so. Raises `ModelError` when the model has fewer rows than `kept` asks for, or counts
    positions from a padding token that has moved.
    """
    table = model.get_input_embeddings()
    decoder = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # untyped upstream
    rows = model.config.vocab_size
    if max(kept) >= rows:
        raise ModelError(f"the vocabulary keeps id {max(kept)}, but the model has embeddings for 0 to {rows - 1}")
    new_ids = {old: new for new, old in enumerate(kept)}
    start = getattr(embeddings_of(model), "padding_idx", None)
    if start is not None and new_ids.get(start) != start:
        raise ModelError(f"{model.config.model_type} counts positions from padding id {start}, which is not kept there")
    modules = [module for module in (table, decoder) if module is not None]
    for parameter in {p for module in modules for p in module.parameters(recurse=False)}:
        parameter.grad = None
        parameter.data = parameter.data[torch.tensor(kept, device=parameter.device)]  # tied ones stay one parameter
    if isinstance(table, nn.Embedding):
        table.num_embeddings = len(kept)
        table.padding_idx = None if table.padding_idx is None else new_ids.get(table.padding_idx)
    if isinstance(decoder, nn.Linear):
        decoder.out_features = len(kept)
    _renumber_config(model.config, new_ids)
    return model


def _encode(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[list[int]]:
    remaining = iter(texts)
    while some := list(islice(remaining, _TEXTS)):
        yield from tokenizer(some, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]


def _most_frequent(
    model: PieceModel, pieces: Mapping[int, str], counts: Mapping[int, int], config: Vocabulary,
    *, chosen: set[int], others: int,
) -> set[int]:  # fmt: skip
    wanted = [index for index, count in counts.items() if count >= config.min_count and index in pieces]
    for index in sorted(wanted, key=lambda index: (-counts[index], index)):
        more = {model.ids[part] for part in model.parts_of(pieces[index]) if part in model.ids} | {index}
        more -= chosen
        if config.max_pieces is not None and len(chosen) + len(more) + others > config.max_pieces:
            break
        chosen |= more
    return chosen


def _keep_place(ids: list[int], pad_id: int | None) -> None:
    if pad_id in ids and pad_id < len(ids):
        ids.remove(pad_id)
        ids.insert(pad_id, pad_id)


def _renumber(processor: Json, new_ids: Mapping[int, int]) -> None:
    match processor["type"]:
        case "Sequence":
            for part in processor["processors"]:
                _renumber(part, new_ids)
        case "TemplateProcessing":
            for token in processor["special_tokens"].values():
                token["ids"] = [new_ids[index] for index in token["ids"]]
        case "BertProcessing" | "RobertaProcessing":
            for name in ("sep", "cls"):
                token, index = processor[name]
                processor[name] = [token, new_ids[index]]


def _with_backend(tokenizer: Tokenizer, tree: Json) -> Tokenizer:
    pruned = copy.deepcopy(tokenizer)
    pruned._tokenizer = Backend.from_str(json.dumps(tree))  # noqa: SLF001 - its class, settings and special tokens stay
    pruned.vocab_file = None  # else save_pretrained copies the full SentencePiece model along
    return pruned


def _renumber_config(config: PretrainedConfig, new_ids: Mapping[int, int]) -> None:
    for name, index in config.to_dict().items():
        if name.endswith("_token_id") and isinstance(index, int):
            setattr(config, name, new_ids.get(index))
    config.vocab_size = len(new_ids)
