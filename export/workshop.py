"""Where graphs are judged: one model being exported, and the texts its precisions answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from artifact.errors import ParityError
from export.answers import Answer, ask_onnx
from export.config import ExportConfig, InstructionSet, Precision
from export.grid import Inputs
from export.invariance import measure_invariance
from export.proof import PROOF_TEXTS
from export.quality import Scores, answer_all, error, kept, score
from export.session import open_session
from export.source import Source
from export.texts import Texts, batches_of, spread_out

_CALIBRATION_BATCH = 16
_ERROR_TEXTS = 128


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """One model being exported, the texts that its precisions are judged on, and where unfinished graphs lie."""

    source: Source
    texts: Texts
    config: ExportConfig
    target: InstructionSet
    scratch: Path
    """Folder for graphs on the way."""
    _answered: dict[Path, tuple[int, list[Answer]]] = field(default_factory=dict, repr=False, compare=False)
    """What graphs answered, by path and time of writing: the same file is judged for several things."""

    def form(self, name: str) -> Path:
        """Where one form of the float32 graph lies: `raw`, `whole` or `light`."""
        return self.scratch / f"{name}.onnx"

    @property
    def raw(self) -> Path:
        """The graph as it was traced."""
        return self.form("raw")

    @property
    def fused(self) -> Path:
        """The fused form that every other precision is made from."""
        return self.form("fused")

    @cached_property
    def reference(self) -> list[Answer]:
        """What float32 answers to the judged texts."""
        return self._answers(self.fused)

    @cached_property
    def reference_scores(self) -> Scores:
        """How good that is."""
        return self.scores(self.fused)

    def scores(self, graph: Path) -> Scores:
        """How good the graph is, text by text."""
        return score(self.source.task, self.source.problem, self._answers(graph), self.reference, self.texts)

    def quality(self, graph: Path) -> float:
        """The share of float32's quality that the graph keeps."""
        return self.scores(graph).value / max(self.reference_scores.value, 1e-9)

    def error(self, graph: Path) -> float:
        """How far its answers to some of the judged texts are from float32's: finer than quality, and soon measured."""
        places = spread_out(len(self.texts.judged), _ERROR_TEXTS)
        texts = [self.texts.judged[place] for place in places]
        answers = answer_all(ask_onnx(open_session(graph)), texts, self.source.pad_id)
        return error(answers, [self.reference[place] for place in places])

    def kept(self, graph: Path) -> dict[str, Any]:
        """Facts of its quality, with an interval."""
        return kept(self.scores(graph), self.reference_scores)

    def calibration_batches(self) -> list[Inputs]:
        """The texts that ranges are learnt from, padded."""
        return [batch for _, batch in batches_of(self.texts.ranged, self.source.pad_id, _CALIBRATION_BATCH)]

    def proof_texts(self) -> tuple[Sequence[Inputs], Int[np.ndarray, " texts"] | None]:
        """The judged texts that the bundle keeps, and their labels where one of several is right."""
        places = spread_out(len(self.texts.judged), PROOF_TEXTS)
        labels = self.texts.labels if self.source.problem == "single-label" else None
        return [self.texts.judged[place] for place in places], None if labels is None else labels[places]

    def try_in_company(self, precision: Precision, graph: Path) -> dict[str, Any]:
        """Facts of how far answers depend on who shares the batch.

        Raises `ParityError` when a precision that must not depend on it does.
        """
        bounds = self.config.invariance
        places = spread_out(len(self.texts.judged), bounds.texts)
        facts = measure_invariance(
            ask_onnx(open_session(graph)), [self.texts.judged[place] for place in places],
            pad_id=self.source.pad_id, problem=self.source.problem,
            batch_size=bounds.batch_size, compositions=bounds.compositions,
        )  # fmt: skip
        if precision in bounds.strict:
            _check_company(precision, facts, bounds.max_flips, bounds.min_cosine)
        return facts | {"strict": precision in bounds.strict}

    def _answers(self, graph: Path) -> list[Answer]:
        written = graph.stat().st_mtime_ns
        if self._answered.get(graph, (None,))[0] != written:
            ask = ask_onnx(open_session(graph))
            self._answered[graph] = written, answer_all(ask, self.texts.judged, self.source.pad_id)
        return self._answered[graph][1]


def _check_company(precision: Precision, facts: dict[str, Any], max_flips: int, min_cosine: float) -> None:
    hint = f"leave {precision} out of export.invariance.strict or of export.precisions, or loosen the bound"
    flips = (facts["labels"] or {}).get("flips", 0)
    if flips > max_flips:
        found = f"{flips} of {facts['labels']['compared']} labels of {precision} change with who shares the batch"
        raise ParityError(f"{found}, more than {max_flips}", hint)
    cosine = facts["outputs"]["sentence_embedding"]["min_cosine"]
    if not cosine >= min_cosine:
        found = f"an embedding of {precision} has cosine {cosine:.5f} to itself in company, less than {min_cosine:g}"
        raise ParityError(found, hint)
