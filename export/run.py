"""The export stage: load, export, fuse, quantize, prove, and lay out the bundle, each step timed.

stage, work = export_stage(Path("out/demo/student"), Path("out/demo/student-bundle"), config, "student")
manifest = run_stage(stage, work)
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from artifact.digest import hash_directory
from artifact.manifest import MANIFEST, WORKING
from artifact.stage import Stage, Work
from export.config import ExportConfig
from export.instruction_set import resolve_target


class NamedExport(ExportConfig):
    """What the stage is asked for: the recipe's settings with `host` resolved, and the name the bundle bears.

    Resolved, because `host` means another graph on another machine: a bundle made elsewhere is not this recipe's.
    """

    name: str
    """Name of the bundle in `understudy.json`, such as `student`."""


def export_stage(model_dir: Path, out: Path, config: ExportConfig, name: str) -> tuple[Stage, Work]:
    """The stage that makes a bundle of the model in `model_dir`, and its work, for `run_stage`.

    A model we sealed is an input; one from elsewhere, such as the Hub's, enters by the hash of its files. Raises
    `ExportError` when `target` is `host` and this machine's instruction set is not known.
    """
    asked = NamedExport(name=name, **config.model_dump() | {"target": resolve_target(config.target)})
    ours = (model_dir / MANIFEST).exists() or (model_dir / WORKING).exists() or not model_dir.is_dir()
    stage = Stage(
        name="export",
        version=1,
        kind="bundle",
        out=out,
        config=asked,
        inputs={"model": model_dir} if ours else {},
        digests={} if ours else {"model": hash_directory(model_dir)},
    )
    return stage, lambda directory: run_export(model_dir, directory, asked, name=name)


def run_export(model_dir: Path, out: Path, config: ExportConfig, *, name: str) -> Mapping[str, Any]:
    """Fill `out` with the bundle of the classifier in `model_dir`; the facts measured on the way.

    Raises `ExportError` when the model is not one we export or a step fails, `ParityError` when a graph does not
    answer as the model does. Leaves nothing but the bundle's files, and does not seal.
    """
    from export.bundle import FILES, write_bundle
    from export.fuse import fuse
    from export.graph import export_graph
    from export.parity import prove
    from export.quantize import quantize
    from export.source import load_source

    seconds: dict[str, float] = {}
    timed = partial(_timed, seconds)
    target = resolve_target(config.target)
    graphs = {precision: out / FILES[precision] for precision in config.precisions}
    with timed("load"):
        source = load_source(model_dir)
    with tempfile.TemporaryDirectory(prefix="understudy-export-") as scratch:
        raw = Path(scratch) / "model.onnx"
        with timed("export"):
            export_graph(source, raw, opset=config.opset)
        with timed("fuse"):
            steps: dict[str, Any] = {"float32": {"fused": fuse(raw, graphs["float32"], source.architecture)}}
    if "int8" in graphs:
        with timed("quantize"):
            steps["int8"] = {"quantization": quantize(graphs["float32"], graphs["int8"], target)}
    with timed("prove"):
        grid, parity = prove(source, graphs, config.parity)
    write_bundle(out, source, name=name, precisions=config.precisions)
    return {
        "opset": config.opset,
        "target": target,
        "model_type": source.architecture.model_type,
        "layers": source.architecture.layers,
        "embedding_size": source.architecture.hidden,
        "labels": len(source.labels),
        "max_tokens": source.max_tokens,
        "parity_grid": grid,
        "precisions": {
            precision: {
                "file": FILES[precision],
                "size_bytes": path.stat().st_size,
                **steps[precision],
                "parity": parity[precision],
            }
            for precision, path in graphs.items()
        },
        "seconds": seconds,
    }


@contextlib.contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - begun, 3)
