"""The export stage: load, export, fuse, quantize, prove, and lay out the bundle, each step timed.

stage, work = export_stage(Path("out/demo/student"), Path("out/demo/student-bundle"), config, "student")
manifest = run_stage(stage, work)
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from artifact.digest import hash_directory, hash_file
from artifact.disk import enough_disk
from artifact.errors import ExportError
from artifact.manifest import MANIFEST, WORKING
from artifact.progress import progress
from artifact.stage import Stage, Work
from export.config import ExportConfig, Precision
from export.instruction_set import resolve_target
from export.memory import give_back_memory

if TYPE_CHECKING:
    from export.workshop import Workshop

VERSION = 2
_ROOM_HINT = "make room, or name another directory with --out; nothing was sealed"

Timed: TypeAlias = Callable[[str], AbstractContextManager[None]]
"""Wraps a step: its seconds are recorded, and the progress bar moves when it is done."""


class NamedExport(ExportConfig):
    """What the stage is asked for: the recipe's settings with `host` resolved, and the name the bundle bears.

    Resolved, because `host` means another graph on another machine: a bundle made elsewhere is not this recipe's.
    """

    name: str
    """Name of the bundle in `understudy.json`, such as `student`."""


def export_stage(
    model_dir: Path, out: Path, config: ExportConfig, name: str, *, data: Path | None = None
) -> tuple[Stage, Work]:
    """The stage that makes a bundle of the model in `model_dir`, and its work, for `run_stage`.

    `data` is a sealed data set or a file of texts, to learn ranges from and to measure quality on. What we sealed is
    an input; a model or text from elsewhere, such as the Hub's, enters by the hash of its files. Raises `ExportError`
    when `target` is `host` and this machine's instruction set is not known.
    """
    asked = NamedExport(name=name, **config.model_dump() | {"target": resolve_target(config.target)})
    inputs: dict[str, Path] = {}
    digests: dict[str, str] = {}
    if (model_dir / MANIFEST).exists() or (model_dir / WORKING).exists() or not model_dir.is_dir():
        inputs["model"] = model_dir
    else:
        digests["model"] = hash_directory(model_dir)
    if data is not None and data.is_file():
        digests["texts"] = hash_file(data)
    elif data is not None:
        inputs["data"] = data
    stage = Stage(name="export", version=VERSION, kind="bundle", out=out, config=asked, inputs=inputs, digests=digests)
    return stage, lambda directory: run_export(model_dir, directory, asked, name=name, data=data)


def run_export(
    model_dir: Path, out: Path, config: ExportConfig, *, name: str, data: Path | None = None
) -> Mapping[str, Any]:
    """Fill `out` with the bundle of the model in `model_dir`; the facts measured on the way.

    Raises `ExportError` when the model is not one we export or a step fails, `ParityError` when a graph does not
    answer as the model does. Leaves nothing but the bundle's files, and does not seal.
    """
    from export.bundle import FILES, write_bundle
    from export.source import load_source
    from export.texts import read_texts
    from export.workshop import Workshop

    graphs = {precision: out / FILES[precision] for precision in config.precisions}
    with (
        enough_disk(out, ExportError, _ROOM_HINT),
        tempfile.TemporaryDirectory(prefix="understudy-export-") as scratch,
        _timed_steps(f"export {name}", len(graphs) + 4) as (timed, seconds),
    ):
        with timed("load"):
            source = load_source(model_dir)
            texts = read_texts(source, data, config.calibration)
        workshop = Workshop(
            source=source, texts=texts, config=config, target=resolve_target(config.target), scratch=Path(scratch)
        )
        made = _make(workshop, graphs, timed)
        with timed("prove"):
            grid, proofs = _prove(workshop, graphs, out)
        write_bundle(out, source, name=name, precisions=config.precisions)
    about = {
        precision: {"file": FILES[precision], "size_bytes": path.stat().st_size, **made[precision], **proofs[precision]}
        for precision, path in graphs.items()
    }
    return {
        "opset": config.opset,
        "target": workshop.target,
        "task": source.task.name,
        "problem": source.problem,
        "model_type": source.architecture.model_type,
        "layers": source.architecture.layers,
        "embedding_size": source.architecture.hidden,
        "labels": len(source.labels),
        "max_tokens": source.max_tokens,
        "texts": {"origin": texts.origin, "ranged": len(texts.ranged), "judged": len(texts.judged)},
        "parity_grid": grid,
        "precisions": about,
        "seconds": seconds,
    }


def _make(workshop: "Workshop", graphs: Mapping[Precision, Path], timed: Timed) -> dict[Precision, dict[str, Any]]:
    """Every graph at its place; facts of how each was made."""
    from export.graph import export_graph
    from export.precisions import choose_base, fuse_forms, make_graph, ship_fastest

    with timed("export"):
        export_graph(workshop.source, workshop.raw, opset=workshop.config.opset)
    with timed("fuse"):
        counts, base = fuse_forms(workshop), choose_base(workshop)
    made: dict[Precision, dict[str, Any]] = {}
    for precision, path in graphs.items():
        with timed(precision):
            path.parent.mkdir(parents=True, exist_ok=True)
            if precision == "float32":
                made[precision] = {"fused": counts, "variant": ship_fastest(workshop, path), "int8_variant": base}
            else:
                made[precision] = make_graph(precision, workshop, path)
    return made


def _prove(
    workshop: "Workshop", graphs: Mapping[Precision, Path], out: Path
) -> tuple[dict[str, Any], dict[Precision, dict[str, Any]]]:
    """Facts of the parity grid, and of each precision: parity, quality, invariance, and the proof that travels."""
    from export.answers import ask_torch, one_torch_thread
    from export.parity import prove
    from export.proof import PROOF, measure_proof, write_proof
    from export.quality import answer_all

    source = workshop.source
    grid, parity = prove(source, graphs, workshop.config.parity)
    with one_torch_thread():
        some, labels = workshop.proof_texts()
        answers = answer_all(ask_torch(source), some, source.pad_id, 1)
    write_proof(out / PROOF, some, answers, source.pad_id, labels)
    return grid, {
        precision: {
            "parity": parity[precision],
            "quality": workshop.kept(path),
            "invariance": workshop.try_in_company(precision, path),
            "proof": measure_proof(out / PROOF, path),
        }
        for precision, path in graphs.items()
    }


@contextlib.contextmanager
def _timed_steps(description: str, count: int) -> Iterator[tuple[Timed, dict[str, float]]]:
    """A progress bar of `count` steps, and the seconds each took."""
    seconds: dict[str, float] = {}
    with progress(description, total=count) as advance:

        @contextlib.contextmanager
        def timed(step: str) -> Iterator[None]:
            begun = time.perf_counter()
            yield
            give_back_memory()
            seconds[step] = round(time.perf_counter() - begun, 3)
            advance(1, step)

        yield timed, seconds
