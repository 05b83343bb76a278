"""Proof that travels: a few texts and the source model's answers, stored in the bundle, so that anyone can ask again.

write_proof(out / PROOF, ...)               when the bundle is made
prove_again(out, manifest.facts, bound)     ever after, without PyTorch and without the model
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from artifact.errors import ArtifactError, ParityError
from export.domain import DOMAIN
from export.session import open_session
from export.tasks import VECTOR, has_place_per_token
from export.vectors import cosines

PROOF = "proof.npz"
"""Arrays only: numpy reads it with pickle forbidden."""
PROOF_TEXTS = 64
"""Texts stored."""
BATCH = 8
"""Texts asked together, so that padding is part of the proof."""
SLACK = 0.05
"""How much lower a cosine or a share may be on another processor than where the bundle was made."""
_HINT = "the file is as sealed: this version of onnxruntime or this processor computes it otherwise"

Inputs = Mapping[str, np.ndarray]
Answer = Mapping[str, np.ndarray]


def write_proof(
    path: Path, texts: Sequence[Inputs], answers: Sequence[Answer], pad_id: int, labels: np.ndarray | None = None
) -> None:
    """The texts as tokens, what the source says of each alone, and its label, if any."""
    some = range(len(texts))
    lengths = [texts[i]["input_ids"].shape[1] for i in some]
    arrays = {f"input.{name}": np.concatenate([texts[i][name][0] for i in some]) for name in texts[0]}
    for name in answers[0]:
        arrays[f"answer.{name}"] = np.concatenate([answers[i][name].reshape(-1) for i in some]).astype(np.float32)
        arrays[f"sizes.{name}"] = np.array([answers[i][name].size for i in some])
    if labels is not None:
        arrays["labels"] = labels
    np.savez_compressed(path, lengths=np.array(lengths), pad_id=np.array(pad_id), **arrays)  # type: ignore[arg-type]


def measure_proof(proof: Path, graph: Path) -> dict[str, Any]:
    """What the graph says to the stored texts beside what the source said.

    `max_abs_error` over every component and `min_cosine` of the embeddings. Where an answer is a choice, the share of
    texts on which it is the source's (`agreement`), and the label's (`accuracy`) where the texts have one.
    """
    error, cosine, chosen, expected_choices = 0.0, 1.0, list[int](), list[int]()
    session = open_session(graph)
    names = [output.name for output in session.get_outputs() if output.name not in ("last_hidden_state", DOMAIN)]
    for batch, expected in _read_batches(proof, names):
        found = dict(zip(names, session.run(names, dict(batch)), strict=True))
        for row, answer in enumerate(expected):
            kept = batch["attention_mask"][row].astype(bool)
            alone = {name: _flat(name, values[row], kept) for name, values in found.items()}
            error = max(error, *(float(np.abs(alone[name] - answer[name]).max()) for name in names))
            cosine = min(cosine, float(cosines(alone[VECTOR][None], answer[VECTOR][None])[0]))
            chosen.append(int(alone[names[0]].argmax()))
            expected_choices.append(int(answer[names[0]].argmax()))
    measured = {"texts": len(chosen), "max_abs_error": error, "min_cosine": cosine}
    if names[0] != VECTOR and len(alone[names[0]]) > 1:
        measured["agreement"] = float(np.mean(np.equal(chosen, expected_choices)))
    labels = _read_labels(proof)
    return measured if labels is None else measured | {"accuracy": float((labels == chosen).mean())}


def add_distances(proof: Path, graph: Path, precision: str) -> None:
    """Store what the guarded graph of one precision measures of the stored texts, to be asked again with the rest."""
    with np.load(proof, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays[f"domain.{precision}"] = _distances(proof, graph)
    np.savez_compressed(proof, **arrays)


def _distances(proof: Path, graph: Path) -> np.ndarray:
    session = open_session(graph)
    return np.concatenate([session.run([DOMAIN], dict(batch))[0] for batch, _ in _read_batches(proof, [])])


def _check_distances(proof: Path, graph: Path, precision: str) -> str:
    """How far the gate's distances are from those stored, in words; nothing where the graph has no gate."""
    with np.load(proof, allow_pickle=False) as stored:
        expected = stored[f"domain.{precision}"] if f"domain.{precision}" in stored.files else None
    if expected is None:
        return ""
    error = float(np.abs(_distances(proof, graph) / expected - 1).max())
    if not error <= SLACK:
        raise ParityError(
            f"distances of the {precision} gate moved by {error:.3g} of what they were, not {SLACK:g}", _HINT
        )
    return f"; distances within {error:.2g}"


