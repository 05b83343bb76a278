"""A judgement, and how it leaves: lines, JSON, JUnit, Markdown for a pull request, annotations for GitHub.

judgement = judge_files(Path("out/demo/report"), baseline=None)
write_outputs(judgement, {"json": Path("gate.json"), "markdown": Path("gate.md")})
"""

from collections.abc import Mapping
from pathlib import Path

from artifact.errors import ArtifactError
from pipeline.gate import EXIT_CODES, judge_again, overall, read_report
from pipeline.gate_baseline import compare_with_baseline
from pipeline.junit import render_suite
from pipeline.markdown import render_judgement
from pipeline.results import Judgement, Verdict

_LEVELS: dict[Verdict, str] = {"fail": "error", "inconclusive": "warning"}


def judge_files(path: Path, baseline: Path | None) -> Judgement:
    """Judge the report at `path` again from its own samples; with a `baseline`, against that report too.

    Raises `ArtifactError` when either is no report, or one of another schema.
    """
    report, earlier = read_report(path), read_report(baseline) if baseline is not None else None
    results, notes = judge_again(report), list[str]()
    if earlier is not None:
        more, notes = compare_with_baseline(report, earlier)
        results += more
    verdict = overall(results)
    return Judgement(
        recipe=report.recipe,
        candidate=report.candidate,
        baseline=earlier and earlier.candidate,
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        gates=results,
        notes=tuple(notes),
    )


def render_lines(judgement: Judgement) -> list[str]:
    """What a person reads, a line a gate, the verdict last."""
    lines = [f"{gate.verdict:<12}  {gate.name}: {gate.reason}" for gate in judgement.gates]
    return [*lines, *judgement.notes, f"verdict: {judgement.verdict}"]


def render_annotations(judgement: Judgement) -> list[str]:
    """GitHub's workflow commands: a failed gate is an error, an inconclusive one a warning, a note a notice."""
    found = [
        f"::{_LEVELS[gate.verdict]} title={_escape_property(f'{gate.name}: {gate.verdict}')}::{_escape(gate.reason)}"
        for gate in judgement.gates
        if gate.verdict in _LEVELS
    ]
    return [*found, *(f"::notice title=not comparable::{_escape(note)}" for note in judgement.notes)]


def write_outputs(judgement: Judgement, files: Mapping[str, Path]) -> None:
    """Write those of the forms `json`, `junit` and `markdown` that `files` names, each in one step.

    Raises `ArtifactError` when a file cannot be written; those before it stay, and none is half there.
    """
    forms = {
        "json": lambda: judgement.model_dump_json(indent=2) + "\n",
        "junit": lambda: render_suite(judgement.recipe, judgement.gates, judgement.notes),
        "markdown": lambda: render_judgement(judgement),
    }
    for form, path in files.items():
        _replace(path, forms[form]())


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        hint = "name a file in a folder that is there and that you may write to"
        raise ArtifactError(f"cannot write {path}: {error.strerror}", hint) from None


def _escape(text: str) -> str:
    """A command's message, by the rules of GitHub's toolkit: percent first, or it would be escaped twice."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
