"""NOESIS II on deployed bundles: what their reports say, one model that picks before another reads, and the page.

    python -m benchmarks.noesis out/noesis-bi out/noesis-cross

The folders are the outputs of `recipes/noesis/bi.yaml` and `cross.yaml`, run to their reports; the second may be
missing. What is measured goes to `benchmarks/noesis/results/`; the page `docs/results/noesis.md`, its drawing and
`docs/results/systems/noesis.json` are written from there, and with `--page-only` from what is there.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from artifact.manifest import write_json
from artifact.progress import say
from benchmarks.noesis.kept import measure_kept
from benchmarks.noesis.page import write_page
from benchmarks.noesis.rerank import measure_rerank
from pipeline.gate import read_report
from pipeline.machine import fingerprint, load_average
from pipeline.results import Report
from serve.selection.config import MOST_RESCORED

RESULTS = Path(__file__).parent / "results" / "noesis.json"
PAGE = Path("docs/results/noesis.md")
PAIRS = (("retriever/float32", "teacher/float32"), ("retriever/int8", "student/int8"))
"""Who picks and who reads, of the second folder's rows."""
KEPT = ("student/float32", "student/int8")
"""Whose kept vectors are compared with new ones, of the first folder's rows, on so many queries."""
KEPT_QUERIES = 50


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noesis", description=__doc__.splitlines()[0])
    parser.add_argument("bi", type=Path, nargs="?", default=Path("out/noesis-bi"), metavar="BI")
    parser.add_argument("cross", type=Path, nargs="?", default=Path("out/noesis-cross"), metavar="CROSS")
    parser.add_argument("--page-only", action="store_true", help="write the page of the results that are there")
    options = parser.parse_args(arguments)
    if not options.page_only:
        RESULTS.parent.mkdir(exist_ok=True)
        write_json(RESULTS, measure(options.bi, options.cross))
    write_page(json.loads(RESULTS.read_text(encoding="utf-8")), PAGE)
    say(f"page     {PAGE}")


def measure(bi: Path, cross: Path) -> dict[str, Any]:
    """What both reports say, and what pairs of the second folder's models do together."""
    folders = {"bi": bi} | ({"cross": cross} if (cross / "report").is_dir() else {})
    found = {part: read_report(folder / "report") for part, folder in folders.items()}
    reports = {part: summary_of(report) for part, report in found.items()}
    before = load_average()
    pairs = [measure_rerank(cross, retriever, reader, MOST_RESCORED) for retriever, reader in PAIRS if "cross" in found]
    for pair in pairs:
        pair["row"].pop("predictions")
    kept = [measure_kept(bi, row, KEPT_QUERIES) for row in KEPT]
    benches = [report.benchmark.load_average for report in found.values()]
    load = {"before": before, "after": load_average()}
    load |= {when: max(load[when], *(bench[when] for bench in benches if when in bench)) for when in load}
    return {**reports, "pairs": pairs, "kept": kept, "machine": fingerprint(), "load": load}


def summary_of(report: Report) -> dict[str, Any]:
    """Of a report what the page needs: no sample, no answer."""
    rows = {name: row.model_dump(mode="json", exclude={"predictions"}) for name, row in report.evaluation.rows.items()}
    trained = {name: facts for name, facts in report.facts.items() if name.startswith("model:")}
    return {
        "recipe": report.recipe,
        "candidate": report.candidate,
        "verdict": report.verdict,
        "gates": [gate.model_dump(mode="json") for gate in report.gates],
        "rows": rows,
        "p50_ms": {row.row: row.p50_ms.model_dump() for row in report.rows if row.p50_ms is not None},
        "size_bytes": {row.row: row.size_bytes for row in report.rows if row.size_bytes is not None},
        "examples": report.facts["data"]["examples"],
        "test": {"queries": len(report.evaluation.truths), "none": sum(t == -1 for t in report.evaluation.truths)},
        "train_seconds": {name: facts.get("seconds", 0.0) for name, facts in trained.items()},
        "device": sorted({str(facts.get("device")) for facts in trained.values()}),
        "machine": report.machine,
        "load": report.benchmark.load_average,
        "lineage": report.lineage,
    }


if __name__ == "__main__":
    main()