def prove_again(directory: Path, facts: Mapping[str, Any], float32_max_abs_error: float) -> list[str]:
    """Ask every graph of the bundle again, float32 to be within the bound that its recipe set: a line for each.

    Raises `ParityError` when float32 no longer answers as the source did, another precision is further from it than
    when the bundle was made, or fused nodes are fewer; `ArtifactError` when the bundle holds no proof.
    """
    proof = directory / PROOF
    if not proof.is_file():
        raise ArtifactError(
            f"{directory} holds no {PROOF}", "export it again: bundles made before this version had none"
        )
    lines = []
    for precision, about in facts["precisions"].items():
        graph = directory / about["file"]
        found, recorded = measure_proof(proof, graph), about["proof"]
        _check(precision, found, recorded, float32_max_abs_error)
        nodes = _check_nodes(precision, graph, _recorded_nodes(about)) + _check_distances(proof, graph, precision)
        shares = "".join(
            f", {name} {found[name]:.3f} (sealed with {recorded[name]:.3f})" for name in _kept_of(recorded)
        )
        error = f"max error {found['max_abs_error']:.2g}"
        lines.append(f"{precision}: {found['texts']} stored texts, {error}{shares}; {nodes}")
    return lines


def _recorded_nodes(about: Mapping[str, Any]) -> Mapping[str, int]:
    """Kinds of nodes that the precision is fast by: fused ones where that graph was shipped, or quantized ones."""
    if "quantization" in about:
        return dict(about["quantization"].get("nodes", {}))
    return dict(about["fused"].get(about["variant"]["chosen"], {}))


def _kept_of(recorded: Mapping[str, Any]) -> list[str]:
    """The measures that must not get worse, of those that were taken."""
    return [name for name in ("min_cosine", "agreement", "accuracy") if name in recorded]


def _check(precision: str, found: Mapping[str, Any], recorded: Mapping[str, Any], bound: float) -> None:
    if precision == "float32" and not found["max_abs_error"] <= bound:
        error = f"{found['max_abs_error']:.3g}, more than {bound:g}"
        raise ParityError(f"float32 differs from its source's stored answers by {error}", _HINT)
    for measure in _kept_of(recorded):
        if not found[measure] >= recorded[measure] - SLACK:
            values = f"{found[measure]:.3f} on the stored texts, {recorded[measure]:.3f} when it was made"
            raise ParityError(f"{measure} of {precision} is {values}", _HINT)


def _check_nodes(precision: str, graph: Path, recorded: Mapping[str, int]) -> str:
    kinds = Counter(node.op_type for node in onnx.load(graph, load_external_data=False).graph.node)
    found = {kind: kinds[kind] for kind in recorded}
    lost = [f"{kind} {found[kind]} of {count}" for kind, count in recorded.items() if found[kind] < count]
    if lost:
        raise ParityError(f"the {precision} graph has fewer nodes than recorded: {', '.join(lost)}")
    return ", ".join(f"{kind} {count}" for kind, count in found.items()) or "no nodes recorded"


def _read_batches(proof: Path, names: Sequence[str]) -> Iterator[tuple[Inputs, list[Answer]]]:
    with np.load(proof, allow_pickle=False) as stored:
        lengths, pad_id = stored["lengths"], int(stored["pad_id"])
        inputs = {name.removeprefix("input."): stored[name] for name in stored.files if name.startswith("input.")}
        answers = {name: np.split(stored[f"answer.{name}"], np.cumsum(stored[f"sizes.{name}"])[:-1]) for name in names}
    places = np.split(np.arange(lengths.sum()), np.cumsum(lengths)[:-1])
    for first in range(0, len(lengths), BATCH):
        rows = range(first, min(first + BATCH, len(lengths)))
        width = int(max(lengths[row] for row in rows))
        batch = {
            name: np.stack([_fill(values[places[row]], width, pad_id if name == "input_ids" else 0) for row in rows])
            for name, values in inputs.items()
        }
        yield batch, [{name: answers[name][row] for name in names} for row in rows]


def _fill(values: np.ndarray, width: int, fill: int) -> np.ndarray:
    return np.pad(values, (0, width - len(values)), constant_values=fill)


def _flat(name: str, values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """One text's answer without padding, as one row of numbers."""
    return (values[kept] if has_place_per_token(name, values.ndim + 1) else values).reshape(-1)


def _read_labels(proof: Path) -> np.ndarray | None:
    with np.load(proof, allow_pickle=False) as stored:
        return stored["labels"] if "labels" in stored.files else None
