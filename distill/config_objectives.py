"""What a recipe says about an objective: one tagged union, whose maths is in `distill/objectives/`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from artifact.config import Config

RelationName = Literal["QQ", "QK", "QV", "KQ", "KK", "KV", "VQ", "VK", "VV"]
LayerMap = Literal["last", "top", "uniform"]
"""Which teacher layer teaches which student layer: only the last, the topmost ones in order, or evenly spaced ones."""
Pooling = Literal["mean", "first"]
"""A sentence's vector: the mean of the last layer's tokens, or its first token."""


class _Layered(Config):
    """An objective that matches layers of the student with layers of the teacher."""

    weight: float = Field(default=1.0, gt=0)
    teacher_layer: int | None = Field(default=None, gt=0)
    """1-based, for the layer map `last`; left out, the papers' choice for the teacher's kind and depth."""
    layers: LayerMap | None = None
    """Left out: `last`."""

    @model_validator(mode="after")
    def _check_layers(self) -> "_Layered":
        if self.teacher_layer is not None and self.layers not in (None, "last"):
            raise ValueError(f"teacher_layer goes with the layer map `last`, not {self.layers!r}")
        return self


class Relations(_Layered):
    """Self-attention relations of one teacher layer, matched by the student's last layer (MiniLM, MiniLMv2)."""

    kind: Literal["relations"]
    pairs: dict[RelationName, Annotated[float, Field(gt=0)]] = Field(
        default={"QQ": 1.0, "KK": 1.0, "VV": 1.0}, min_length=1
    )
    """Relation to weight. MiniLMv2: QQ, KK, VV. MiniLM: QK, VV."""
    relation_heads: int | None = Field(default=None, gt=0)
    """A_r, into which the concatenated vectors are split (MiniLMv2); left out, the models' own heads (MiniLM)."""


class Attention(_Layered):
    """Attention maps, from each model's own queries and keys (MiniLM eq. 6; TinyBERT; XtremeDistil)."""

    kind: Literal["attention"]
    measure: Literal["kl", "mse"] = "kl"
    """Divergence of the distributions, teacher first, or squared error of the probabilities."""


class Hidden(_Layered):
    """Hidden states, through a learnt projection where the widths differ; it is dropped after training."""

    kind: Literal["hidden"]
    measure: Literal["mse", "kld"] = "mse"
    """Squared error (XtremeDistilTransformers), or divergence on a GELU projection (XtremeDistil, eqs. 5-6)."""
    tokens: Literal["all", "first"] = "all"
    """Every real token, or only the first (a classifier's `[CLS]`)."""


class Embedding(Config):
    """The sentence's vector, through a learnt projection where the widths differ."""

    kind: Literal["embedding"]
    weight: float = Field(default=1.0, gt=0)
    measure: Literal["cosine", "mse", "similarity"] = "cosine"
    """`similarity` matches the cosines between all texts of a batch and needs no common width."""
    pooling: Pooling = "mean"


class Ranking(Config):
    """Scores of text pairs, both encoded apart; the other pairs of a batch are the negatives."""

    kind: Literal["ranking"]
    weight: float = Field(default=1.0, gt=0)
    measure: Literal["margin_mse", "in_batch"] = "in_batch"
    """Squared error of the margins over each negative, or divergence of the softmax over the batch."""
    temperature: float = Field(default=0.05, gt=0)
    """Divides the cosines before the softmax of `in_batch`."""
    pooling: Pooling = "mean"


class Contrastive(Config):
    """Each text's own answer among those of the batch, by cosine: what a bi-encoder learns without a teacher.

    Cross-entropy over the batch's answers (Henderson et al., arXiv 1705.00652, section 4.4).
    """

    kind: Literal["contrastive"]
    weight: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=0.05, gt=0)
    """Divides the cosines before the softmax."""
    pooling: Pooling = "mean"


class Logits(Config):
    """Kullback-Leibler divergence to the teacher's softened probabilities, times temperature squared.

    Of classes; of the labels of each word, or of each token of a corpus; of where an answer begins and ends; of an
    utterance being right. Of a quantity, half the squared error.
    """

    kind: Literal["logits"]
    weight: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    measure: Literal["kl", "mse"] | None = None
    """Left out: `kl`. `mse` is half the squared error of the logits (XtremeDistil, eq. 4), at temperature 1."""

    @model_validator(mode="after")
    def _check_measure(self) -> "Logits":
        if self.measure == "mse" and self.temperature != 1.0:
            raise ValueError("the squared error of logits knows no temperature: leave it at 1")
        return self


class Labels(Config):
    """Cross-entropy with what the data set says: labels of texts or words, places of answers, the right utterance.

    Of a quantity, the squared error.
    """

    kind: Literal["labels"]
    weight: float = Field(default=1.0, gt=0)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target mass spread over all labels."""


class MaskedLanguage(Config):
    """Cross-entropy of masked tokens, which the model fills in from the others (BERT, arXiv 1810.04805, section 3.1).

    The one objective of its phase. It needs neither teacher nor labels.
    """

    kind: Literal["mlm"]
    weight: float = Field(default=1.0, gt=0)
    mask_share: float = Field(default=0.15, gt=0, lt=1)
    """Share of a text's tokens to be predicted: of these, 80 % read as the mask, 10 % as any other piece."""
    whole_words: bool = False
    """Choose words, and predict all pieces of each, instead of choosing pieces."""


Objective = Annotated[
    Relations | Attention | Hidden | Embedding | Ranking | Contrastive | Logits | Labels | MaskedLanguage,
    Field(discriminator="kind"),
]
