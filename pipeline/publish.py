"""Puts a run's results where people read them: nobody types a number into a document."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from artifact.errors import ConfigError
from artifact.manifest import MANIFEST, open_artifact
from artifact.progress import say
from pipeline.gate import read_report
from pipeline.markdown import render_table

BEGIN, END = "<!-- results: begin, written by `make results` -->", "<!-- results: end -->"
COPIED = ("summary.md", "report.html", "report.json", "junit.xml")


def publish(reports: Sequence[Path], destination: Path, readme: Path | None) -> None:
    """Copy one sealed report, and the manifests of all it was made from, to `destination`; its table into `readme`.

    Raises `ConfigError` for more than one report or a file without the two marks, `ArtifactError` when what was
    sealed has changed.
    """
    if len(reports) != 1:
        raise ConfigError(f"--publish takes one report, found {len(reports)}")
    report, manifest = read_report(reports[0]), open_artifact(reports[0], "report")
    text = _with_table(readme, render_table(report)) if readme is not None else ""
    destination.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.copyfile(reports[0] / name, destination / name)
    sources = {"report": reports[0], **{name: reports[0] / origin.path for name, origin in manifest.lineage.items()}}
    for name, directory in sources.items():
        shutil.copyfile(directory / MANIFEST, destination / f"manifest-{name.replace(':', '-')}.json")
    if readme is not None:
        readme.write_text(text, encoding="utf-8")
    say(f"{len(COPIED)} files and {len(sources)} manifests are in {destination}")


def _with_table(readme: Path, table: str) -> str:
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ConfigError(f"{readme} has no place for the table", f"put these two lines into it: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
