"""What the service asks of a model, whatever runs it: texts in, arrays out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from serve.passages.passage import Passage

Problem = Literal["single-label", "multi-label", "regression", "token-labels", "answer-span"]
"""What the columns of a classifier's logits are: rivals, independent yes or no, or a measured quantity.

The last two are of graphs that give no row a text, but one a token: rivals of each token, or whether an answer begins
and ends there.
"""
DOMAIN = "domain_distance"
"""Output of a guarded graph: `[batch]`, how far each text is from those the model knows."""
PER_TOKEN = frozenset({"start_logits", "end_logits", "token_logits"})
"""Outputs with a value for each token; `token_logits` are the `logits` of a graph that tags tokens."""
Text: TypeAlias = str | tuple[str, str]
"""What a model is asked about: a text, or two texts that it reads together as a pair."""
Side = Literal["left", "right"]
"""An end of a text."""
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Computed: TypeAlias = Mapping[str, Sequence[Floats]]
"""What a graph gave, by output: one array a row, `[columns]`, or `[tokens, …]` where it has one for each token."""


class Piece(Protocol):
    """A text, a pair or a window of either, as tokens and not yet padded; `tokenizers.Encoding` is one."""

    @property
    def ids(self) -> Sequence[int]:
        """The vocabulary's numbers, special tokens included."""

    @property
    def type_ids(self) -> Sequence[int]:
        """0 for the first text of a pair, 1 for the second."""

    def __len__(self) -> int:
        """Tokens."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Texts as the graph wants them, not yet padded."""

    encodings: Sequence[Piece]
    lengths: Integers
    """`[batch]`, at least 1: a text without any token counts its one slot of padding."""
    truncated: NDArray[np.bool_]
    """`[batch]`: whether an end of the text was dropped."""
    seconds: float
    """Time it took."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Answers to a list of texts, one row per text, in the order they were given."""

    logits: Floats
    """`[batch, labels]`; no columns when the model has no labels."""
    embeddings: Floats
    """`[batch, hidden]`; no columns when the model gives no embedding."""
    tokens: Integers
    """`[batch]`: tokens each text was cut into, special ones included, after truncation."""
    truncated: NDArray[np.bool_] | None = None
    """`[batch]`: whether an end of the text was dropped; None when the engine cannot say."""
    padded_tokens: int = 0
    """Token slots computed, padding included; 0 when the engine does not count them."""
    tokenization_seconds: float = 0.0
    """Part of the call that was spent on tokenization; 0 when the engine does not measure it."""
    domain: Floats | None = None
    """`[batch]`: how far each text is from those the model knows; None when the graph does not say."""
    pieces: Mapping[str, Sequence[Floats]] = field(default_factory=dict)
    """Outputs that say something of every token, by name: one `[tokens, …]` array a row, padding left out."""


class Token(NamedTuple):
    """One token of a text."""

    id: int
    text: str
    """The characters it stands for; of a special token, its name."""
    special: bool
    """Whether the model added it, such as `[CLS]`."""
    start: int | None
    """First of its characters in the text; None for a special token."""
    stop: int | None
    """One past the last of them; None for a special token."""


class Engine(Protocol):
    """A model that answers; `serve.runtime.Runtime` is one, and a PyTorch teacher can be another.

    Its methods are called from one thread at a time.
    """

    @property
    def name(self) -> str:
        """`model/precision`, such as `student/int8`: the row of the report it belongs to."""

    @property
    def labels(self) -> Sequence[str]:
        """Names of the columns of the logits."""

    @property
    def problem(self) -> Problem | None:
        """What the logits are; None for a model that ranks, or that has none."""

    @property
    def embedding_size(self) -> int:
        """Columns of the embeddings; 0 when it gives none."""

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens; what lies beyond is dropped."""

    @property
    def pooling(self) -> str:
        """How one vector is made of a text: `mean`, `cls` or `max`."""

    @property
    def batch_tokens(self) -> int:
        """Padded tokens computed at once; longer calls are cut."""

    def run(self, texts: Sequence[Text]) -> Outputs:
        """Answers to `texts`, in their order; no text's answer depends on the others."""

    def show_tokens(self, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
        """The tokens of each text, none cut off; with those the model adds of its own when `special`."""


class Servable(Engine, Protocol):
    """An engine whose work can be shared out: tokens of many requests in one run, runs on several threads at once.

    `serve.runtime.Runtime` is one.
    """

    def tokenize(self, texts: Sequence[Text], *, cut: Side | None = None) -> Tokens:
        """`texts` as tokens, `max_tokens` at most; any thread may call it at any time.

        What is too long loses tokens at the end `cut`; None: as the model was trained.
        """

    def read(self, texts: Sequence[Text]) -> tuple[list[Passage], float]:
        """`texts` as tokens, none cut off, with their characters, and the seconds it took; from any thread, too."""

    def compute(self, encodings: Sequence[Piece], *, wide: bool) -> Computed:
        """One run of the graph: on all threads of the plan when `wide`, else on the thread that calls alone."""


def outputs_of(engine: Engine, tokens: Tokens, computed: Computed, padded_tokens: int) -> Outputs:
    """What `computed`, a row for each of `tokens`, answers."""
    rows = len(tokens.lengths)
    columns = 0 if engine.problem in KINDS_BY_TOKEN else len(engine.labels)
    stacked = {name: np.stack(arrays) for name, arrays in computed.items() if rows and name not in PER_TOKEN}
    return Outputs(
        logits=stacked.get("logits", np.zeros((rows, columns), dtype=np.float32)),
        embeddings=stacked.get("sentence_embedding", np.zeros((rows, engine.embedding_size), dtype=np.float32)),
        tokens=tokens.lengths,
        truncated=tokens.truncated,
        padded_tokens=padded_tokens,
        tokenization_seconds=tokens.seconds,
        domain=stacked.get(DOMAIN),
        pieces={name: arrays for name, arrays in computed.items() if name in PER_TOKEN},
    )


Kind = Literal["classifier", "reranker", "embedding", "tagger", "reader"]
"""What a model is for: text-embeddings-inference's words, and ours for what it does not serve."""
KINDS_BY_TOKEN: Mapping[str | None, Kind] = {"token-labels": "tagger", "answer-span": "reader"}
"""By problem, of models that give a row a token: one labels tokens, the other finds answers."""


class Described(Protocol):
    """As much of a model as says what it is for."""

    @property
    def labels(self) -> Sequence[str]:
        """Names of the columns of the logits."""

    @property
    def problem(self) -> Problem | None:
        """What the logits are."""


def kind_of(engine: Described) -> Kind:
    """By its columns: none, an embedding; one, which two texts can be put in order by; several, labels.

    Of a graph that gives a row a token, by what that says.
    """
    if engine.problem in KINDS_BY_TOKEN:
        return KINDS_BY_TOKEN[engine.problem]
    if not engine.labels:
        return "embedding"
    return "classifier" if len(engine.labels) > 1 else "reranker"


def scores_of(logits: Floats, problem: Problem | None) -> Floats:
    """What a person wants to read off `logits`: shares of rivals, chances each for itself, or a quantity as it is.

    A ranking's one column becomes a chance too: of two equal scores, neither is the better answer.
    """
    if problem == "regression":
        return logits
    if problem == "single-label":
        return softmax(logits)
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


def softmax(logits: Floats) -> Floats:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def normalize(embeddings: Floats) -> Floats:
    """Rows scaled to length one; a row of zeros stays."""
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, np.float32(1e-12)), dtype=np.float32)
