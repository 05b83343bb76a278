"""How alike students and their teachers are inside, as the manifests have it, and which layers are most alike.

A model without a teacher, or made before this was measured, has no such fact and is left out.
"""

from dataclasses import dataclass

from pydantic import ValidationError

from artifact.config import Config
from artifact.errors import ArtifactError
from pipeline.results import Report
from pipeline.table import MISSING

Matrix = tuple[tuple[float, ...], ...]
"""A row for each layer of the student, a column for each of the teacher."""

HEADERS = ("layer", "texts as in", "CKA", "relations as in", "QQ", "KK", "VV")


class Relations(Config):
    """Divergence of the relations of each kind, teacher first; from layer 1 on."""

    QQ: Matrix
    KK: Matrix
    VV: Matrix


class Fidelity(Config):
    """`facts.fidelity` of a student's manifest (`distill/fidelity.py`)."""

    teacher: str
    texts: int
    """Validation texts that it was measured on."""
    relation_heads: int
    cka: Matrix
    """From 0, what the first layer reads."""
    relation_kl: Relations
    seconds: float
    """What measuring it cost."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """One student beside its teacher."""

    student: str
    fidelity: Fidelity

    @property
    def nearest_by_texts(self) -> tuple[int, ...]:
        """For each layer of the student from 0 on, the teacher's of the highest CKA."""
        return tuple(row.index(max(row)) for row in self.fidelity.cka)

    @property
    def nearest_by_relations(self) -> tuple[int, ...]:
        """For each layer of the student from 1 on, the teacher's of the least divergence, the three kinds summed."""
        sums = [[sum(kinds) for kinds in zip(*rows, strict=True)] for rows in zip(*self._divergences, strict=True)]
        return tuple(row.index(min(row)) + 1 for row in sums)

    @property
    def lines(self) -> tuple[tuple[str, ...], ...]:
        """Each layer of the student with the teacher's that is most like it, as it is written under `HEADERS`."""
        texts, relations = self.nearest_by_texts, (0, *self.nearest_by_relations)
        return tuple(
            (str(layer), str(texts[layer]), f"{row[texts[layer]]:.3f}", *self._relations(layer, relations[layer]))
            for layer, row in enumerate(self.fidelity.cka)
        )

    @property
    def last(self) -> str:
        """The last layers in one line: what the student's answer is made of, beside what the teacher's is."""
        kinds = (
            f"{kind[-1][-1]:.3f} in {name}" for kind, name in zip(self._divergences, ("QQ", "KK", "VV"), strict=True)
        )
        return f"CKA {self.fidelity.cka[-1][-1]:.3f}; the relations diverge by {', '.join(kinds)}"

    @property
    def _divergences(self) -> tuple[Matrix, Matrix, Matrix]:
        found = self.fidelity.relation_kl
        return found.QQ, found.KK, found.VV

    def _relations(self, layer: int, nearest: int) -> tuple[str, ...]:
        if layer == 0:
            return (MISSING,) * 4
        return str(nearest), *(f"{kind[layer - 1][nearest - 1]:.3f}" for kind in self._divergences)


def find_likenesses(report: Report) -> tuple[Likeness, ...]:
    """Of each model whose facts have it, in the report's order; `ArtifactError` where they cannot be read."""
    found = []
    for name, facts in report.facts.items():
        kind, _, model = name.partition(":")
        if kind == "model" and isinstance(facts, dict) and "fidelity" in facts:
            try:
                parsed = Fidelity.model_validate(facts["fidelity"])
            except ValidationError as error:
                raise ArtifactError(
                    f"facts.fidelity of {name} cannot be read: {error.errors()[0]['msg']}",
                    "it was written by another version; distil the model again",
                ) from None
            found.append(Likeness(student=model, fidelity=parsed))
    return tuple(found)
