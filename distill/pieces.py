"""What pruning has to know of the three kinds of `model` in a tokenizer.json: WordPiece, Unigram and BPE.

Each is read into one `PieceModel`: its pieces, those without which something could no longer be spelt, what a piece is
put together from, and the same model with fewer pieces.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from artifact.errors import ModelError

Json: TypeAlias = dict[str, Any]

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A piece that stands for one byte of a character that the vocabulary does not have (`byte_fallback`)."""


@dataclass(frozen=True)
class PieceModel:
    """One tokenizer's vocabulary."""

    ids: Mapping[str, int]
    """Each piece's id in the full model."""
    needed: AbstractSet[str]
    """The safety set: pieces of one character or byte, the unknown piece, and what they cannot spell."""
    parts_of: Callable[[str], AbstractSet[str]]
    """What else must be kept so that a piece can come about."""
    cut: Callable[[Sequence[str]], Json]
    """The `model` with only these pieces, numbered in their order."""


def read_model(model: Json) -> PieceModel:
    """The vocabulary in the `model` of a tokenizer.json; `ModelError` for a kind that cannot be pruned."""
    kind = model.get("type")
    if kind not in _READERS or (kind == "BPE" and model.get("continuing_subword_prefix")):
        raise ModelError(
            f"vocabulary: cannot prune a {kind} tokenizer, expected one of {', '.join(_READERS)} (BPE without a "
            "continuing_subword_prefix)",
            "leave `vocabulary` out",
        )
    return _READERS[kind](model)


def _read_wordpiece(model: Json) -> PieceModel:
    ids, prefix = model["vocab"], model["continuing_subword_prefix"]

    def characters(piece: str) -> list[str]:
        inner = piece.startswith(prefix) and len(piece) > len(prefix)
        text = piece[len(prefix) :] if inner else piece
        return [prefix + c if inner or place else c for place, c in enumerate(text)]

    return PieceModel(
        ids=ids,
        needed=_safety_set(ids, characters) | {model["unk_token"]},
        parts_of=lambda _: frozenset(),
        cut=lambda pieces: model | {"vocab": {piece: new for new, piece in enumerate(pieces)}},
    )


def _read_unigram(model: Json) -> PieceModel:
    scores = dict(model["vocab"])
    ids = {piece: index for index, (piece, _) in enumerate(model["vocab"])}
    unknown = [] if model["unk_id"] is None else [model["vocab"][model["unk_id"]][0]]
    lowest = min(scores, key=scores.__getitem__)  # an unknown character costs a fixed amount more than this piece

    def cut(pieces: Sequence[str]) -> Json:
        unk_id = pieces.index(unknown[0]) if unknown else None
        return model | {"vocab": [[piece, scores[piece]] for piece in pieces], "unk_id": unk_id}

    return PieceModel(
        ids=ids, needed=_safety_set(ids, list) | {lowest, *unknown}, parts_of=lambda _: frozenset(), cut=cut
    )


def _read_bpe(model: Json) -> PieceModel:
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(merges)))}
    suffix = model.get("end_of_word_suffix") or ""
    unknown = {model["unk_token"]} if model.get("unk_token") else set()

    def cut(pieces: Sequence[str]) -> Json:
        new = {piece: index for index, piece in enumerate(pieces)}
        kept = [list(pair) for pair in merges if {*pair, "".join(pair)} <= new.keys()]
        return model | {"vocab": new, "merges": kept}

    return PieceModel(
        ids=model["vocab"],
        needed={p for p in model["vocab"] if len(p.removesuffix(suffix)) <= 1 or _BYTE.fullmatch(p)} | unknown,
        parts_of=lambda piece: _merged_on_the_way(piece, suffix, ranks),
        cut=cut,
    )


_READERS = {"WordPiece": _read_wordpiece, "Unigram": _read_unigram, "BPE": _read_bpe}


def _safety_set(ids: Iterable[str], characters: Callable[[str], list[str]]) -> set[str]:
    """Pieces of one character or byte, and those with a character that has no such piece: nothing else spells them."""
    pieces = set(ids)
    single = {piece for piece in pieces if len(characters(piece)) == 1 or _BYTE.fullmatch(piece)}
    return single | {piece for piece in pieces - single if not single.issuperset(characters(piece))}


def _merged_on_the_way(piece: str, suffix: str, ranks: Mapping[tuple[str, ...], int]) -> AbstractSet[str]:
    """All that BPE makes while it merges the characters of `piece`."""
    symbols = list(piece.removesuffix(suffix)) if suffix else list(piece)
    if suffix and piece.endswith(suffix) and symbols:
        symbols[-1] += suffix
    made = set(symbols)
    while pairs := [(ranks[pair], place) for place, pair in enumerate(pairwise(symbols))
                    if pair in ranks]:  # fmt: skip
        _, place = min(pairs)
        symbols[place : place + 2] = ["".join(symbols[place : place + 2])]
        made.add(symbols[place])
    return made
