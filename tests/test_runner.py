"""What a run says of its steps while it works through them."""

from pathlib import Path

import pytest

from artifact.config import Config
from artifact.stage import Stage
from pipeline.runner import run_step
from pipeline.stages import Step


class Nothing(Config):
    """A stage that is asked nothing."""


def write_step(out: Path, *, dies_after: str | None) -> Step:
    """Keeps `kept.txt` half-way; dies before it or after it, or ends well."""

    def work(directory: Path) -> dict[str, int]:
        if dies_after == "nothing":
            raise ZeroDivisionError
        (directory / "kept.txt").write_text("hours")
        if dies_after == "kept.txt":
            raise ZeroDivisionError
        return {}

    stage = Stage(name="write", version=1, kind="text", out=out, config=Nothing(), keeps=("kept.txt",))
    return Step("distill", out, (), lambda: (stage, work))


@pytest.mark.parametrize(("dies_after", "says"), [
    ("nothing", "begins again: what was interrupted had nothing yet to go on from"),
    ("kept.txt", "goes on"),
])  # fmt: skip
def test_a_run_says_whether_it_goes_on(tmp_path, capsys, dies_after, says):
    """Oracle: the lines that a user reads after a kill."""
    out = tmp_path / "a"
    with pytest.raises(ZeroDivisionError):
        run_step(write_step(out, dies_after=dies_after), force=False)
    assert capsys.readouterr().err.splitlines() == [f"· distill    {out} begins"]
    run_step(write_step(out, dies_after=None), force=False)
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"· distill    {out} {says}"
    assert last.startswith(f"✓ distill    {out}")
