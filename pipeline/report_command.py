"""`understudy report A B C`: several reports side by side, or one put where people read it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from artifact.errors import ArtifactError, ConfigError


def add_report_options(command: argparse.ArgumentParser) -> None:
    """The options of `understudy report`."""
    command.add_argument("directories", type=Path, nargs="+", metavar="DIR", help="report directories")
    command.add_argument("--html", type=Path, metavar="FILE", help="write the comparison as a page to this file")
    command.add_argument("--markdown", type=Path, metavar="FILE", help="write the Markdown there, not to stdout")
    command.add_argument("--publish", type=Path, metavar="DIR", help="copy the one report and all manifests there")
    command.add_argument("--readme", type=Path, metavar="FILE", help="with --publish: put the table into this file")


def report_from(options: argparse.Namespace) -> int:
    """Publish, or compare; raises `ConfigError` for both at once."""
    if options.publish is None:
        sys.stdout.write(compare(options.directories, html=options.html, markdown=options.markdown))
        return 0
    if options.html or options.markdown:
        raise ConfigError("--publish copies a report as it is", "leave out --html and --markdown, or --publish")
    from pipeline.publish import publish

    publish(options.directories, options.publish, options.readme)
    return 0


def compare(reports: Sequence[Path], *, html: Path | None = None, markdown: Path | None = None) -> str:
    """Markdown of several reports' candidates, listed under the paths given; empty when it went to a file.

    Nothing is written unless every report can be read. Raises `ArtifactError` when one of them is no report, or when
    a file cannot be written.
    """
    from pipeline.comparison import compare_reports
    from pipeline.gate import read_report
    from pipeline.markdown import render_comparison

    comparison = compare_reports({str(path): read_report(path) for path in reports})
    text = render_comparison(comparison)
    files = {markdown: text} if markdown else {}
    if html:
        from pipeline.comparison_page import render_comparison_page

        files[html] = render_comparison_page(comparison)
    for path, content in files.items():
        _write(path, content)
    return "" if markdown else text


def _write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error.strerror}", "name a file in a folder of yours") from None
