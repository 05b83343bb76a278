"""What a training step reads: texts padded to one length, or packed into rows where each text sees only itself.

Objectives always see one text a row (`mask`, and what `unpack` returns), so that they need not know about packing.
Texts are padded on the right.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.errors import ModelError
from distill.architectures import ARCHITECTURES, architecture_of


@dataclass(frozen=True)
class Batch:
    """Some texts, ready for the models."""

    inputs: dict[str, Tensor]
    """What every model takes: `input_ids` and `attention_mask`; packed, `position_ids`; of pairs, `token_type_ids`,
    which a model without types is not given. Of single texts all types are 0, as where nobody gives any."""
    mask: Bool[Tensor, "batch seq"]
    """Where a text has a token; always one text a row, also when the inputs are packed."""
    labels: Int[Tensor, "batch"] | Float[Tensor, "batch"] | Int[Tensor, "batch 2"]
    """-1 where nobody knows; or a quantity, or the chance of being right, or first and last token of an answer."""
    where: Int[Tensor, "batch seq"] | None = None
    """Packed texts only: index of each token in the flattened rows of the inputs; 0 at padding."""
    texts: tuple[int, ...] | None = None
    """Which of the split's texts these are, by index; None where they come from a stream, or were changed."""
    candidates: Int[Tensor, "queries candidates"] | None = None
    """Texts of the batch, by index, that are learnt among one another: those of each query, the right one last; -1
    before them, where a query has fewer than another. None where each text is learnt for itself."""
    targets: Int[Tensor, "batch seq"] | None = None
    """What is to be found in places of a text, one text a row, -1 elsewhere: hidden tokens, or labels of words. None
    where nothing is."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        where, candidates, targets = (
            None if tensor is None else tensor.to(device) for tensor in (self.where, self.candidates, self.targets)
        )
        return replace(
            self, inputs=inputs, mask=self.mask.to(device), labels=self.labels.to(device),
            where=where, candidates=candidates, targets=targets,
        )  # fmt: skip

    def unpack(self, x: Float[Tensor, "rows row hidden"]) -> Float[Tensor, "batch seq hidden"]:
        """What a model says of its inputs, one text a row; `x` itself when the texts are not packed.

        At padding it repeats the first token of the first row, which `mask` hides.
        """
        return x if self.where is None else x.flatten(0, 1)[self.where]

    @property
    def counted(self) -> int:
        """How many a loss is the mean over: texts, queries, or the places where something is to be found."""
        if self.candidates is not None:
            return len(self.candidates)
        return len(self.labels) if self.targets is None else int((self.targets >= 0).sum())

    def with_targets(self, targets: Int[Tensor, "batch seq"]) -> "Batch":
        """The same batch with tokens to be found."""
        return replace(self, targets=targets)

    def token_ids(self) -> Int[Tensor, "batch seq"]:
        """The tokens, one text a row; at padding, anything."""
        ids = self.inputs["input_ids"]
        return ids if self.where is None else ids.flatten()[self.where]

    def with_token_ids(self, ids: Int[Tensor, "batch seq"]) -> "Batch":
        """The same batch with other tokens, given one text a row."""
        if self.where is None:
            return replace(self, inputs=self.inputs | {"input_ids": ids}, texts=None)
        rows = self.inputs["input_ids"]
        changed = rows.flatten().index_put((self.where[self.mask],), ids[self.mask]).view_as(rows)
        return replace(self, inputs=self.inputs | {"input_ids": changed}, texts=None)


@dataclass(frozen=True)
class InputForm:
    """What a tokenizer knows about the inputs of its models."""

    pad_id: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "InputForm":
        """`ModelError` when the tokenizer cannot pad."""
        if tokenizer.pad_token_id is None:
            raise ModelError("the tokenizer has no padding token", "set pad_token in its tokenizer_config.json")
        return cls(tokenizer.pad_token_id)


def collate_padded(
    texts: Sequence[Int[Tensor, "_"]],
    labels: Sequence[Any],
    form: InputForm,
    *,
    types: Sequence[Int[Tensor, "_"]] | None = None,
    tags: Sequence[Int[Tensor, "_"]] | None = None,
) -> Batch:
    """`texts` as a batch, padded to the longest of them, with the type and the label of each token where there are."""
    mask = _mask_of(texts)
    inputs = {"input_ids": _filled(mask, texts, form.pad_id), "attention_mask": mask.long()}
    if types is not None:
        inputs["token_type_ids"] = _filled(mask, types, 0)
    targets = None if tags is None else _filled(mask, tags, -1)
    return Batch(inputs, mask, torch.tensor(labels), targets=targets)


def collate_packed(
    rows: Sequence[Sequence[Int[Tensor, "_"]]], labels: Sequence[Any], form: InputForm, *, first_position: int
) -> Batch:
    """The texts of each of `rows` one after the other, the rows padded to the longest; `labels` in the same order.

    Positions begin anew with each text. The mask has a matrix for each row, in which a text's tokens see each other and
    nothing else; so do the padding tokens of a row, lest a softmax be over nothing.
    """
    texts = [text for row in rows for text in row]
    mask, where, (height, width) = _mask_of(texts), _places_of(rows), _size_of(rows)
    used = (where.unsqueeze(1) + torch.arange(mask.shape[1]))[mask]
    ids = torch.full((height * width,), form.pad_id)
    ids[used] = torch.cat(texts).long()
    position = torch.zeros_like(ids)
    position[used] = (torch.arange(mask.shape[1]) + first_position).expand(mask.shape)[mask]
    text = torch.zeros_like(ids)
    text[used] = (torch.arange(len(texts)) + 1).unsqueeze(1).expand(mask.shape)[mask]
    number = text.view(height, width)
    inputs = {
        "input_ids": ids.view(height, width),
        "position_ids": position.view(height, width),
        "attention_mask": number.unsqueeze(2) == number.unsqueeze(1),
    }
    index = torch.zeros(mask.shape, dtype=torch.long).masked_scatter(mask, used)
    return Batch(inputs, mask, torch.tensor(labels), index)


def first_position_of(*models: PreTrainedModel) -> int:
    """`first_position` of packed texts that all `models` read.

    `ModelError` for an architecture that cannot tell one text of a row from the next, and for models that disagree.
    """
    firsts = {model.config.model_type: _first_position(model) for model in models}
    if len(set(firsts.values())) > 1:
        told = ", ".join(f"{name} counts from {first}" for name, first in firsts.items())
        raise ModelError(f"packed texts have one set of positions, but {told}", "turn phase.packing off")
    return next(iter(firsts.values()))


def _first_position(model: PreTrainedModel) -> int:
    first = architecture_of(model).first_position
    if first is not None:
        return first(model.config)
    packable = ", ".join(sorted(name for name, row in ARCHITECTURES.items() if row.first_position is not None))
    name = model.config.model_type
    raise ModelError(
        f"{name} takes no positions or no mask by pairs, so its texts cannot be packed; expected one of {packable}",
        "turn phase.packing off: batch_tokens alone groups texts of like length",
    )


def _filled(mask: Bool[Tensor, "batch seq"], rows: Sequence[Tensor], padding: int) -> Int[Tensor, "batch seq"]:
    filled = torch.full(mask.shape, padding)
    filled[mask] = torch.cat(list(rows)).long()
    return filled


def _mask_of(texts: Sequence[Tensor]) -> Bool[Tensor, "batch seq"]:
    lengths = torch.tensor([len(text) for text in texts])
    return torch.arange(int(lengths.max())) < lengths.unsqueeze(1)


def _size_of(rows: Sequence[Sequence[Tensor]]) -> tuple[int, int]:
    return len(rows), max(sum(len(text) for text in row) for row in rows)


def _places_of(rows: Sequence[Sequence[Tensor]]) -> Int[Tensor, "batch"]:
    """Index of each text's first token in the flattened rows."""
    width = _size_of(rows)[1]
    starts = []
    for number, row in enumerate(rows):
        start = number * width
        for text in row:
            starts.append(start)
            start += len(text)
    return torch.tensor(starts)
